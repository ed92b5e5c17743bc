"""Rhythms in what a sensor shows: the instants at which a value changed, and the period they keep. Pure arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from flopwatt.runs.samples import CounterTrace, PowerTrace
from flopwatt.runs.sensor_response import FloatArray

S: Final = 1e-9

CHANGES_LEAST: Final = 20
"""Changes that a rhythm is told from: their instants then fix the period to well under 1 %."""

BRACKET_MOST: Final = 1 / 6
"""A period under six brackets (the uncertainty of an instant): changes may be miscounted, or hide between readings."""

WIDE: Final = 1.5
SLOWER_THAN_READINGS: Final = 1.2
"""Slow readings: a bracket so much wider than usual may hide a change, as may a period so little longer."""

IN_STEP: Final = 0.15
IN_STEP_SHARE: Final = 0.8
"""A spacing is in step that lies this close to a whole number of periods; fewer in step are no rhythm."""

PERIOD_ERROR: Final = 0.005
"""Relative standard error of a period at most: a quarter of the 2 % that the beat test rests on."""


class Unidentified(Exception):
    """A quantity cannot be told; the message says why."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Instants at which a value changed (s), the width of the bracket around each, and the value changed to."""

    t_s: FloatArray
    width_s: FloatArray
    value: FloatArray

    def after(self, t_s: float) -> Changes:
        """Those later than an instant."""
        later = self.t_s > t_s
        return Changes(self.t_s[later], self.width_s[later], self.value[later])


def changes(power: PowerTrace | None, quantity: str) -> Changes | None:
    """When a quantity of a dense trace changed; None where it was never read. Readings of 0 W are faults: left out."""
    values = getattr(power, quantity) if power is not None else ()
    readings = [(t, v) for t, v in zip(power.t_ns, values, strict=True) if v] if power is not None and values else []
    if not readings:
        return None
    t, v = np.array(readings, dtype=np.float64).T
    at = np.nonzero(np.diff(v))[0]
    return Changes((t[at] + t[at + 1]) / 2 * S, (t[at + 1] - t[at]) * S, v[at + 1])


def counter_changes(counter: CounterTrace | None) -> Changes | None:
    """The counter's edges; the first entry is a reading, not an edge."""
    if counter is None or len(counter.t_ns) < 2:
        return None
    before, after = (np.array(t[1:], dtype=np.float64) for t in (counter.before_ns, counter.t_ns))
    return Changes((before + after) / 2 * S, (after - before) * S, np.array(counter.energy_mj[1:], dtype=np.float64))


def period(seen: Changes) -> float:
    """Seconds between changes that keep a rhythm; some may be missing (a stale reading). Raises Unidentified."""
    if len(seen.t_s) < CHANGES_LEAST:
        raise Unidentified(f"{len(seen.t_s)} changes seen, {CHANGES_LEAST} are needed")
    gaps = np.diff(seen.t_s)
    bracket = float(np.median(seen.width_s))
    if bracket > BRACKET_MOST * float(np.median(gaps)):
        return _slope(*_counted(seen))
    # Missed changes make gaps of two periods and more: the shortest usual gap is one.
    one = float(np.percentile(gaps, 15))
    one = float(np.median(gaps[np.abs(gaps - one) < 0.25 * one]))
    steps = np.maximum(np.rint(gaps / one), 1)
    one = float((gaps[steps < 10].sum()) / steps[steps < 10].sum())
    steps = np.maximum(np.rint(gaps / one), 1)
    in_step = np.abs(gaps / one - steps) < np.maximum(IN_STEP, 2 * bracket / one)
    if float(in_step.mean()) < IN_STEP_SHARE:
        raise Unidentified(f"changes keep no rhythm: {in_step.mean():.0%} of their spacings are multiples of one")
    return _slope(np.concatenate([[0.0], np.cumsum(steps)]), seen.t_s)


def on_rhythm(seen: Changes) -> Changes:
    """The changes at the instants that their rhythm gives them. Raises Unidentified where they keep none."""
    number, t_s = _counted(seen)
    instants: FloatArray = np.polyval(np.polyfit(number, t_s, 1), number).astype(np.float64)
    return Changes(instants, seen.width_s[-len(number) :], seen.value[-len(number) :])


def _counted(seen: Changes) -> tuple[FloatArray, FloatArray]:
    """Numbers and instants of changes from readings hardly faster than updates, whose spacings alone tell too little.

    The first ones are counted; each later one takes the number that the rhythm so far gives it. Those up to a wide
    bracket, as while the rate of reading was being found, are left out. Raises Unidentified.
    """
    bracket = float(np.median(seen.width_s))
    wide = np.nonzero(seen.width_s > WIDE * bracket)[0]
    t_s = seen.t_s[wide[-1] + 1 if len(wide) else 0 :]
    if len(t_s) < CHANGES_LEAST:
        raise Unidentified(f"{len(t_s)} changes seen without a pause, {CHANGES_LEAST} are needed")
    number = np.arange(len(t_s), dtype=np.float64)
    numbered = CHANGES_LEAST
    while numbered < len(t_s):
        one, begin = np.polyfit(number[:numbered], t_s[:numbered], 1)
        numbered = min(len(t_s), numbered + numbered // 2)
        number[:numbered] = np.rint((t_s[:numbered] - begin) / one)
    one, begin = np.polyfit(number, t_s, 1)
    off = float(np.abs(t_s - begin - one * number).max())
    if one < SLOWER_THAN_READINGS * bracket or off > bracket or float(np.diff(number).min()) < 1:
        raise Unidentified(f"readings {bracket * 1e3:.0f} ms apart are too slow to tell")
    return number, t_s


def _slope(number: FloatArray, t_s: FloatArray) -> float:
    """Seconds a step by a straight line, unless its standard error is too large. Raises Unidentified."""
    (slope, _), covariance = np.polyfit(number, t_s, 1, cov=True)
    if float(np.sqrt(covariance[0, 0])) > PERIOD_ERROR * slope:
        raise Unidentified("the instants of its changes scatter too much")
    return float(slope)
