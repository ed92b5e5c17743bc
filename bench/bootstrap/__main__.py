"""`python3 -m bootstrap measure`: what `make run` needs; `measure,fleet`: what `make fleet` needs; `dev`: what the
tests need; `consumers`: beside it, the cost models that the slow tests run; `remove`: deletes all of it again.

Environment variables: PYTHON names the interpreter to build on, VENV the folder (.venv).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from pathlib import Path
from typing import Iterator  # noqa: UP035 -- `collections.abc.Iterator[...]` needs Python 3.9

from bootstrap.consumers import beside, build_consumers
from bootstrap.environment import ROOT, build, remove
from bootstrap.interpreters import Stop, say


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Keeps two makes from building the same environment; needs no file of its own."""
    with Path(__file__).open() as own_source:
        with contextlib.suppress(OSError):  # a network file system may not lock: then nothing is guarded
            fcntl.flock(own_source, fcntl.LOCK_EX)
        yield


def main(arguments: list[str]) -> int:
    """Exit code: 0 ready, 2 a person must do something first, 130 on Ctrl-C."""
    if len(arguments) != 1 or arguments[0] not in ("measure", "measure,fleet", "dev", "consumers", "remove"):
        print(__doc__, file=sys.stderr)
        return 2
    venv = ROOT / (os.environ.get("VENV") or ".venv")
    try:
        with one_at_a_time():
            if arguments[0] == "remove":
                remove(venv)
                remove(beside(venv))
            elif arguments[0] == "consumers":
                build_consumers(venv)
            else:
                build(arguments[0], venv, os.environ.get("PYTHON") or None)
    except Stop as stop:
        say(str(stop))
        return 2
    except KeyboardInterrupt:
        say("interrupted; the same command starts over")
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
