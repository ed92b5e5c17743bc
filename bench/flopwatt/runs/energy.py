"""From raw counter and power traces to joules with their interval, and whether they may be believed. Pure arithmetic.

The primary estimate is the energy counter's difference between two observed edges (the instants at which its value
changed) inside the load, over the launches completed between those same instants. Reading the counter at arbitrary
instants instead errs by up to one update period at each end: 8 % of a 1 s window at a 100 ms period.

The interval is about this run's own long-run value (see `stats`): drift, noise and the edges' instants are in it, the
sensor's gain and what another process would show are not. Joules of a launch are taken directly, joules over launches
between the same edges: power and time of a launch wander together, and their separate intervals would not show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np

from flopwatt.runs.drift import FloatArray, Stretch
from flopwatt.runs.effort import SENSOR_PERIODS, STEADY_POWER
from flopwatt.runs.records import EnergyStatus, SensorIdentity
from flopwatt.runs.samples import CounterTrace, PowerTrace, RawMeasurement, Window
from flopwatt.runs.settling import allowance
from flopwatt.runs.stats import Interval, launches_at, rate_interval
from flopwatt.runs.throttling import REASON_HW_SLOWDOWN, REASON_THERMAL, fraction_with, thermal_violation_s

DISPUTE: Final = 0.02
"""Counter and integrated power further apart than this are both kept and the row is `disputed`."""


@dataclass(frozen=True, slots=True)
class Energy:
    """What a measurement says of watts. power_w and energy_j (of one launch) are None unless the status is usable."""

    status: EnergyStatus
    reason: str | None = None
    source: str | None = None
    power_w: Interval | None = None
    energy_j: Interval | None = None


@dataclass(frozen=True, slots=True)
class _Span:
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


def judge(raw: RawMeasurement, sensor: SensorIdentity | None, mig: bool = False) -> Energy:
    """Watts and joules of a sustained measurement, or why there are none.

    mig: the GPU is cut in slices. Then, and beside another process (flag `shared`), the watts are somebody else's too.

    A counter that is known to see only part of the time (`counter_covers_all_time` False) sums the sensor's brief
    samples: it is no integral and no second opinion. The mean of those samples themselves is taken instead, whose
    scatter says what it is worth. Whether an unidentified counter does so is unknown: it is used and cross-checked.
    """
    if mig:
        return Energy("refused", "MIG is on: the watts are the whole GPU's, not this slice's")
    if "shared" in raw.flags:
        return Energy("refused", "another process computes on this GPU: the watts are not this case's alone")
    if raw.counter is None and raw.power is None:
        return Energy("unsupported", _why_unreadable(raw))
    if "sensor" in raw.unreadable:
        return Energy("refused", f"the sensor was lost while the load ran: {raw.unreadable['sensor']}")
    part_time = sensor is not None and sensor.counter_covers_all_time is False
    if raw.counter is not None and len(raw.counter.energy_mj) > 1 and not part_time:
        return _from_counter(raw, raw.counter, sensor)
    return _from_power(raw, sensor, part_time and raw.counter is not None)


def instant_power(raw: RawMeasurement, window: Window) -> FloatArray:
    """Watts of the sensor's instant readings inside a window; zero readings are a fault of the sensor and left out."""
    if raw.power is None:
        return np.empty(0)
    return _above_zero(raw.power, raw.power.instant_mw, window.start_ns, window.end_ns)[1]


def _from_counter(raw: RawMeasurement, counter: CounterTrace, sensor: SensorIdentity | None) -> Energy:
    if any(later < earlier for earlier, later in pairwise(counter.energy_mj)):
        return Energy("refused", "the energy counter ran backwards: it was reset, or wrapped")
    found = [_between_edges(raw, counter, window) for window in raw.windows]
    spans = [span for span in found if span]
    if not spans:
        return Energy("refused", "the energy counter did not tick twice inside any window: hold the load longer")
    if len(spans) < len(found):
        return Energy("refused", "the energy counter ticked in some of the windows only: it stopped, or was lost")
    # The identified figures as well as those seen: a sampler stores edges no closer than 45 ms, whatever the sensor's.
    known = sensor or SensorIdentity(source="unknown")
    period_s = max(*(span.period_s for span in spans), known.update_period_s or 0.0, known.counter_tick_s or 0.0)
    window_s = known.window_s or known.average_window_s or 0.0
    refusal = _too_short(min(span.length_s for span in spans), period_s, window_s)
    if refusal:
        return refusal
    if sum(span.joules[-1] for span in spans) <= 0:
        return Energy("unsupported", "the energy counter answered zero under load")
    power_w, energy_j = _intervals(raw, spans)
    status, reason = _verdict(raw, spans, power_w.value)
    return Energy(status, reason, "counter", power_w, energy_j)


def _from_power(raw: RawMeasurement, sensor: SensorIdentity | None, part_time: bool) -> Energy:
    """The mean of power readings, which needs an identified sensor to know how long is long enough."""
    if raw.power is None or not (any(raw.power.instant_mw) or any(raw.power.average_mw)):
        return Energy("unsupported", _why_unreadable(raw))
    readings = _identified(raw.power, sensor)
    if readings is None:
        why = "the energy counter sees only part of the time" if part_time else "no energy counter"
        return Energy("unidentified", f"{why}, and the power sensor is not identified: run `flopwatt doctor --sensor`")
    shortest_s = min((w.end_ns - w.start_ns for w in raw.windows), default=0) * 1e-9
    refusal = _too_short(shortest_s, readings.period_s, readings.window_s)
    if refusal:
        return refusal
    spans = [_summed(raw, raw.power, window, readings) for window in raw.windows]
    length_s = min(span.length_s if span else 0.0 for span in spans)
    refusal = _too_short(length_s, readings.period_s, readings.window_s)
    if refusal:
        return refusal
    found = [span for span in spans if span]
    status, reason = _verdict(raw, found, None)
    return Energy(status, reason, "power", *_intervals(raw, found))


