"""What a reader must be told of a calibration, in the same words on a terminal and on the page."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from flopwatt.analysis.calibrate.records import CalibrationFile, Errors, Fitted
from flopwatt.analysis.report.quantities import significant
from flopwatt.text import printable, shortened


def name_of(file: CalibrationFile) -> str:
    """The GPU, and that it is none or that others measured it."""
    name = shortened(printable(file.gpu), 80)
    return name if file.origin in (None, "measured") else f"{name} ({file.origin})"


def held_out(one: Fitted) -> Iterator[tuple[str, Errors]]:
    """What was validated of a number format, by name."""
    for what, errors in (("time", one.errors_time), ("power", one.errors_power), ("energy", one.errors_energy)):
        if errors is not None:
            yield what, errors


def doubts(file: CalibrationFile, dtypes: Collection[str] | None = None) -> Iterator[str]:
    """What was not validated, one sentence each. dtypes: those asked about, None for all."""
    asked = [one for one in file.fitted if dtypes is None or one.dtype in dtypes]
    if blind := [one.dtype for one in asked if one.errors_time is None]:
        yield f"unvalidated: {', '.join(blind)} from published figures alone, no GEMM was measured"
    watts = [one for one in asked if one.errors_time is not None and one.power is not None and not one.power_points]
    if watts:
        names = ", ".join(one.dtype for one in watts)
        limits = " and ".join(dict.fromkeys(significant(one.limit_w) for one in watts))
        yield (
            f"unvalidated watts: {names} had too few rows with energy; watts and joules follow from the limit of "
            f"{limits} W and how busy the chip is"
        )
    if missing := [one.dtype for one in asked if one.power is None]:
        yield f"no watts: {', '.join(missing)} had too few rows with energy, and the power limit is unknown"


def left_out(file: CalibrationFile) -> Iterator[str]:
    """Rows that no fit used, and why."""
    for one in file.fitted:
        for reason, count in one.left_out.items():
            yield f"{one.dtype}: {count:,} row{'s' if count > 1 else ''} left out: {shortened(printable(reason), 160)}"
