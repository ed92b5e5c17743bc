"""What every import shares: one row of somebody's table, why a row is left out, and numbers read with care."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, TypeAlias

from flopwatt.runs import gpus
from flopwatt.runs.records import ENERGY_USABLE, Case, EnergyStatus, Status, Use
from flopwatt.runs.samples import AggregateMeasurement
from gemmkernels.problem import MAX_DIMENSION, Problem, ProblemError

TIME_LEAST_S: Final = 1e-9
TIME_MOST_S: Final = 1e6
POWER_LEAST_W: Final = 1e-6
POWER_MOST_W: Final = 1e5
NUMBER_MOST: Final = 1e18
"""Outside these a number is a slip of a unit, not a measurement of one GEMM on one board."""

TEXT_MOST: Final = 200
"""Characters of a name that is kept; a longer one is not a name."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where rows come from, as far as their table tells: GPU by its driver's name, software, the board and its state.

    idle_w, gain_uncertainty: of the board and its power sensor, where a table from flopwatt carries them.
    """

    gpu: str
    versions: tuple[tuple[str, str], ...] = ()
    board_id: str | None = None
    idle_w: float | None = None
    gain_uncertainty: float | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One case of a foreign table, with all the uses that its rows name. rows: how many rows it stands for."""

    machine: Machine
    case: Case
    status: Status = "ok"
    reason: str | None = None
    measurement: AggregateMeasurement | None = None
    energy_status: EnergyStatus = "unsupported"
    energy_reason: str | None = None
    uses: tuple[Use, ...] = ()
    process: int = 0
    settings: Mapping[str, str] = field(default_factory=dict)
    rows: int = 1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not imported, and why."""

    reason: str


Found: TypeAlias = Entry | LeftOut


@dataclass(frozen=True, slots=True)
class Table:
    """A foreign table that could be opened: what comes out of it, where it is from, under which licence."""

    rows: Iterator[Found]
    source: str
    licence: str | None = None


class BadValue(ValueError):
    """A cell that holds no usable value; the message is the reason to leave its row out."""


def make_problem(m: int, n: int, k: int, **fields: Any) -> Problem:
    """A Problem; fields as its own. Raises BadValue for sizes or names that no GEMM of a run file has."""
    if not all(1 <= size <= MAX_DIMENSION for size in (m, n, k, fields.get("batch", 1))):
        raise BadValue(f"a size outside 1 to {MAX_DIMENSION}")
    try:
        return Problem(m, n, k, **fields)
    except ProblemError:
        raise BadValue("formats or sizes that a run file cannot hold together") from None


def whole(value: object, name: str) -> int:
    """A whole number from a number or its text, `4096.0` included. Raises BadValue for anything else."""
    number = _number(value, name)
    if number is None or not number.is_integer() or abs(number) > 2**53:
        raise BadValue(f"{name} is not a whole number")
    return int(number)


def real(value: object, name: str) -> float | None:
    """A finite number from a number or its text; None where the cell is empty. Raises BadValue."""
    return _number(value, name)


def nonnegative(value: object, name: str) -> float | None:
    """0, or a number from 10⁻¹⁸ to 10¹⁸; None where the cell is empty. Raises BadValue."""
    number = _number(value, name)
    if number and not 1 / NUMBER_MOST <= number <= NUMBER_MOST:
        raise BadValue(f"{name} is negative, absurdly small or absurdly large")
    return number


def seconds(value: object, name: str, unit_s: float = 1.0) -> float:
    """A duration in seconds of a cell in units of `unit_s`. Raises BadValue outside 1 ns to 10⁶ s."""
    number = _number(value, name)
    if number is None:
        raise BadValue(f"{name} is empty")
    if not TIME_LEAST_S <= number * unit_s <= TIME_MOST_S:
        raise BadValue(f"{name} is outside 1 ns to 10⁶ s")
    return number * unit_s


def watts(value: object, name: str) -> float | None:
    """A power in W; None where the cell is empty. Raises BadValue outside 1 µW to 100 kW."""
    number = _number(value, name)
    if number is not None and not POWER_LEAST_W <= number <= POWER_MOST_W:
        raise BadValue(f"{name} is outside 0 to 100 kW")
    return number


def label(value: object, name: str) -> str | None:
    """A name or word, as it stands; None where the cell is empty. Raises BadValue for one that is too long."""
    if value is None or value == "":
        return None
    text = str(value)
    if len(text) > TEXT_MOST:
        raise BadValue(f"{name} is longer than {TEXT_MOST} characters")
    return text


def judge_power(
    measurement: AggregateMeasurement, stated: EnergyStatus | None = None
) -> tuple[EnergyStatus, str | None]:
    """The energy status of imported watts: refused unless they are the mean over a window known and long enough.

    stated: the status that the table itself gives; without one, nobody vouches for the sensor.
    """
    if measurement.power_w is None:
        return "unsupported", "the table has no watts"
    refusal = measurement.why_no_watts
    if refusal is not None:
        return "refused", refusal
    if stated is None:
        return "unidentified", "the table does not say what is known of the power sensor"
    return stated, None if stated in ENERGY_USABLE else "as the table says"


@lru_cache(maxsize=256)
def resolve_gpu(name: str) -> str:
    """The driver's name of a GPU given by any of its names; the name itself for a GPU without published figures."""
    plain = name.strip()
    spec = gpus.find(plain) or next((one for one in gpus.specs() if one.name.casefold() == plain.casefold()), None)
    return spec.nvml_names[0] if spec else plain


def _number(value: object, name: str) -> float | None:
    """A finite float; None for an empty cell. Thousands separators are refused: 1,234 may be 1.234 elsewhere."""
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadValue(f"{name} is not a number")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise BadValue(f"{name} is not a number") from None
    if isinstance(value, str) and "_" in value:  # float() reads 1_000, tables do not mean it
        raise BadValue(f"{name} is not a number")
    if not math.isfinite(number):
        raise BadValue(f"{name} is not finite")
    return number
