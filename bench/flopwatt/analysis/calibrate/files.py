"""Reading and writing calibration files: one JSON, checked number by number; a bad one is one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from flopwatt.analysis.calibrate.core import PARAMETERS, START, STRAY_MOST
from flopwatt.analysis.calibrate.features import FEATURES, SMOOTH_FEATURES
from flopwatt.analysis.calibrate.forest import Forest
from flopwatt.analysis.calibrate.plausible import facts_problem, growth_problem
from flopwatt.analysis.calibrate.power import POWER_COLUMNS, POWER_SMOOTH_COLUMNS
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.calibrate.records import FORMAT, SCHEMA_VERSION, CalibrationFile, Fitted, Interval95, Residual
from flopwatt.analysis.calibrate.residual import LOGARITHM_MOST
from flopwatt.analysis.calibrate.smooth import POINTS_MOST, Process
from flopwatt.errors import CalibrationError
from flopwatt.text import printable, shortened

MAX_BYTES: Final = 64 * 2**20
PRIORS_MOST: Final = 64
_NUMBER_MOST: Final = 1e15
_LENGTH_LEAST: Final = 1e-9
_ROUNDING: Final = 1e-6


class _Envelope(msgspec.Struct):
    format: str
    schema: int


def load_calibration(path: str | Path) -> Calibration:
    """The calibration in a file that `flopwatt calibrate` wrote; `predict` of it takes arrays.

    Reads numbers and names alone: nothing in the file is run. Raises CalibrationError, in one line, for a file that
    cannot be read, is damaged, or is none.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CalibrationError(f"{path}: {(error.strerror or str(error)).lower()}: give a calibration file") from None
    if len(data) > MAX_BYTES:
        raise CalibrationError(f"{path}: over {MAX_BYTES >> 20} MB, too large for a calibration file")
    return Calibration(_decoded(data, path))


def save(file: CalibrationFile, path: Path) -> None:
    """Writes a calibration file whole or not at all. Raises CalibrationError."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(msgspec.json.encode(file) + b"\n")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise CalibrationError(f"{path}: {(error.strerror or str(error)).lower()}: choose another -o") from None


def _decoded(data: bytes, path: Path) -> CalibrationFile:
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
        if envelope.format != FORMAT:
            raise CalibrationError(f"{path}: not a calibration file of flopwatt: write one with flopwatt calibrate")
        if envelope.schema > SCHEMA_VERSION:
            raise CalibrationError(
                f"{path}: schema {envelope.schema} is newer than this flopwatt reads ({SCHEMA_VERSION}): update it"
            )
        file = msgspec.json.decode(data, type=CalibrationFile)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        what = shortened(printable(" ".join(str(error).split())), 160)
        raise CalibrationError(
            f"{path}: damaged, or not a calibration file ({what}): write it again with flopwatt calibrate"
        ) from None
    problem = _problem(file)
    if problem:
        raise CalibrationError(f"{path}: damaged ({problem}): write it again with flopwatt calibrate")
    return file


def _problem(file: CalibrationFile) -> str | None:
    """Why the numbers of a file cannot be right; None if they can."""
    if not file.fitted:
        return "nothing was fitted"
    if len({one.dtype for one in file.fitted}) < len(file.fitted):
        return "a dtype occurs twice"
    return next(filter(None, map(_fitted_problem, file.fitted)), None)


def _fitted_problem(one: Fitted) -> str | None:
    lent = len(one.time.residual.transfers)
    columns, smooth = FEATURES + 2 * lent, SMOOTH_FEATURES + lent
    problem = facts_problem(one) or _core_problem(one.core) or ("too many priors" if lent > PRIORS_MOST else None)
    problem = problem or _residual_problem(one.time.residual, columns, smooth)
    problem = problem or _interval_problem(one.time.interval, columns)
    problem = problem or (growth_problem(one.growth) if one.growth is not None else None)
    power = columns + POWER_COLUMNS, smooth + POWER_SMOOTH_COLUMNS
    return problem or (_power_problem(one, *power) if one.power is not None else None)


def _power_problem(one: Fitted, columns: int, smooth: int) -> str | None:
    assert one.power is not None
    if one.energy_interval is None or one.limit_w is None or (one.idle_w or 0.0) > one.limit_w:
        return "power without limits"
    if one.power.residual.transfers:
        return "power with priors"
    problem = _residual_problem(one.power.residual, columns, smooth)
    return problem or _interval_problem(one.power.interval, columns) or _interval_problem(one.energy_interval, columns)


def _core_problem(core: tuple[float, ...]) -> str | None:
    good = len(core) == len(PARAMETERS) and (np.abs(np.asarray(core) - START) <= STRAY_MOST + _ROUNDING).all()
    return None if good else "parameters of the core"


def _residual_problem(residual: Residual, features: int, smooth: int) -> str | None:
    if not abs(residual.constant) <= LOGARITHM_MOST:
        return "a constant that is none"
    for lender in residual.transfers:
        problem = None if abs(lender.weight) <= 100 else "a weight that is none"
        problem = problem or _core_problem(lender.core) or _forest_problem(lender.trees, FEATURES)
        if problem:
            return problem
    problem = _process_problem(residual.process, smooth) if residual.process else None
    return problem or _forest_problem(residual.trees, features)


def _process_problem(process: Process, features: int) -> str | None:
    sizes = {len(process.offset), len(process.length), *map(len, process.points)}
    if sizes != {features} or len(process.points) != len(process.weight):
        return "a Gaussian process whose arrays do not fit together"
    if len(process.points) > POINTS_MOST:
        return "a Gaussian process of too many points"
    numbers = (*process.offset, *process.length, *process.weight, *(v for p in process.points for v in p))
    good = (
        all(abs(value) <= _NUMBER_MOST for value in numbers)
        and all(value >= _LENGTH_LEAST for value in process.length)
        and 0 <= process.variance <= _NUMBER_MOST
    )
    return None if good else "a Gaussian process with numbers that are none"


def _interval_problem(interval: Interval95, features: int) -> str | None:
    return (
        "an interval that is none" if interval.floor > interval.ceiling else _forest_problem(interval.spread, features)
    )


def _forest_problem(forest: Forest, features: int) -> str | None:
    if not 0 <= forest.scale <= 1:
        return "trees of a scale that is none"
    for tree in forest.trees:
        problem = tree.problem(features)
        if problem:
            return problem
        if not all(abs(value) <= LOGARITHM_MOST for value in tree.value):
            return "a tree's answer that is none"
        if not all(abs(value) <= _NUMBER_MOST for value in tree.threshold):
            return "a tree's threshold that is none"
    return None
