"""`flopwatt calibrate`: run files in, a validated calibration file out, and how far off it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from flopwatt import __version__
from flopwatt.analysis.calibrate import files
from flopwatt.analysis.calibrate.records import CalibrationFile, Errors, Fitted, json_schema
from flopwatt.errors import InputError


@dataclass(frozen=True, slots=True)
class Request:
    """The words of the command line. priors: calibrations of other GPUs."""

    files: Sequence[Path]
    output: Path | None
    gpu: str | None = None
    priors: Sequence[Path] = ()
    backend: str | None = None
    regime: str | None = None
    inputs: str | None = None


def calibrate(request: Request, console: Console) -> int:
    """Fits, validates and writes. Raises InputError, RunFileError, CalibrationError, CalibrationRefused."""
    if request.output is None:
        raise InputError("calibrate writes a file: name it with -o CAL.json")
    if bool(request.files) == (request.gpu is not None):
        raise InputError("give run files, or --gpu NAME alone for a calibration from its spec sheet")
    file = _fitted(request)
    files.save(file, request.output)
    _show(file, console)
    console.print(f"written to {request.output}", highlight=False)
    return 0


def print_schema() -> int:
    """Prints the JSON Schema of a calibration file."""
    print(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
    return 0


def _fitted(request: Request) -> CalibrationFile:
    from flopwatt.analysis.calibrate import calibrating

    _need_learners()

    if request.gpu is not None:
        return calibrating.from_spec_sheet(request.gpu, __version__)
    wanted = calibrating.Wanted(request.backend, request.regime, request.inputs)
    priors = [files.load_calibration(path) for path in request.priors]
    return calibrating.calibrate(request.files, wanted, __version__, priors)


def _need_learners() -> None:
    if any(find_spec(name) is None for name in ("lightgbm", "sklearn", "scipy")):
        raise InputError("calibrate needs lightgbm and scikit-learn: pip install 'flopwatt[calibrate]'")


def _show(file: CalibrationFile, console: Console) -> None:
    console.print(
        f"{file.gpu}{': unvalidated, from its spec sheet alone' if file.unvalidated else ''}", highlight=False
    )
    table = Table(title="errors on (N, K) sites held out")
    for name in ("dtype", "of", "shapes", "MAPE %", "p90 %", "≥ 16 GFLOP %", "roofline %", "in the 95 % interval"):
        table.add_column(name, justify="left" if name in ("dtype", "of") else "right")
    for one in file.fitted:
        for what, errors in (("time", one.errors_time), ("power", one.errors_power), ("energy", one.errors_energy)):
            if errors is not None:
                table.add_row(one.dtype, what, *_cells(errors))
    if table.row_count:
        console.print(table)
    for one in file.fitted:
        _show_left_out(one, console)


def _show_left_out(one: Fitted, console: Console) -> None:
    for reason, count in one.left_out.items():
        console.print(f"{one.dtype}: {count} rows left out: {reason}", highlight=False, markup=False)


def _cells(errors: Errors) -> tuple[str, ...]:
    return (
        str(errors.count),
        f"{errors.mape:.1f}",
        f"{errors.p90:.1f}",
        "" if errors.mape_large is None else f"{errors.mape_large:.1f}",
        "" if errors.roofline_mape is None else f"{errors.roofline_mape:.1f}",
        f"{errors.coverage:.1%}",
    )