class _Readings(NamedTuple):
    """The power readings to use: milliwatts at the trace's instants, what they average over, and how often they change.

    settled_s: so long after a load began they hold nothing any more of what came before it.
    """

    milliwatts: Sequence[int | None]
    window_s: float
    period_s: float
    settled_s: float


def _identified(power: PowerTrace, sensor: SensorIdentity | None) -> _Readings | None:
    """Instant power, or the running average where that is all there is; None where its window is unknown."""
    if sensor is None or sensor.update_period_s is None:
        return None
    instant = (power.instant_mw, sensor.window_s)
    average = (power.average_mw, sensor.average_window_s)
    milliwatts, window_s = instant if any(power.instant_mw) else average
    if window_s is None:
        return None
    settled_s = window_s + sensor.update_period_s + (sensor.rise_s or 0.0) + (sensor.delay_s or 0.0)
    return _Readings(milliwatts, window_s, sensor.update_period_s, settled_s)


def _intervals(raw: RawMeasurement, spans: Sequence[_Span]) -> tuple[Interval, Interval]:
    """Watts, and joules of a launch."""
    unseen = allowance(raw)
    power_w = rate_interval([span.power for span in spans], unseen.power)
    return power_w, rate_interval([span.per_launch for span in spans], unseen.energy)


def _too_short(length_s: float, period_s: float, window_s: float) -> Energy | None:
    """The refusal of a window from which a sensor of this period and averaging window tells no energy, else None."""
    needed_s = window_s + period_s * (1 + SENSOR_PERIODS)
    if length_s >= needed_s * 0.999:
        return None
    sensor = f"a sensor of {period_s * 1e3:.0f} ms period" + (f" and {window_s:g} s average" if window_s else "")
    return Energy("refused", f"window of {length_s:.2f} s is under the {needed_s:.2f} s that {sensor} needs")


def _between_edges(raw: RawMeasurement, counter: CounterTrace, window: Window) -> _Span | None:
    before = np.asarray(counter.before_ns, dtype=float)
    after = np.asarray(counter.t_ns, dtype=float)
    inside = (before >= window.start_ns) & (after <= window.end_ns)
    inside[:1] = False  # the first reading is not an edge: nobody saw the counter change
    if inside.sum() < 2:
        return None
    edges = (before[inside] + after[inside]) / 2
    millijoules = np.asarray(counter.energy_mj, dtype=np.int64)[inside]
    # An edge is uniform within its bracket: standard deviation width/√12.
    edge_s = (after - before)[inside] * 1e-9 / math.sqrt(12)
    return _span(raw, window, edges, edge_s, (millijoules - millijoules[0]) * 1e-3)


def _summed(raw: RawMeasurement, power: PowerTrace, window: Window, readings: _Readings) -> _Span | None:
    """Joules summed over power readings, one a sensor period: faster polls only repeat what was read before."""
    start_ns = max(window.start_ns, raw.loads[window.load].t_ns[0] + readings.settled_s * 1e9)
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
) -> _Span:
    launches = launches_at(raw.loads[window.load], t_ns)
    return _Span(t_ns * 1e-9, edge_s, joules, launches, (window.end_ns - window.start_ns) * 1e-9, average_s)


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


def _verdict(raw: RawMeasurement, spans: Sequence[_Span], counter_w: float | None) -> tuple[EnergyStatus, str | None]:
    """The status of watts that could be told, and its reason."""
    if unsteady := _why_unsteady(raw, spans):
        return "unsteady", unsteady
    if counter_w is None:
        return "ok", None
    readings = [watts for w in raw.windows if len(watts := instant_power(raw, w))]
    if not readings:
        return "ok", "from the energy counter alone: no instant power was readable to hold it against"
    instant_w = float(np.concatenate(readings).mean())
    if abs(instant_w / counter_w - 1) > DISPUTE:
        return "disputed", f"counter says {counter_w:.1f} W, mean instant power {instant_w:.1f} W"
    return "ok", None


def _why_unsteady(raw: RawMeasurement, spans: Sequence[_Span]) -> str | None:
    if thermal := fraction_with(raw, REASON_THERMAL):
        return f"thermal slowdown in {thermal:.0%} of the window"
    if slowed := fraction_with(raw, REASON_HW_SLOWDOWN):
        return f"hardware slowdown or power brake in {slowed:.0%} of the window"
    if held_down := thermal_violation_s(raw):
        return f"thermal slowdown for {held_down * 1e3:.0f} ms, between polls"
    if "not_steady" in raw.flags:
        return "power and temperature had not settled when the window began"
    drift = max(map(_change, spans))
    if drift > STEADY_POWER:
        return f"power moved by {drift:.1%} between the thirds of a window"
    return None


def _change(span: _Span) -> float:
    """Relative difference of the highest from the lowest third of a span; 0 where it has too few samples.

    The middle third as well: a counter that stalls there has the same power before and after.
    """
    third = (len(span.t_s) - 1) // 3
    if third < 3:
        return 0.0
    cuts = np.array([0, third, len(span.t_s) - 1 - third, len(span.t_s) - 1])
    watts = np.diff(span.joules[cuts]) / np.diff(span.t_s[cuts])
    mean = float(watts.mean())
    return float(watts.max() - watts.min()) / mean if mean > 0 else 0.0


def _why_unreadable(raw: RawMeasurement) -> str:
    if not raw.unreadable:
        return "no power sensor" if raw.power is None else "the power sensor answered nothing above zero"
    return "; ".join(f"{quantity}: {why}" for quantity, why in sorted(raw.unreadable.items()))
