"""Writing pages: whole or not at all, and never over a file that is something else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from flopwatt.errors import InputError

PAGE_START: Final = b"<!doctype html>"


def check(output: Path) -> None:
    """Raises InputError where the output is something other than an earlier page: run files cannot be made again."""
    if output.is_dir():
        raise InputError(f"{output} is a folder: name a file with -o")
    try:
        with output.open("rb") as file:
            if file.read(len(PAGE_START)) not in (PAGE_START, b""):
                raise InputError(f"{output} exists and is not a report: choose another name for -o")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(f"{output}: {(error.strerror or str(error)).lower()}: choose another -o") from None


def write(path: Path, data: bytes) -> None:
    """A whole file or none. Raises InputError where it cannot be written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}: choose another place") from None
    finally:
        part.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """A folder for figures. Raises InputError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {(error.strerror or str(error)).lower()}: choose another --png") from None
