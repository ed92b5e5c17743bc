"""A run file written in one go: complete under its name, or not there at all."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from flopwatt.errors import RunFileError
from flopwatt.runs.growing_file import sync_folder
from flopwatt.runs.records import Line, encode
from flopwatt.text import plain


def write_whole(path: Path, lines: Iterable[Line]) -> None:
    """Writes the lines to a file beside `path`, fsyncs it and gives it its name. An exception leaves nothing behind.

    Raises RunFileError where `path` exists already, also if it came to be meanwhile, or cannot be written.
    """
    if path.exists():
        raise RunFileError(_exists(path))
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise RunFileError(f"{path}: {plain(error)}: choose a path that can be written with -o") from None
    try:
        with os.fdopen(descriptor, "wb", buffering=2**20) as file:
            for line in lines:
                file.write(encode(line))
                file.write(b"\n")
            file.flush()
            os.fsync(file.fileno())
        _name(part, path)
    except OSError as error:
        raise RunFileError(f"{path}: {plain(error)}: nothing was written; choose another -o") from None
    finally:
        part.unlink(missing_ok=True)


def _name(part: Path, path: Path) -> None:
    """Gives the file its name without ever replacing another's, and makes the name itself durable."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise RunFileError(_exists(path)) from None
    except OSError:  # a filesystem without hard links
        if path.exists():
            raise RunFileError(_exists(path)) from None
        part.rename(path)
    sync_folder(path)


def _exists(path: Path) -> str:
    return f"{path} exists: choose another name for -o"
