"""Joules seen at instants of a window: between counter edges, or summed over power readings. Pure arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from flopwatt.runs.drift import FloatArray, Stretch
from flopwatt.runs.records import SensorIdentity
from flopwatt.runs.samples import CounterTrace, PowerTrace, RawMeasurement, Window
from flopwatt.runs.stats import launches_at


@dataclass(frozen=True, slots=True)
class Span:
    """Joules seen at instants of one window: between counter edges, or summed over power readings.

    t_s, edge_s: the instants and the standard deviation of each. launches: completed by then. joules: since the first.
    window_s: of the window they were looked for in, which is a little longer. average_s: of the readings summed.
    """

    t_s: FloatArray
    edge_s: FloatArray
    joules: FloatArray
    launches: FloatArray
    window_s: float
    average_s: float

    @property
    def period_s(self) -> float:
        return float(np.median(np.diff(self.t_s)))

    @property
    def length_s(self) -> float:
        """How long a window these instants vouch for: one period more at each end than they span."""
        return min(self.window_s, float(self.t_s[-1] - self.t_s[0]) + 2 * self.period_s)

    @property
    def power(self) -> Stretch:
        return Stretch(self.t_s, self.joules, self.t_s, self.edge_s, self.average_s)

    @property
    def per_launch(self) -> Stretch:
        return Stretch(self.t_s, self.joules, self.launches, self.edge_s, self.average_s)


class Readings(NamedTuple):
    """The power readings to use: milliwatts at the trace's instants, what they average over, and how often they change.

    settled_s: so long after a load began they hold nothing any more of what came before it.
    """

    milliwatts: Sequence[int | None]
    window_s: float
    period_s: float
    settled_s: float


def identified(power: PowerTrace, sensor: SensorIdentity | None) -> Readings | None:
    """Instant power, or the running average where that is all there is; None where its window is unknown."""
    if sensor is None or sensor.update_period_s is None:
        return None
    instant = (power.instant_mw, sensor.window_s)
    average = (power.average_mw, sensor.average_window_s)
    milliwatts, window_s = instant if any(power.instant_mw) else average
    if window_s is None:
        return None
    return Readings(milliwatts, window_s, sensor.update_period_s, sensor.settled_s(window_s))


def instant_power(raw: RawMeasurement, window: Window) -> FloatArray:
    """Watts of the sensor's instant readings inside a window; zero readings are a fault of the sensor and left out."""
    if raw.power is None:
        return np.empty(0)
    return _above_zero(raw.power, raw.power.instant_mw, window.start_ns, window.end_ns)[1]


def between_edges(raw: RawMeasurement, counter: CounterTrace, window: Window) -> Span | None:
    """Joules at the counter's edges inside a window; None where there are not two."""
    before = np.asarray(counter.before_ns, dtype=float)
    after = np.asarray(counter.t_ns, dtype=float)
    inside = (before >= window.start_ns) & (after <= window.end_ns)
    inside[:1] = False  # the first reading is not an edge: nobody saw the counter change
    if inside.sum() < 2:
        return None
    edges = (before[inside] + after[inside]) / 2
    millijoules = np.asarray(counter.energy_mj, dtype=np.int64)[inside]
    # An edge is uniform within its bracket, and what it shows within a step of the counter: deviations of width/√12.
    mean_mw = float(millijoules[-1] - millijoules[0]) / float(edges[-1] - edges[0]) * 1e9
    step_s = _step_mj(counter) / mean_mw if mean_mw > 0 else 0.0
    edge_s = np.hypot((after - before)[inside] * 1e-9, step_s) / math.sqrt(12)
    return _span(raw, window, edges, edge_s, (millijoules - millijoules[0]) * 1e-3)


def _step_mj(counter: CounterTrace) -> int:
    """The step in which a coarse counter counts; 0 where ticks share none, are all alike, or are single steps."""
    ticks = np.diff(np.asarray(counter.energy_mj, dtype=np.int64))
    step = int(np.gcd.reduce(ticks))
    return step if step > 1 and ticks.min() < ticks.max() and 2 * step <= ticks.min() else 0


def summed(raw: RawMeasurement, power: PowerTrace, window: Window, readings: Readings) -> Span | None:
    """Joules summed over power readings, one a sensor period: faster polls only repeat what was read before."""
    start_ns = max(window.start_ns, raw.begun_ns(window.load) + readings.settled_s * 1e9)
    t, watts = _above_zero(power, readings.milliwatts, start_ns, window.end_ns)
    if len(t) < 2:
        return None
    stride = max(1, round(readings.period_s * 1e9 / float(np.median(np.diff(t)))))
    t, watts = t[::stride], watts[::stride]
    if len(t) < 2:
        return None
    joules = np.concatenate([[0.0], np.cumsum(watts[1:] * np.diff(t) * 1e-9)])
    return _span(raw, window, t, np.zeros(len(t)), joules, readings.window_s)


def _span(
    raw: RawMeasurement,
    window: Window,
    t_ns: FloatArray,
    edge_s: FloatArray,
    joules: FloatArray,
    average_s: float = 0.0,
) -> Span:
    launches = launches_at(raw.loads[window.load], t_ns)
    return Span(t_ns * 1e-9, edge_s, joules, launches, (window.end_ns - window.start_ns) * 1e-9, average_s)


def _above_zero(
    power: PowerTrace, shown: Sequence[int | None], start_ns: float, end_ns: float
) -> tuple[FloatArray, FloatArray]:
    """Instants (ns) and watts of the readings between two instants that are neither null nor zero."""
    pairs = [
        (t, milliwatts * 1e-3)
        for t, milliwatts in zip(power.t_ns, shown, strict=False)
        if milliwatts and milliwatts > 0 and start_ns <= t <= end_ns
    ]
    found = np.array(pairs, dtype=float).reshape(-1, 2)
    return found[:, 0], found[:, 1]
