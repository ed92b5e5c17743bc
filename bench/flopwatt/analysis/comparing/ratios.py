"""The ratio of one quantity on two sides, with its 95 % interval, and the verdict that follows from it.

Everything happens to logarithms, in which a ratio is a difference and a gain an offset. Student's t on the logarithms
of what fresh processes found is exact where they scatter normally, as relative errors of a percent do, and holds drift,
noise and run-to-run spread alike, since all of them are in the processes' scatter. A bootstrap of three or five
processes is not: resampling so few gives intervals that are too narrow. `bench/benchmarks/compare.py` shows the rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from flopwatt.runs.stats import Z975, Interval, student_t

METRICS: Final = ("time", "tflops", "power", "energy", "tflops-per-w")

WORDS: Final = {
    "time": ("faster", "slower"),
    "tflops": ("faster", "slower"),
    "power": ("better", "worse"),
    "energy": ("better", "worse"),
    "tflops-per-w": ("better", "worse"),
}
"""What a verdict is called by metric. Fewer watts and fewer joules are better."""

MORE_IS_BETTER: Final = frozenset({"tflops", "tflops-per-w"})
REGRESSIONS: Final = frozenset({"slower", "worse"})


@dataclass(frozen=True, slots=True)
class Ratio:
    """NEW over BASE of one quantity.

    half: of the 95 % interval of ln(ratio), statistical; None where nothing tells it. degrees: of freedom of Student's
    t in it; None where it is normal. systematic: half-width of ln(ratio) from the gains of two sensors; 0 where the
    quantity has none or one board's cancels; None where a gain is not known.
    """

    base: float
    new: float
    half: float | None
    degrees: int | None = None
    systematic: float | None = 0.0

    @property
    def value(self) -> float:
        """NEW ÷ BASE."""
        return self.new / self.base

    def inverted(self, scale: float) -> Ratio:
        """The ratio of scale / quantity: TFLOPS from time, TFLOPS/W from joules."""
        return Ratio(scale / self.base, scale / self.new, self.half, self.degrees, self.systematic)

    def interval(self) -> Interval:
        """The statistical 95 % interval."""
        return _around(self.value, self.half)

    def total(self, comparisons: int = 1) -> Interval:
        """The 95 % interval with the sensors' gains in quadrature, which verdicts are read from.

        comparisons: how many ratios are to be inside theirs at once (Bonferroni); their statistical part widens.
        """
        if self.half is None or self.systematic is None:
            return Interval(self.value)
        wider = quantile(comparisons, self.degrees) / quantile(1, self.degrees) if comparisons > 1 else 1.0
        return _around(self.value, math.hypot(self.half * wider, self.systematic))


def _around(value: float, half: float | None) -> Interval:
    if half is None or half > 300:
        return Interval(value)
    return Interval(value, value * math.exp(-half), value * math.exp(half))


def ratio(
    base: Sequence[Interval], new: Sequence[Interval], spreads: tuple[float, float], systematic: float | None = 0.0
) -> Ratio:
    """The ratio of the means of two sides, each a result a fresh process.

    Where both sides have several: Student's t with one variance for both, whose rates hold for unequal variances too
    where the numbers are alike. A side with one result carries the spread between processes of its board (spreads,
    relative standard deviations): its own interval alone is never enough.
    """
    low, high = mean(base), mean(new)
    if min(len(base), len(new)) > 1:
        degrees = len(base) + len(new) - 2
        squares = _squares(base) + _squares(new)
        half = student_t(degrees) * math.sqrt(squares / degrees * (1 / len(base) + 1 / len(new)))
        return Ratio(low, high, half, degrees, systematic)
    half = math.hypot(side_half(base, spreads[0]), side_half(new, spreads[1]))
    degrees_of = max(len(base), len(new)) - 1
    return Ratio(low, high, half, degrees_of or None, systematic)


def mean(results: Sequence[Interval]) -> float:
    """The mean of what fresh processes found."""
    return results[0].value if len(results) == 1 else sum(result.value for result in results) / len(results)


def side_half(results: Sequence[Interval], spread: float) -> float:
    """Relative half-width of one side's mean. A result without an interval (an import) carries the spread alone."""
    if len(results) > 1:
        degrees = len(results) - 1
        return student_t(degrees) * math.sqrt(_squares(results) / degrees / len(results))
    own = results[0].relative_half_width
    return math.hypot(own if math.isfinite(own) else 0.0, Z975 * spread)


def _squares(results: Sequence[Interval]) -> float:
    logs = np.log([result.value for result in results])
    return float(((logs - logs.mean()) ** 2).sum())


def quantile(comparisons: int, degrees: int | None) -> float:
    """Two-sided 95 % point of Student's t for that many comparisons at once; of the normal for degrees None."""
    tail = 0.025 / comparisons
    if degrees is None:
        return NormalDist().inv_cdf(1 - tail)
    low, high = 0.0, 1.0
    while _tail(high, degrees) > tail:
        low, high = high, high * 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _tail(middle, degrees) > tail else (low, middle)
    return (low + high) / 2


def _tail(t: float, degrees: int) -> float:
    """P(T > t), t ≥ 0: the finite series for whole degrees (Abramowitz and Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan2(t, math.sqrt(degrees))
    cosine, sine = math.cos(angle), math.sin(angle)
    term = total = 0.0
    if degrees % 2:
        for index in range(1, degrees - 1, 2):
            term = cosine if index == 1 else term * cosine**2 * (index - 1) / index
            total += term
        return 0.5 - (angle + sine * total) / math.pi
    for index in range(0, degrees - 1, 2):
        term = 1.0 if index == 0 else term * cosine**2 * (index - 1) / index
        total += term
    return 0.5 - sine * total / 2


def of_metric(
    metric: str, time: Ratio | None, power: Ratio | None, energy: Ratio | None, flop: tuple[int, int]
) -> Ratio | None:
    """The ratio of one of `METRICS` from those of seconds, watts and joules. flop: done in the time, by the energy."""
    match metric:
        case "time":
            return time
        case "power":
            return power
        case "energy":
            return energy
        case "tflops":
            return time.inverted(flop[0] * 1e-12) if time else None
        case _:
            return energy.inverted(flop[1] * 1e-12) if energy else None


def verdict(found: Ratio, metric: str, threshold: float, total: Interval | None = None) -> str:
    """What the interval says of a metric's ratio, gains of sensors included. total: that interval, where it is known.

    same: all of it within ± threshold. faster or slower (better or worse): all of it on one side of 1, and the
    estimate itself beyond the threshold. inconclusive: anything else, and where there is no interval.
    """
    interval = total or found.total()
    if interval.low is None or interval.high is None:
        return "inconclusive"
    limit = 1 + threshold
    if interval.low >= 1 / limit and interval.high <= limit:
        return "same"
    good, bad = WORDS[metric]
    if metric in MORE_IS_BETTER:
        good, bad = bad, good
    if interval.low > 1 and found.value > limit:
        return bad
    if interval.high < 1 and found.value < 1 / limit:
        return good
    return "inconclusive"
