"""What a power sensor is, from densely polled traces under a load that was switched on and off. Pure arithmetic.

Update period and counter tick: `rhythm`. Averaging window, delay and rise: `sensor_response`. Whether the counter
covers all time: `beat`. What cannot be told with confidence stays None, and the reason says `unidentified`. After Yang,
Adamek and Armour, SC'24 (arXiv 2312.02741).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np

from flopwatt.runs.beat import covers_all_time
from flopwatt.runs.records import SensorIdentity
from flopwatt.runs.rhythm import Changes, S, Unidentified, changes, counter_changes, on_rhythm, period
from flopwatt.runs.samples import CounterTrace, PowerTrace
from flopwatt.runs.sensor_response import Load, Response, fit

UNIDENTIFIED: Final = "unidentified"
"""The method of an identity that holds no figure, and what its reason says of each that it lacks."""

SLOW_READINGS_S: Final = 0.01
"""Instants bracketed more widely blur the sensor's answer; where every change was seen, their rhythm is sharper."""

WINDOW_ERROR: Final = 0.06
"""Relative standard error of a window at most: three of them stay within 20 %."""

MISFIT_MOST: Final = 0.05
"""Readings that deviate more than this share of the swing from the fitted response do not follow its model."""

SWING_LEAST_W: Final = 10.0
"""A load that moves the readings less than this says nothing of the sensor."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Traces:
    """What one identification gathered. Times in ns on one clock; pulses: (start, end) of each stretch of load.

    beat: the indices [first, last) of the pulses that form the beat test's square wave, or why it did not run.
    unreadable: quantity → the NVML code or reason.
    """

    pulses: tuple[tuple[int, int], ...]
    power: PowerTrace | None = None
    counter: CounterTrace | None = None
    beat: tuple[int, int] | str = "not run"
    call_ns: int | None = None
    unreadable: dict[str, str] = field(default_factory=dict)


def identify(traces: Traces, known: SensorIdentity) -> SensorIdentity:
    """Everything that the traces tell of the sensor, and the reasons for what they do not.

    known: its source and gain uncertainty, which no trace tells.
    """
    why: dict[str, str] = {}

    def told(name: str, ask: Callable[[], T]) -> T | None:
        try:
            return ask()
        except Unidentified as reason:
            why[name] = str(reason)
            return None

    period_s = told("update_period_s", lambda: update_period(traces))
    instant = told("window_s", lambda: response(traces, "instant_mw"))
    average = None
    if changes(traces.power, "average_mw") is not None:  # few parts have a running average: none is no failure
        average = told("average_window_s", lambda: response(traces, "average_mw"))
    tick_s = told("counter_tick_s", lambda: period(_edges(traces)))
    covers = told("counter_covers_all_time", lambda: _covers(traces, period_s, instant, average))
    answer = instant or average
    nothing = period_s is None and answer is None and tick_s is None
    return SensorIdentity(
        source=known.source,
        method=UNIDENTIFIED if nothing else _method(why),
        update_period_s=period_s,
        window_s=instant.window_s if instant else None,
        average_window_s=average.window_s if average else None,
        delay_s=max(answer.delay_s, 0.0) if answer else None,
        rise_s=answer.rise_s if answer else None,
        counter_tick_s=tick_s,
        counter_covers_all_time=covers,
        call_latency_s=traces.call_ns * S if traces.call_ns is not None else None,
        gain_uncertainty=known.gain_uncertainty,
        reason="; ".join(f"{name} {UNIDENTIFIED}: {reason}" for name, reason in why.items()) or None,
    )


def update_period(traces: Traces) -> float:
    """Seconds between updates of power, instant power where there is any. Raises Unidentified."""
    seen = changes(traces.power, "instant_mw") or changes(traces.power, "average_mw")
    if seen is None:
        raise Unidentified(_unreadable(traces, "instant_mw"))
    return period(seen)


def response(traces: Traces, quantity: str) -> Response:
    """The sensor's answer to the load in one quantity. Raises Unidentified where it is not told well enough."""
    seen = changes(traces.power, quantity)
    if seen is None:
        raise Unidentified(_unreadable(traces, quantity))
    pulses = np.array(traces.pulses, dtype=np.float64).reshape(-1, 2) * S
    seen = seen.after(pulses[0, 0] if len(pulses) else np.inf)
    if len(seen.t_s) and float(np.median(seen.width_s)) > SLOW_READINGS_S:
        seen = on_rhythm(seen)
    fitted = fit(Load(pulses[:, 0], pulses[:, 1]), seen.t_s, seen.value * 1e-3)
    if fitted is None:
        raise Unidentified(f"{len(seen.t_s)} changes under load are too few")
    if fitted.swing_w < SWING_LEAST_W:
        raise Unidentified(f"the load moved it by {fitted.swing_w:.0f} W")
    if fitted.misfit > MISFIT_MOST:
        raise Unidentified(f"readings deviate by {fitted.misfit:.0%} of the swing from any delayed, lagged mean")
    if fitted.window_error > WINDOW_ERROR:
        raise Unidentified(f"about {fitted.window_s * 1e3:.1f} ms, with a standard error of {fitted.window_error:.0%}")
    return fitted


def _covers(traces: Traces, period_s: float | None, instant: Response | None, average: Response | None) -> bool:
    edges = _edges(traces)
    if isinstance(traces.beat, str):
        raise Unidentified(f"beat test not run: {traces.beat}")
    if period_s is None:
        raise Unidentified("the beat test needs the update period")
    starts = np.array(traces.pulses[slice(*traces.beat)], dtype=np.float64)[:, 0] * S
    return covers_all_time(edges, starts, period_s, changes(traces.power, "instant_mw"), instant, average)


def _edges(traces: Traces) -> Changes:
    edges = counter_changes(traces.counter)
    if edges is None:
        raise Unidentified(_unreadable(traces, "counter"))
    return edges


def _unreadable(traces: Traces, quantity: str) -> str:
    return traces.unreadable.get(quantity) or traces.unreadable.get("power") or "never readable"


def _method(why: dict[str, str]) -> str:
    return f"switched load; {UNIDENTIFIED}: {', '.join(why)}" if why else "switched load and beat test"
