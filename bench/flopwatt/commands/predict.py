"""`flopwatt predict`: a calibration file and shapes in, time, power and energy out, each with its interval."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flopwatt.analysis.calibrate.files import load_calibration
from flopwatt.analysis.calibrate.predictor import Calibration, Prediction
from flopwatt.analysis.formats import text_table
from flopwatt.analysis.report.calibration_words import doubts, name_of
from flopwatt.analysis.report.quantities import seconds, significant
from flopwatt.commands.data import csv_rows, json_array
from flopwatt.commands.words import one_of
from flopwatt.errors import InputError
from flopwatt.runs.suites.suite import parse_shape

FORMATS: Final = ("table", "csv", "json")
QUANTITIES: Final = ("time_s", "power_w", "energy_j")
COLUMNS: Final = (
    "m", "n", "k", "batch", "dtype", "layout",
    *(name + end for name in QUANTITIES for end in ("", "_low", "_high")), "extrapolated",
)  # fmt: skip
ROWS_MOST: Final = 500_000
"""Rows of one table: they are predicted together, and take 1.5 KB each."""

SHOWN_MOST: Final = 1_000
"""Rows shown as a table, which nobody reads to the end; the other formats hold them all."""


@dataclass(frozen=True, slots=True)
class Request:
    """The words of the command line. shapes: a CSV file. dtype: of shapes that name none."""

    calibration: Path
    shape: Sequence[str] = ()
    shapes: Path | None = None
    dtype: str | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """One GEMM asked for. layout: None for the one that was measured."""

    m: int
    n: int
    k: int
    batch: int
    dtype: str
    layout: str | None


def predict(request: Request, format: str, console: Console) -> int:
    """Predicts and prints rows in the order asked. Raises InputError, CalibrationError."""
    one_of("format", format, FORMATS)
    calibration = load_calibration(request.calibration)
    asked = list(asked_for(request.shape, request.shapes, request.dtype or usual(calibration)))
    if not asked:
        raise InputError("nothing to predict: give --shape MxNxK or --shapes FILE.csv")
    rows = rows_of(calibration, asked)
    if format == "table":
        _print_table(rows, calibration, console)
    else:
        write_rows(sys.stdout, rows, format)
    return 0


def write_rows(file: IO[str], rows: Sequence[dict[str, Any]], format: str) -> None:
    """Rows of `rows_of` as `csv` or `json`."""
    if format == "json":
        json_array(file, rows)
        file.write("\n")
    else:
        csv_rows(file, rows, COLUMNS, ())


def usual(calibration: Calibration) -> str:
    """The format to predict where none is named: bf16 where there is one."""
    return "bf16" if "bf16" in calibration.dtypes else calibration.dtypes[0]


def rows_of(calibration: Calibration, asked: Sequence[Asked]) -> list[dict[str, Any]]:
    """One row a GEMM, in the order asked, with COLUMNS; null where the calibration has no watts."""
    rows: list[dict[str, Any]] = [{}] * len(asked)
    groups: dict[tuple[str, str | None], list[int]] = {}
    for index, one in enumerate(asked):
        groups.setdefault((one.dtype, one.layout), []).append(index)
    for (dtype, layout), members in groups.items():
        sizes = [np.array([getattr(asked[i], name) for i in members]) for name in ("m", "n", "k", "batch")]
        found = calibration.predict(*sizes[:3], batch=sizes[3], dtype=dtype, layout=layout)
        shown = calibration.layout(calibration.fitted(dtype), layout)
        for position, index in enumerate(members):
            rows[index] = _row(asked[index], shown, found, position)
    return rows


def _row(one: Asked, layout: str, found: Prediction, position: int) -> dict[str, Any]:
    row: dict[str, Any] = {
        "m": one.m, "n": one.n, "k": one.k, "batch": one.batch, "dtype": one.dtype, "layout": layout,
    }  # fmt: skip
    for name in COLUMNS[6:-1]:
        values = getattr(found, name)
        row[name] = None if values is None else float(f"{values[position]:.6g}")
    row["extrapolated"] = bool(found.extrapolated[position])
    return row


def asked_for(shape: Sequence[str], shapes: Path | None, dtype: str) -> Iterator[Asked]:
    """The GEMMs of --shape and --shapes, in that order; dtype: of those that name none. Raises InputError."""
    for text in shape:
        problem = parse_shape(text, dtype=dtype)
        yield Asked(problem.m, problem.n, problem.k, problem.batch, dtype, None)
    if shapes is not None:
        yield from _from_csv(shapes, dtype)


def _from_csv(path: Path, dtype: str) -> Iterator[Asked]:
    lines = text_table.rows(path)
    header = text_table.checked_header(path, next(lines, (0, []))[1])
    missing = [name for name in ("m", "n", "k") if name not in header]
    if missing:
        raise InputError(f"{path}: no column {missing[0]!r}: write a CSV with columns m, n, k")
    for count, (number, cells) in enumerate(lines, start=1):
        if count > ROWS_MOST:
            raise InputError(f"{path}: more than {ROWS_MOST:,} rows: split it")
        yield _asked_of(dict(zip(header, cells, strict=False)), path, number, dtype)


def _asked_of(row: dict[str, str], path: Path, number: int, dtype: str) -> Asked:
    sizes = {}
    for name in ("m", "n", "k", "batch"):
        text = (row.get(name) or ("1" if name == "batch" else "")).strip()
        if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
            raise InputError(f"{path}, line {number}: {name} is {text[:40]!r}: write a positive whole number")
        sizes[name] = int(text)
    return Asked(**sizes, dtype=(row.get("dtype") or dtype).strip(), layout=(row.get("layout") or "").strip() or None)


def _print_table(rows: Sequence[dict[str, Any]], calibration: Calibration, console: Console) -> None:
    table = Table(
        title=Text(f"{name_of(calibration.file)}: predictions with 95 % intervals", style="bold"),
        title_justify="left", box=None, pad_edge=False, header_style="bold",
    )  # fmt: skip
    for name in ("M×N×K", "dtype", "layout", "time", "", "W", "", "J", "", ""):
        table.add_column(name, justify="left" if name in ("dtype", "layout") else "right", no_wrap=True)
    for row in rows[:SHOWN_MOST]:
        shape = "×".join(str(row[name]) for name in ("m", "n", "k"))
        shape = shape if row["batch"] == 1 else f"{row['batch']}× {shape}"
        cells = (cell for name in QUANTITIES for cell in _cells(row, name))
        table.add_row(shape, row["dtype"], row["layout"], *cells, "extrapolated" if row["extrapolated"] else "")
    console.print(table)
    if len(rows) > SHOWN_MOST:
        console.print(f"{len(rows) - SHOWN_MOST:,} more rows: --format csv or json has them all", markup=False)
    for line in doubts(calibration.file, {row["dtype"] for row in rows}):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(row: dict[str, Any], name: str) -> tuple[str, str]:
    """The value, and its interval."""
    write = seconds if name == "time_s" else lambda value: significant(value, 4)
    value, low, high = (row[name + end] for end in ("", "_low", "_high"))
    return write(value), f"{write(low)} to {write(high)}" if value is not None else ""
