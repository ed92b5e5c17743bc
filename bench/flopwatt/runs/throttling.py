"""What held the clock down during the windows: clock-event bits at the polls, and the driver's own count of seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flopwatt.runs.samples import RawMeasurement, Window

REASON_SW_POWER_CAP: Final = 0x4
REASON_THERMAL: Final = 0x20 | 0x40
REASON_HW_SLOWDOWN: Final = 0x8 | 0x80
"""Clock-event bits of NVML's nvmlClocksEventReasons: software and hardware thermal slowdown; hardware slowdown of any
cause and the power brake, which need not be heat."""


def fraction_with(raw: RawMeasurement, bits: int) -> float | None:
    """Share of the polls inside the windows in which any of these clock-event bits was set; None if never readable."""
    if raw.power is None or not raw.power.reasons:
        return None
    hits = total = 0
    for t, reasons in zip(raw.power.t_ns, raw.power.reasons, strict=True):
        if reasons is not None and any(w.start_ns <= t < w.end_ns for w in raw.windows):
            total += 1
            hits += bool(reasons & bits)
    return hits / total if total else None


def thermal_violation_s(raw: RawMeasurement) -> float:
    """Seconds that heat held the clock down during the windows, by the driver's own count; 0 where unreadable."""
    if raw.slow is None or not raw.slow.thermal_violation_ns:
        return 0.0
    return sum(_rise(raw.slow.t_ns, raw.slow.thermal_violation_ns, window) for window in raw.windows) * 1e-9


def unseen_throttling(raw: RawMeasurement) -> str | None:
    """Why neither clock-event bits nor the driver's count of seconds were readable; None where one was, or unasked."""
    seen = raw.power is not None and any(bits is not None for bits in raw.power.reasons)
    counted = raw.slow is not None and any(value is not None for value in raw.slow.thermal_violation_ns)
    return None if seen or counted else raw.unreadable.get("reasons")


def _rise(t_ns: Sequence[int], values: Sequence[int | None], window: Window) -> int:
    """How far a count rose over a window, from its last reading before to its first one after, where there are such."""
    known = [(t, value) for t, value in zip(t_ns, values, strict=True) if value is not None]
    until = [value for t, value in known if t <= window.start_ns][-1:]
    inside = [value for t, value in known if window.start_ns < t < window.end_ns]
    since = [value for t, value in known if t >= window.end_ns][:1]
    spanned = [*until, *inside, *since]
    return max(0, spanned[-1] - spanned[0]) if spanned else 0
