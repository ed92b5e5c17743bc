"""`flopwatt calibrate`: run files in, a validated calibration file out, and how far off it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flopwatt import __version__
from flopwatt.analysis.calibrate import files
from flopwatt.analysis.calibrate.records import CalibrationFile, Errors, json_schema
from flopwatt.analysis.calibrate.residual import LEARNED_LEAST
from flopwatt.analysis.report.calibration_words import doubts, held_out, left_out, name_of
from flopwatt.errors import InputError
from flopwatt.text import printable


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
    if request.priors:
        _show_priors(file, console)
    console.print(f"written to {printable(str(request.output))}", highlight=False, markup=False, soft_wrap=True)
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
    table = Table(
        title=Text(f"{name_of(file)}: errors on (N, K) sites held out", style="bold"),
        title_justify="left", box=None, pad_edge=False, header_style="bold",
    )  # fmt: skip
    for name in ("dtype", "of", "shapes", "MAPE", "p90", "≥ 16 GFLOP", "a roofline's", "in 95 % interval"):
        table.add_column(name, justify="left" if name in ("dtype", "of") else "right", no_wrap=True)
    for one in file.fitted:
        for what, errors in held_out(one):
            table.add_row(one.dtype, what, *_cells(errors))
    if table.row_count:
        console.print(table)
    for line in (*doubts(file), *left_out(file)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _show_priors(file: CalibrationFile, console: Console) -> None:
    for one in file.fitted:
        names = [printable(lent.gpu) for lent in one.time.residual.transfers]
        few = one.points < LEARNED_LEAST
        why = f"fewer than {LEARNED_LEAST} points" if few else "points are enough, or the prior has no such format"
        said = f"learned from {' and '.join(names)} too" if names else f"no prior taught it anything: {why}"
        console.print(f"{one.dtype}: {said}", markup=False, highlight=False, soft_wrap=True)


def _cells(errors: Errors) -> tuple[str, ...]:
    off = (errors.mape, errors.p90, errors.mape_large, errors.roofline_mape)
    return (
        f"{errors.count:,}",
        *("" if one is None else f"{one:.1f} %" for one in off),
        f"{errors.coverage * 100:.1f} %",
    )
