"""Data for other programs, written row by row so that a large table is never held whole."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

import msgspec

FORMULA_STARTS: Final = frozenset("=+-@\t\r")
"""What a spreadsheet takes for the beginning of a formula, which can fetch and run things."""


def csv_rows(file: IO[str], rows: Iterable[Mapping[str, Any]], columns: Sequence[str], text: Iterable[str]) -> None:
    """CSV with a header; what a row lacks of `columns` is empty, and it has no others.

    text: the columns that may hold words of a file.

    Words that a spreadsheet would take for a formula get an apostrophe in front. JSON and Parquet, which no program
    runs, hold them as they are.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    words, empty = tuple(text), dict.fromkeys(columns)
    for row in rows:
        cells = {**empty, **row}
        for name in words:
            word = cells[name]
            if word and word[0] in FORMULA_STARTS:
                cells[name] = f"'{word}"
        writer.writerow(cells.values())


def json_array(file: IO[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSON array with one row a line."""
    separator = "["
    for row in rows:
        file.write(f"{separator}\n{_encoder.encode(row).decode()}")
        separator = ","
    file.write("[]" if separator == "[" else "\n]")


def once(files: Iterable[Path]) -> list[Path]:
    """The files without repetition: one given twice would count twice."""
    return list({os.path.realpath(path): path for path in files}.values())  # unlike Path.resolve, bears loops of links


_encoder = msgspec.json.Encoder()
