"""Files that commands write: what may be written where, and each complete under its name or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flopwatt.errors import InputError
from flopwatt.text import plain


def check_output(path: Path) -> None:
    """Raises InputError where `path` cannot become a new file. Creates nothing."""
    try:
        exists, is_folder = path.exists(), path.is_dir()
    except OSError as error:
        raise InputError(f"{path}: {plain(error)}: choose another -o") from None
    if is_folder:
        raise InputError(f"{path} is a folder: name a file with -o")
    if exists:
        raise InputError(f"{path} exists: choose another name for -o, or continue it with --resume {path}")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist: create it, or choose another -o")


def refuse_input(output: Path | None, inputs: Iterable[Path]) -> None:
    """Raises InputError where writing `output` would replace one of the run files it is made from."""
    if output is None or not output.exists():
        return
    for path in inputs:
        if path.exists() and output.samefile(path):
            raise InputError(f"{output} is what is read: choose another -o")


@contextmanager
def whole(output: Path, word: str = "-o") -> Iterator[Path]:
    """A path to write to, whose file takes the place of `output` when the block ends well; else nothing is left of it.

    A device or pipe is written to as it is. word: of the command line, which names the output. Raises InputError where
    it cannot be written.
    """
    try:
        if output.exists() and not output.is_file():
            yield output
            return
        target = Path(os.path.realpath(output))
        part = target.with_name(f".flopwatt-{os.getpid()}.part")
        try:
            yield part
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{output}: {plain(error)}: choose another {word}") from None
