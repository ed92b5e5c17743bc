"""From raw counter and power traces to joules with their interval, and whether they may be believed. Pure arithmetic.

The primary estimate is the energy counter's difference between two observed edges (the instants at which its value
changed) inside the load, over the launches completed between those same instants. Reading the counter at arbitrary
instants instead errs by up to one update period at each end: 8 % of a 1 s window at a 100 ms period.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from flopwatt.runs.effort import SENSOR_PERIODS, STEADY_POWER
from flopwatt.runs.records import CounterTrace, EnergyStatus, RawMeasurement, SensorIdentity, Window
from flopwatt.runs.stats import BATCHES, FloatArray, Interval, launches_at, mean_interval, symmetric

DISPUTE: Final = 0.02
"""Counter and integrated power further apart than this are both kept and the row is `disputed`."""

REASON_SW_POWER_CAP: Final = 0x4
REASON_THERMAL: Final = 0x8 | 0x20 | 0x40
"""Clock-event bits: hardware slowdown, software thermal, hardware thermal (NVML's nvmlClocksEventReasons)."""


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
    """Energy between two edges: joules, seconds, launches, the edges' own uncertainty, and power between edges."""

    joules: float
    seconds: float
    launches: float
    edge_error_s: float
    powers_w: FloatArray
    period_s: float


def judge(raw: RawMeasurement, sensor: SensorIdentity | None, mig: bool = False) -> Energy:
    """Watts and joules of a sustained measurement, or why there are none."""
    if mig:
        return Energy("refused", "MIG is on: the watts are the whole GPU's, not this slice's")
    if raw.counter is None and raw.power is None:
        return Energy("unsupported", _why_unreadable(raw))
    thirds = _drift(raw)
    if raw.counter is not None and len(raw.counter.energy_mj) > 1:
        return _from_counter(raw, raw.counter, sensor, thirds)
    return _from_power(raw, sensor, thirds)


def instant_power(raw: RawMeasurement, window: Window) -> FloatArray:
    """Watts of the sensor's instant readings inside a window; zero readings are a fault of the sensor and left out."""
    if raw.power is None or not raw.power.instant_mw:
        return np.empty(0)
    t = np.asarray(raw.power.t_ns)
    watts = np.array([math.nan if p is None else p * 1e-3 for p in raw.power.instant_mw])
    inside = (t >= window.start_ns) & (t <= window.end_ns) & (watts > 0)
    return watts[inside]


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


def _from_counter(
    raw: RawMeasurement, counter: CounterTrace, sensor: SensorIdentity | None, drift: float | None
) -> Energy:
    spans = [span for window in raw.windows if (span := _between_edges(raw, counter, window))]
    if not spans:
        return Energy("refused", "the energy counter did not tick twice inside any window: hold the load longer")
    period = max(span.period_s for span in spans)
    sensor_window = (sensor.window_s if sensor else None) or 0.0
    needed = sensor_window + period + SENSOR_PERIODS * period
    shortest = min(span.seconds for span in spans)
    if shortest < needed * 0.999 - 2 * period:
        return Energy(
            "refused",
            f"window of {shortest:.2f} s is under the {needed:.2f} s that a {period * 1e3:.0f} ms sensor needs",
        )
    joules = sum(span.joules for span in spans)
    if joules <= 0:
        return Energy("unsupported", "the energy counter answered zero under load")
    seconds = sum(span.seconds for span in spans)
    launches = sum(span.launches for span in spans)
    half = _relative_half_width(spans, joules / seconds)
    power = symmetric(joules / seconds, half * joules / seconds)
    per_launch = symmetric(joules / launches, half * joules / launches)
    status, reason = _verdict(raw, power.value, drift)
    return Energy(status, reason, "counter", power, per_launch)


def _from_power(raw: RawMeasurement, sensor: SensorIdentity | None, drift: float | None) -> Energy:
    """No counter: the mean of instant power, which needs an identified sensor to know how long is long enough."""
    if sensor is None or sensor.update_period_s is None or sensor.window_s is None:
        return Energy(
            "unidentified", "no energy counter, and the power sensor is not identified: run `flopwatt doctor --sensor`"
        )
    needed = sensor.window_s + sensor.update_period_s * (1 + SENSOR_PERIODS)
    shortest = min((w.end_ns - w.start_ns for w in raw.windows), default=0) * 1e-9
    if shortest < needed:
        return Energy("refused", f"window of {shortest:.2f} s is under the {needed:.2f} s that this sensor needs")
    readings = [instant_power(raw, w) for w in raw.windows]
    watts = np.concatenate(readings) if readings else np.empty(0)
    if not len(watts):
        return Energy("unsupported", _why_unreadable(raw))
    # Polling faster than the sensor updates repeats readings: only as many are independent as it had periods.
    stride = max(1, round(len(watts) * sensor.update_period_s / max(shortest * len(raw.windows), 1e-9)))
    power = mean_interval(_batch(watts[::stride]))
    launches = sum(_launches(raw, w) for w in raw.windows)
    seconds = sum(w.end_ns - w.start_ns for w in raw.windows) * 1e-9
    per_launch = Interval(
        power.value * seconds / launches, *(_scaled(end, seconds / launches) for end in (power.low, power.high))
    )
    status, reason = _verdict(raw, None, drift)
    return Energy(status, reason, "power", power, per_launch)


def _between_edges(raw: RawMeasurement, counter: CounterTrace, window: Window) -> _Span | None:
    before = np.asarray(counter.before_ns, dtype=float)
    after = np.asarray(counter.t_ns, dtype=float)
    inside = (before >= window.start_ns) & (after <= window.end_ns)
    inside[:1] = False  # the first reading is not an edge: nobody saw the counter change
    if inside.sum() < 2:
        return None
    edges = (before[inside] + after[inside]) / 2
    millijoules = np.asarray(counter.energy_mj, dtype=float)[inside]
    gaps = np.diff(edges) * 1e-9
    widths = (after - before)[inside][[0, -1]] * 1e-9
    launches = launches_at(raw.loads[window.load], edges[[0, -1]])
    return _Span(
        joules=float(millijoules[-1] - millijoules[0]) * 1e-3,
        seconds=float(edges[-1] - edges[0]) * 1e-9,
        launches=float(launches[1] - launches[0]),
        # An edge is uniform within its bracket: standard deviation width/√12, and there are two.
        edge_error_s=float(np.sqrt((widths**2 / 12).sum())),
        powers_w=np.diff(millijoules) * 1e-3 / gaps,
        period_s=float(np.median(gaps)),
    )


def _relative_half_width(spans: list[_Span], power_w: float) -> float:
    """Scatter of power from batch to batch, and the edges' instants, in quadrature."""
    scatter = mean_interval(np.concatenate([_batch(span.powers_w) for span in spans])).relative_half_width
    seconds = sum(span.seconds for span in spans)
    edges = 1.96 * math.sqrt(sum(span.edge_error_s**2 for span in spans)) / seconds
    return math.hypot(scatter, edges) if math.isfinite(scatter) else math.inf


def _batch(values: FloatArray) -> FloatArray:
    """Means of up to `BATCHES` consecutive groups: neighbouring readings are correlated, groups hardly."""
    return np.array([part.mean() for part in np.array_split(values, min(BATCHES, len(values))) if len(part)])


def _verdict(raw: RawMeasurement, counter_w: float | None, drift: float | None) -> tuple[EnergyStatus, str | None]:
    thermal = fraction_with(raw, REASON_THERMAL)
    if thermal:
        return "unsteady", f"thermal slowdown in {thermal:.0%} of the window"
    if "not_steady" in raw.flags:
        return "unsteady", "power and temperature had not settled when the window began"
    if drift is not None and drift > STEADY_POWER:
        return "unsteady", f"power moved by {drift:.1%} between the first and the last third"
    readings = [watts for w in raw.windows if len(watts := instant_power(raw, w))]
    if counter_w is not None and readings:
        instant_w = float(np.concatenate(readings).mean())
        if abs(instant_w / counter_w - 1) > DISPUTE:
            return "disputed", f"counter says {counter_w:.1f} W, mean instant power {instant_w:.1f} W"
    return "ok", None


def _drift(raw: RawMeasurement) -> float | None:
    """Largest relative difference of power between the first and last third of a window; None if unknown.

    From the counter where it ticks often enough, else from the instant readings.
    """
    worst: float | None = None
    for window in raw.windows:
        span = _between_edges(raw, raw.counter, window) if raw.counter else None
        watts = span.powers_w if span is not None else instant_power(raw, window)
        third = len(watts) // 3
        if third < 3:
            continue
        first, last = float(watts[:third].mean()), float(watts[-third:].mean())
        if first + last > 0:
            worst = max(worst or 0.0, abs(last - first) / ((first + last) / 2))
    return worst


def _launches(raw: RawMeasurement, window: Window) -> float:
    ends = launches_at(raw.loads[window.load], np.array([window.start_ns, window.end_ns], dtype=float))
    return float(ends[1] - ends[0])


def _scaled(end: float | None, factor: float) -> float | None:
    return None if end is None else end * factor


def _why_unreadable(raw: RawMeasurement) -> str:
    if not raw.unreadable:
        return "no power sensor"
    return "; ".join(f"{quantity}: {why}" for quantity, why in sorted(raw.unreadable.items()))
