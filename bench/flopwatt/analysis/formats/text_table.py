"""Comma-separated text read row by row, whatever the file holds: no type is guessed and no line fills the memory."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TextIO

from flopwatt.errors import InputError
from flopwatt.text import printable, shortened

LINE_MOST: Final = 2**20
"""Characters of the longest line read."""


def rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number of its last line and cells of each row that is not empty.

    Raises InputError for a file that cannot be read, is not UTF-8, or is not comma-separated text.
    """
    try:
        if path.exists() and not path.is_file():
            raise InputError(f"{path}: not a regular file: give the path of a CSV file")
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(_lines(file, path), strict=True)
            for cells in reader:
                if any(cells):
                    yield reader.line_num, cells
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text: give a CSV file") from None
    except csv.Error as error:
        raise InputError(f"{path}: line {reader.line_num}: {error}: not a whole CSV file") from None
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}: give the path of a CSV file") from None


def checked_header(path: Path, header: list[str]) -> list[str]:
    """The column names. Raises InputError where one is there twice."""
    names = [name.strip() for name in header]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: column {shown(twice)} is there twice: remove one of them")
    return names


def check_width(path: Path, line: int, cells: list[str], header: list[str]) -> None:
    """Raises InputError for a row with more or fewer cells than the header."""
    if len(cells) != len(header):
        raise InputError(
            f"{path}: line {line} has {len(cells)} cells, the header {len(header)}: the file is cut off or was altered"
        )


def shown(text: str) -> str:
    """A cell's text as it may stand in a message."""
    return repr(shortened(printable(text), 60))


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    while line := file.readline(LINE_MOST + 1):
        if len(line) > LINE_MOST:
            raise InputError(f"{path}: a line of over {LINE_MOST} characters: not a CSV file of measurements")
        yield line
