"""Means and 95 % intervals from raw marks. Pure arithmetic; statistical error only, a sensor's gain is kept apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flopwatt.runs.records import Load, RawMeasurement, Window

FloatArray = npt.NDArray[np.float64]

# 97.5 % points of Student's t for 1 to 30 degrees of freedom.
_T975: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip

BATCHES: Final = 10
"""Batches a window is cut into. Few enough that batches of correlated samples are themselves nearly independent."""


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
    z = 1.959964
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def mean_interval(samples: Sequence[float] | FloatArray) -> Interval:
    """The mean of independent samples with Student's interval; no interval from fewer than two."""
    values = np.asarray(samples, dtype=float)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean)
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    return symmetric(mean, student_t(len(values) - 1) * error)


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
    """Seconds of one launch. None where the measurement holds no complete pair of marks.

    Sustained: the mean over the windows, its interval from batch means. Burst: the mean of the bursts' medians, its
    interval from their scatter, or within one burst from the scatter of its marks.
    """
    if regime == "burst":
        medians = [float(np.median(times)) for times in _times_by_window(raw) if len(times)]
        if not medians:
            return None
        if len(medians) > 1:
            return mean_interval(medians)
        return mean_interval(next(times for times in _times_by_window(raw) if len(times)))
    return _sustained_time(raw)


def _times_by_window(raw: RawMeasurement) -> list[FloatArray]:
    """Seconds of one launch between neighbouring marks, for each window."""
    result = []
    for window in raw.windows:
        t, n = marks_in(raw.loads[window.load], window)
        result.append(np.diff(t) / np.diff(n) * 1e-9)
    return result


def _sustained_time(raw: RawMeasurement) -> Interval | None:
    total_ns = total_launches = 0.0
    batches: list[float] = []
    for window in raw.windows:
        t, n = marks_in(raw.loads[window.load], window)
        if len(t) < 2:
            continue
        total_ns += t[-1] - t[0]
        total_launches += n[-1] - n[0]
        cuts = np.unique(np.linspace(0, len(t) - 1, min(BATCHES, len(t) - 1) + 1).round().astype(int))
        batches.extend(np.diff(t[cuts]) / np.diff(n[cuts]) * 1e-9)
    if not total_launches:
        return None
    interval = mean_interval(batches)
    half = None if interval.low is None or interval.high is None else (interval.high - interval.low) / 2
    return symmetric(total_ns / total_launches * 1e-9, half)
