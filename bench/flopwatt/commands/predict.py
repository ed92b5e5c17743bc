"""`flopwatt predict`: a calibration file and shapes in, time, power and energy out, each with its interval."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from flopwatt.analysis.calibrate.files import load_calibration
from flopwatt.analysis.calibrate.predictor import Calibration, Prediction
from flopwatt.errors import InputError
from flopwatt.runs.suites.suite import parse_shape

FORMATS: Final = ("table", "csv", "json")
QUANTITIES: Final = ("time_s", "power_w", "energy_j")
COLUMNS: Final = (
    "m", "n", "k", "batch", "dtype", "layout",
    *(name + end for name in QUANTITIES for end in ("", "_low", "_high")), "extrapolated",
)  # fmt: skip
ROWS_MOST: Final = 10_000_000


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
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    calibration = load_calibration(request.calibration)
    asked = list(_asked(request, request.dtype or _usual(calibration)))
    if not asked:
        raise InputError("nothing to predict: give --shape MxNxK or --shapes FILE.csv")
    rows = rows_of(calibration, asked)
    if format == "json":
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode() + "\n")
    elif format == "csv":
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        _print_table(rows, calibration, console)
    return 0


def _usual(calibration: Calibration) -> str:
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


def _asked(request: Request, dtype: str) -> Iterator[Asked]:
    for text in request.shape:
        problem = parse_shape(text, dtype=dtype)
        yield Asked(problem.m, problem.n, problem.k, problem.batch, dtype, None)
    if request.shapes is not None:
        yield from _from_csv(request.shapes, dtype)


def _from_csv(path: Path, dtype: str) -> Iterator[Asked]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in ("m", "n", "k") if name not in (reader.fieldnames or ())]
            if missing:
                raise InputError(f"{path}: no column {missing[0]!r}: write a CSV with columns m, n, k")
            for number, row in enumerate(reader, start=2):
                if number > ROWS_MOST:
                    raise InputError(f"{path}: more than {ROWS_MOST} rows: split it")
                yield _asked_of(row, path, number, dtype)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: {what.lower()}: give a CSV with columns m, n, k") from None


def _asked_of(row: dict[str, str | None], path: Path, number: int, dtype: str) -> Asked:
    sizes = {}
    for name in ("m", "n", "k", "batch"):
        text = (row.get(name) or ("1" if name == "batch" else "")).strip()
        if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < 1:
            raise InputError(f"{path}, line {number}: {name} is {text[:40]!r}: write a positive whole number")
        sizes[name] = int(text)
    return Asked(**sizes, dtype=(row.get("dtype") or dtype).strip(), layout=(row.get("layout") or "").strip() or None)


def _print_table(rows: Sequence[dict[str, Any]], calibration: Calibration, console: Console) -> None:
    remark = ", unvalidated" if calibration.file.unvalidated else ""
    table = Table(title=f"{calibration.file.gpu}{remark}: predictions with 95 % intervals")
    for name in ("GEMM", "dtype", "layout", "time (µs)", "power (W)", "energy (J)", ""):
        table.add_column(name, justify="right" if "(" in name else "left")
    for row in rows:
        shape = "x".join(str(row[name]) for name in (("batch",) if row["batch"] > 1 else ()) + ("m", "n", "k"))
        cells = (_between(row, name, scale) for name, scale in (("time_s", 1e6), ("power_w", 1.0), ("energy_j", 1.0)))
        table.add_row(shape, row["dtype"], row["layout"], *cells, "extrapolated" if row["extrapolated"] else "")
    console.print(table)


def _between(row: dict[str, Any], name: str, scale: float) -> str:
    if row[name] is None:
        return ""
    value, low, high = (row[name + end] * scale for end in ("", "_low", "_high"))
    return f"{value:.4g} ({low:.4g} to {high:.4g})"
