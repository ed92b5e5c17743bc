"""From raw counter and power traces to joules with their interval, and whether they may be believed. Pure arithmetic.

The primary estimate is the energy counter's difference between two observed edges (the instants at which its value
changed) inside the load, over the launches completed between those same instants. Reading the counter at arbitrary
instants instead errs by up to one update period at each end: 8 % of a 1 s window at a 100 ms period.

The interval is about this run's own long-run value (see `stats`): drift, noise and the edges' instants are in it, the
sensor's gain and what another process would show are not. Joules of a launch are taken directly, joules over launches
between the same edges: power and time of a launch wander together, and their separate intervals would not show it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flopwatt.runs.drift import FloatArray
from flopwatt.runs.effort import SENSOR_PERIODS, STEADY_POWER
from flopwatt.runs.joules import Span, between_edges, identified, instant_power, summed
from flopwatt.runs.order import counter_disorder, marks_disorder, readings_disorder
from flopwatt.runs.records import EnergyStatus, SensorIdentity
from flopwatt.runs.samples import CounterTrace, RawMeasurement, Window
from flopwatt.runs.settling import allowance
from flopwatt.runs.stats import Interval, rate_interval
from flopwatt.runs.throttling import (
    REASON_HW_SLOWDOWN,
    REASON_THERMAL,
    fraction_with,
    thermal_violation_s,
    unseen_throttling,
)

OVER_LIMIT: Final = 0.10
"""Power further above the enforced limit than this is not believed: control lets it overshoot for moments, and a gain
is off by some percent, not both by more."""

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


def judge(raw: RawMeasurement, sensor: SensorIdentity | None, mig: bool = False) -> Energy:
    """Watts and joules of a sustained measurement, or why there are none.

    mig: the GPU is cut in slices. Then, and beside another process (flag `shared`), the watts are somebody else's too.

    A counter that is known to see only part of the time (`counter_covers_all_time` False) sums the sensor's brief
    samples: it is no integral and no second opinion. The mean of those samples themselves is taken instead, whose
    scatter says what it is worth. Whether an unidentified counter does so is unknown: it is used and cross-checked.
    """
    if refusal := _why_refused(raw, mig):
        return Energy("refused", refusal)
    if raw.counter is None and raw.power is None:
        return Energy("unsupported", _why_unreadable(raw))
    part_time = sensor is not None and sensor.counter_covers_all_time is False
    if raw.counter is not None and len(raw.counter.energy_mj) > 1 and not part_time:
        return _from_counter(raw, raw.counter, sensor)
    return _from_power(raw, sensor, part_time and raw.counter is not None)


def _why_refused(raw: RawMeasurement, mig: bool) -> str | None:
    """Why what was read, if anything was, cannot be this case's watts, whatever it says."""
    if mig:
        return "MIG is on: the watts are the whole GPU's, not this slice's"
    if "shared" in raw.flags:
        return "another process computes on this GPU: the watts are not this case's alone"
    if raw.counter is None and raw.power is None:
        return None
    if "sensor" in raw.unreadable:
        return f"the sensor was lost while the load ran: {raw.unreadable['sensor']}"
    return marks_disorder(raw) or counter_disorder(raw) or readings_disorder(raw)


def _from_counter(raw: RawMeasurement, counter: CounterTrace, sensor: SensorIdentity | None) -> Energy:
    found = [between_edges(raw, counter, window) for window in raw.windows]
    spans = [span for span in found if span]
    if not spans:
        return Energy("refused", "the energy counter did not tick twice inside any window: hold the load longer")
    if len(spans) < len(found):
        return Energy("refused", "the energy counter ticked in some of the windows only: it stopped, or was lost")
    # The identified figures as well as those seen: a sampler stores edges no closer than 45 ms, whatever the sensor's.
    known = sensor or SensorIdentity(source="unknown")
    period_s = max(*(span.period_s for span in spans), known.slowest_period_s)
    window_s = known.window_s or known.average_window_s or 0.0
    refusal = _too_short(min(span.length_s for span in spans), period_s, window_s)
    if refusal:
        return refusal
    if sum(span.joules[-1] for span in spans) <= 0:
        return Energy("unsupported", "the energy counter answered zero under load")
    return _judged(raw, spans, sensor, "counter")


