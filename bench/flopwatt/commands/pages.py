"""Writing pages: whole or not at all, and never over a file that is something else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from flopwatt import __version__
from flopwatt.analysis.report.page import plotting
from flopwatt.analysis.report.page.figure import Figure
from flopwatt.commands.writing import whole
from flopwatt.errors import InputError
from flopwatt.text import plain

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
        raise InputError(f"{output}: {plain(error)}: choose another -o") from None


def write(output: Path, data: bytes) -> None:
    """A whole file or none. Raises InputError where it cannot be written."""
    with whole(output) as path:
        path.write_bytes(data)


def write_figures(folder: Path, figures: Sequence[Figure], subtitle: str) -> None:
    """The figures as PNG. subtitle: what stands below each title. Raises InputError."""
    for figure in figures:
        with whole(folder / f"{figure.name}.png", "--png") as path:
            path.write_bytes(plotting.png(figure, subtitle))


def make_folder(folder: Path) -> None:
    """A folder for figures. Raises InputError where it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {plain(error)}: choose another --png") from None


def made() -> str:
    """Which flopwatt makes a page, and when."""
    return f"flopwatt {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
