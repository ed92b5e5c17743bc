"""Means and 95 % intervals from raw marks. Pure arithmetic; statistical error only, a sensor's gain is kept apart.

An interval is about one of two truths, never a mixture of them:

* **of this run**: what the same process would show if it went on for ever. Drift and noise are in the interval; what a
  fresh process would change (clocks, memory placement, temperature of the room) is not. `launch_time` of a sustained
  case and `energy.judge` give it, and so the columns of a row.
* **of the board**: what fresh processes show on average. `across_processes` gives it, and so every merged row,
  headline and comparison.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flopwatt.runs.drift import FloatArray, Stretch, mean_rate, relative_half_width
from flopwatt.runs.order import marks_disorder
from flopwatt.runs.samples import Load, RawMeasurement, Window
from flopwatt.runs.settling import allowance

Z975: Final = 1.959964
"""97.5 % point of the normal distribution."""

# 97.5 % points of Student's t for 1 to 30 degrees of freedom.
_T975: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

RUN_TO_RUN: Final = 0.01
"""Relative standard deviation between fresh processes, taken where only one process ran and nothing tells its own."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval, in the estimate's unit. low and high are None where one cannot be told."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def relative_half_width(self) -> float:
        """Half the interval over the value; infinite where there is no interval."""
        if self.low is None or self.high is None or self.value == 0:
            return math.inf
        return (self.high - self.low) / 2 / abs(self.value)

    def reciprocal(self, scale: float) -> Interval:
        """The interval of `scale` / value, for a positive value: ends change places."""
        return Interval(
            scale / self.value,
            None if self.high is None else scale / self.high,
            None if self.low is None or self.low <= 0 else scale / self.low,
        )


def symmetric(value: float, half_width: float | None) -> Interval:
    """The interval value ± half_width, its lower end at or above zero: times, watts and joules are not negative."""
    if half_width is None or not math.isfinite(half_width):
        return Interval(value)
    return Interval(value, max(0.0, value - half_width), value + half_width)


def student_t(degrees: int) -> float:
    """97.5 % point of Student's t. Beyond 30 degrees a series in 1/degrees, within 0.0005 of the exact value."""
    if degrees < 1:
        return math.inf
    if degrees <= len(_T975):
        return _T975[degrees - 1]
    z = Z975
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def chi_square(p: float, degrees: int) -> float:
    """The p quantile of the chi-square distribution: bisection on the series of the incomplete gamma function.

    Source: Abramowitz and Stegun, 6.5.29 and 26.4.
    """
    low, high = 0.0, 10.0 * degrees + 100.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _lower_gamma(degrees / 2, middle / 2) < p else (low, middle)
    return (low + high) / 2


def _lower_gamma(shape: float, x: float) -> float:
    """The regularised lower incomplete gamma function."""
    if x <= 0:
        return 0.0
    term = total = 1.0
    above = shape
    while term > total * 1e-16:
        above += 1
        term *= x / above
        total += term
    return min(1.0, total * math.exp(shape * math.log(x) - x - math.lgamma(shape + 1)))


def mean_interval(samples: Sequence[float] | FloatArray) -> Interval:
    """The mean of independent samples with Student's interval; no interval from fewer than two."""
    values = np.asarray(samples, dtype=float)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return symmetric(mean, student_t(len(values) - 1) * error)


def across_processes(results: Sequence[Interval], run_to_run: float = RUN_TO_RUN) -> Interval:
    """The mean over fresh processes, its interval about the board's truth.

    Several: Student's interval of their results, which hold drift, noise and run-to-run spread in their scatter. One
    cannot show how a fresh one would differ: run_to_run, a relative standard deviation, widens its own interval.
    """
    if len(results) > 1:
        return mean_interval([result.value for result in results])
    (own,) = results
    return symmetric(own.value, own.value * math.hypot(own.relative_half_width, Z975 * run_to_run))


def rate_interval(stretches: Sequence[Stretch], unseen: float = 0.0) -> Interval:
    """The mean rate of stretches of one load, its interval about what the rate would be if the load went on.

    unseen: relative half-width of what the stretches themselves cannot show.
    """
    rate = mean_rate(stretches)
    return symmetric(rate, rate * math.hypot(relative_half_width(stretches), unseen))


def launches_at(load: Load, t_ns: float | FloatArray) -> FloatArray:
    """Launches completed by each instant, between marks by proportion: the device never idles between marks."""
    found: FloatArray = np.interp(t_ns, np.asarray(load.t_ns, dtype=float), np.asarray(load.launches, dtype=float))
    return found


def marks_in(load: Load, window: Window) -> tuple[FloatArray, FloatArray]:
    """Instants (ns) and launch counts at the marks inside a window, its ends included."""
    t = np.asarray(load.t_ns, dtype=float)
    n = np.asarray(load.launches, dtype=float)
    inside = (t >= window.start_ns) & (t <= window.end_ns)
    return t[inside], n[inside]


def launch_time(raw: RawMeasurement, regime: str) -> Interval | None:
    """Seconds of one launch. None where `why_no_time` says why.

    Sustained: the mean over the windows. Burst: the mean of the bursts' medians. Either interval is about this run's
    long-run value.
    """
    stretches = [] if marks_disorder(raw) else _stretches(raw)
    if not stretches:
        return None
    return _burst_time(stretches) if regime == "burst" else rate_interval(stretches, allowance(raw).time)


def why_no_time(raw: RawMeasurement) -> str:
    """Why `launch_time` is None: the marks are out of order, or none of the windows has two."""
    return marks_disorder(raw) or "no launch completed inside a window"


def _burst_time(bursts: Sequence[Stretch]) -> Interval:
    # A burst's median forgets the launch that an interrupt delayed.
    time_s = float(np.mean([np.median(burst.rates) for burst in bursts]))
    return symmetric(time_s, time_s * relative_half_width(bursts))


def _stretches(raw: RawMeasurement) -> list[Stretch]:
    """Time over launches at the marks of each window that has two."""
    marks = (marks_in(raw.loads[window.load], window) for window in raw.windows)
    return [Stretch(t * 1e-9, t * 1e-9, n, np.zeros(len(t))) for t, n in marks if len(t) > 1]
