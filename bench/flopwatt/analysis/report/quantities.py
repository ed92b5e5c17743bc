"""Numbers as people read them: three digits, a unit that fits, a dash where nothing was measured."""

from __future__ import annotations

import math
from typing import Final

DASH: Final = "–"
"""What a cell holds when the quantity was not measured; the reason stands under the table."""


def significant(value: float | None, digits: int = 3) -> str:
    """Three significant digits, never in exponent notation: 0.0412, 1.23, 45.6, 789."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{places}f}"


def seconds(value: float | None) -> str:
    """A duration in the unit that keeps it between 1 and 1000."""
    if value is None:
        return DASH
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if value >= size:
            return f"{significant(value / size, 4)} {unit}"
    return f"{significant(value / 1e-9, 4)} ns"


def percent(value: float | None, low: float | None, high: float | None) -> str:
    """Half the interval in percent of the value."""
    if value is None or low is None or high is None or not value:
        return DASH
    half = (high - low) / 2 / value * 100
    return f"{half:.0f} %" if half >= 10 else f"{half:.1f} %" if half >= 1 else f"{half:.2f} %"
