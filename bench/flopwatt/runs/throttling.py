"""What held the clock down during the windows: clock-event bits at the polls, and the driver's own count of seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flopwatt.runs.records import RawMeasurement, Window

REASON_SW_POWER_CAP: Final = 0x4
REASON_THERMAL: Final = 0x8 | 0x20 | 0x40
"""Clock-event bits: hardware slowdown, software thermal, hardware thermal (NVML's nvmlClocksEventReasons)."""


def fraction_with(raw: RawMeasurement, bits: int) -> float | None:
    """Share of the polls inside the windows in which any of these clock-event bits was set; None if never readable."""
    if raw.power is None or not raw.power.reasons:
        return None
    hits = total = 0
    for t, reasons in zip(raw.power.t_ns, raw.power.reasons, strict=True):
        if reasons is not None and any(w.start_ns <= t <= w.end_ns for w in raw.windows):
            total += 1
            hits += bool(reasons & bits)
    return hits / total if total else None


def thermal_violation_s(raw: RawMeasurement) -> float:
    """Seconds that heat held the clock down during the windows, by the driver's own count; 0 where unreadable."""
    if raw.slow is None or not raw.slow.thermal_violation_ns:
        return 0.0
    return sum(_rise(raw.slow.t_ns, raw.slow.thermal_violation_ns, window) for window in raw.windows) * 1e-9


def _rise(t_ns: Sequence[int], values: Sequence[int | None], window: Window) -> int:
    """How far a count rose between its readings inside a window."""
    inside = [v for t, v in zip(t_ns, values, strict=True) if v is not None and window.start_ns <= t <= window.end_ns]
    return max(0, inside[-1] - inside[0]) if inside else 0
