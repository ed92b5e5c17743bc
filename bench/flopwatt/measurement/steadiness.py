"""Whether a load has settled, from what has been polled so far."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from flopwatt.measurement.power.sampler import Samples
from flopwatt.runs.effort import STEADY_POWER, STEADY_SPAN_S, STEADY_TEMP_C, S


def is_steady(samples: Samples, now_ns: int, begun_ns: int, span_s: float = STEADY_SPAN_S) -> bool | None:
    """Whether temperature and power held still over the last seconds; None where neither can be read."""
    trace = samples.power
    if samples.lost or trace is None or not trace.t_ns:
        return None
    start = max(begun_ns, now_ns - round(span_s * S))
    middle = (start + now_ns) / 2
    temperature = _halves(trace.t_ns, trace.temp_c, start, middle)
    power = _halves(trace.t_ns, trace.instant_mw or trace.average_mw, start, middle)
    if temperature is None and power is None:
        return None
    if now_ns - begun_ns < span_s * S * 0.99:
        return False
    # The means of the halves lie half the span apart: what moves steadily moves by twice their difference.
    calm_temperature = temperature is None or 2 * abs(temperature[1] - temperature[0]) < STEADY_TEMP_C
    calm_power = power is None or 2 * abs(power[1] / power[0] - 1) < STEADY_POWER
    return calm_temperature and calm_power


def sees_temperature(samples: Samples) -> bool:
    """Whether any reading of temperature came back."""
    return samples.power is not None and any(samples.power.temp_c)


def _halves(
    t_ns: tuple[int, ...], values: tuple[int | None, ...], start: float, middle: float
) -> tuple[float, float] | None:
    """Means of the readings before and after the middle, None where either half has none above zero."""
    begin, half = bisect_left(t_ns, start), bisect_left(t_ns, middle)
    first = [value for value in values[begin:half] if value]
    last = [value for value in values[half:] if value]
    return (float(np.mean(first)), float(np.mean(last))) if first and last else None
