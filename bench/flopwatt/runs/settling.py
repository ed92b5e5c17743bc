"""What a window is off by that began before the chip had warmed through; from its temperatures. Pure arithmetic.

Waiting costs minutes, so the least effort does not wait: a case follows one that drew other power, and its own
temperature is still on the way. Leakage follows temperature. Below the power cap that shows as watts; at the cap the
clock gives way instead, and it shows as time. An exponential approach has as much left to go as its time constant times
its slope, and so the slope bounds what the window missed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.throttling import REASON_SW_POWER_CAP, fraction_with

LEAKAGE_PER_C: Final = 1e-3
"""Relative change of board power a °C: half of it is usual; an allowance, not a correction."""

WARMING_S: Final = 10.0
"""Time constant of chip and heat sink."""

CLOCK_PER_POWER: Final = 0.5
"""Relative change of clock, and so of time, for one of power: power rises with clock at least squared."""

UNSEEN_C_PER_S: Final = 3.0
"""How fast temperature is taken to move where it was neither waited for nor readable (flag `warming_unseen`): a chip
that has 35 °C to go, with that time constant, does so a second and a half into its load."""


class Allowance(NamedTuple):
    """Relative half-widths for temperature that still moved in the windows; 0 where it stood or is unknown."""

    time: float = 0.0
    power: float = 0.0
    energy: float = 0.0


def allowance(raw: RawMeasurement) -> Allowance:
    """What the windows' moving temperature may have hidden from each quantity."""
    watts = LEAKAGE_PER_C * WARMING_S * _slope(raw)
    if not watts:
        return Allowance()
    capped = fraction_with(raw, REASON_SW_POWER_CAP)  # None, unreadable: it may be either
    power = watts if capped is None or capped < 1 else 0.0
    time = watts * CLOCK_PER_POWER if capped is None or capped > 0 else 0.0
    return Allowance(time, power, max(power, time))


def _slope(raw: RawMeasurement) -> float:
    """°C a second, of the load whose temperature moved fastest.

    Temperature comes in whole degrees: one step midway fits 1.5 °C over the trace, of a rise that was 0 to 2. Nothing
    is taken off for that: in a trace of 2 s it may be real and hide more than all else, in one of 10 s it costs little.
    """
    if "warming_unseen" in raw.flags:
        return UNSEEN_C_PER_S
    slopes = [0.0]
    if raw.power is None or not raw.power.temp_c:
        return 0.0
    for load in {window.load for window in raw.windows}:
        start_ns, end_ns = raw.loads[load].t_ns[0], max(w.end_ns for w in raw.windows if w.load == load)
        polls = zip(raw.power.t_ns, raw.power.temp_c, strict=True)
        seen = [(t * 1e-9, temp_c) for t, temp_c in polls if temp_c is not None and start_ns <= t <= end_ns]
        if len(seen) > 2 and seen[-1][0] > seen[0][0]:
            t_s, temp_c = np.array(seen, dtype=float).T
            t_s -= t_s.mean()
            slopes.append(abs(float(t_s @ (temp_c - temp_c.mean())) / float(t_s @ t_s)))
    return max(slopes)
