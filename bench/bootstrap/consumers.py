"""The environment in which tests run other people's cost models: their packages, over those of the dev environment.

Apart from it, so that their pins never decide what flopwatt is tested with.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from bootstrap.environment import PIP_FAILED, read_marker, remove, write_marker
from bootstrap.interpreters import Stop, ask, clean_environment, say

PINS = Path(__file__).with_name("consumers.txt")
SITE_PROBE = "import json, sysconfig; print(json.dumps({'site': sysconfig.get_path('purelib')}))"


def beside(dev: Path) -> Path:
    """Where it lies: beside the dev environment."""
    return dev.with_name(dev.name + "-consumers")


def build_consumers(dev: Path) -> None:
    """Makes it on top of `dev`, unless it is there and was made from the same pins. Raises Stop."""
    venv = beside(dev)
    site = ask(dev / "bin" / "python", SITE_PROBE, timeout_s=60)
    if site is None:
        raise Stop(f"{dev} is no environment that starts: `make test` makes it")
    digest = hashlib.sha256(PINS.read_bytes() + Path(__file__).read_bytes() + site["site"].encode()).hexdigest()
    whole = read_marker(venv).get("inputs") == digest and ask(venv / "bin" / "python", SITE_PROBE, timeout_s=60)
    if whole:
        return
    say(f"making {venv}: the cost models that exports are tested with")
    remove(venv)
    venv.mkdir(parents=True)
    write_marker(venv, state="installing")
    python = str(venv / "bin" / "python")
    _run([str(dev / "bin" / "python"), "-m", "venv", "--prompt", "consumers", str(venv)], f"{venv} could not be made")
    own = ask(python, SITE_PROBE, timeout_s=60)
    if own is None:
        raise Stop(f"{python} does not start: `make clean`, then the same command again")
    # Appended, so that what is pinned here comes first.
    (Path(own["site"]) / "dev.pth").write_text(f"import site; site.addsitedir({site['site']!r})\n")
    _run([python, "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(PINS)], PIP_FAILED)
    write_marker(venv, state="ready", inputs=digest)


def _run(command: list[str], complaint: str) -> None:
    done = subprocess.run(command, env=clean_environment(), stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise Stop(complaint)