def _from_power(raw: RawMeasurement, sensor: SensorIdentity | None, part_time: bool) -> Energy:
    """The mean of power readings, which needs an identified sensor to know how long is long enough."""
    if raw.power is None or not (any(raw.power.instant_mw) or any(raw.power.average_mw)):
        return Energy("unsupported", _why_unreadable(raw))
    readings = identified(raw.power, sensor)
    if readings is None:
        why = "no energy counter"
        if part_time:
            why = "the energy counter sees only part of the time"
        elif raw.counter is not None:
            why = "no tick of the energy counter was caught: calls to the driver take too long"
        return Energy("unidentified", f"{why}, and the power sensor is not identified: run `flopwatt doctor --sensor`")
    shortest_s = min((w.end_ns - w.start_ns for w in raw.windows), default=0) * 1e-9
    refusal = _too_short(shortest_s, readings.period_s, readings.window_s)
    if refusal:
        return refusal
    spans = [summed(raw, raw.power, window, readings) for window in raw.windows]
    length_s = min(span.length_s if span else 0.0 for span in spans)
    refusal = _too_short(length_s, readings.period_s, readings.window_s)
    if refusal:
        return refusal
    found = [span for span in spans if span]
    return _judged(raw, found, sensor, "power")


def _judged(raw: RawMeasurement, spans: Sequence[Span], sensor: SensorIdentity | None, source: str) -> Energy:
    """Watts and joules of a launch from the spans, by the `counter` or summed `power` readings, and what to think."""
    if not all(span.per_launch.rising for span in spans):
        return Energy("refused", "no launch completed between two readings of the sensor")
    unseen = allowance(raw)
    power_w = rate_interval([span.power for span in spans], unseen.power)
    energy_j = rate_interval([span.per_launch for span in spans], unseen.energy)
    status, reason = _verdict(raw, spans, power_w.value, sensor, counted=source == "counter")
    return Energy(status, reason, source, power_w, energy_j)


def _too_short(length_s: float, period_s: float, window_s: float) -> Energy | None:
    """The refusal of a window from which a sensor of this period and averaging window tells no energy, else None."""
    needed_s = window_s + period_s * (1 + SENSOR_PERIODS)
    if length_s >= needed_s * 0.999:
        return None
    sensor = f"a sensor of {period_s * 1e3:.0f} ms period" + (f" and {window_s:g} s average" if window_s else "")
    return Energy("refused", f"window of {length_s:.2f} s is under the {needed_s:.2f} s that {sensor} needs")


def _verdict(
    raw: RawMeasurement, spans: Sequence[Span], power_w: float, sensor: SensorIdentity | None, *, counted: bool
) -> tuple[EnergyStatus, str | None]:
    """The status of watts that could be told, and its reason. counted: by the energy counter, not summed readings."""
    if unsteady := _why_unsteady(raw, spans):
        return "unsteady", unsteady
    if doubt := _over_limit(raw, power_w):
        return "disputed", doubt
    notes = []
    if counted:
        instant_w = _settled_instant(raw, sensor)
        if not len(instant_w):
            notes.append("from the energy counter alone: no instant power was readable to hold it against")
        elif abs(float(instant_w.mean()) / power_w - 1) > DISPUTE:
            return "disputed", f"counter says {power_w:.1f} W, mean instant power {instant_w.mean():.1f} W"
    if unseen := unseen_throttling(raw):
        notes.append(f"whether heat held the clock down could not be seen: {unseen}")
    return "ok", "; ".join(notes) or None


def _over_limit(raw: RawMeasurement, power_w: float) -> str | None:
    limits_mw = [limit for limit in raw.slow.power_limit_mw if limit] if raw.slow else []
    if not limits_mw or power_w <= limits_mw[-1] * 1e-3 * (1 + OVER_LIMIT):
        return None
    return f"{power_w:.0f} W is over the power limit of {limits_mw[-1] * 1e-3:.0f} W by more than {OVER_LIMIT:.0%}"


def _settled_instant(raw: RawMeasurement, sensor: SensorIdentity | None) -> FloatArray:
    """Instant power in the windows, once it holds nothing any more of what came before the load."""
    settled_s = sensor.settled_s(sensor.window_s) if sensor and sensor.window_s else 0.0
    seen = [np.empty(0)]
    for window in raw.windows:
        start_ns = max(window.start_ns, raw.begun_ns(window.load) + round(settled_s * 1e9))
        if start_ns < window.end_ns:
            seen.append(instant_power(raw, Window(load=window.load, start_ns=start_ns, end_ns=window.end_ns)))
    return np.concatenate(seen)


def _why_unsteady(raw: RawMeasurement, spans: Sequence[Span]) -> str | None:
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


def _change(span: Span) -> float:
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
