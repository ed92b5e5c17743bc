"""How far a rate observed for a while may lie from the value it settles at: drift, noise and edges in one interval.

A GPU's power and speed wander: a window of 5 s is no longer than the wandering itself, so that neighbouring batches of
it are far from independent and their scatter says little of the mean. Three errors are told apart by how they show:

* drift, an Ornstein-Uhlenbeck process: its standard deviation and its correlation time are both unknown, and a window
  can tell neither well. So both are integrated over (`SIGMA`, `TAU_S`), each pair weighted by how likely it makes the
  differences between the batches; the interval is that of the mixture.
* white noise, from the scatter between neighbouring samples;
* edges whose instant is known to a bracket only, an error that neighbouring stretches share with opposite signs.

The weights are a restricted likelihood: they depend on differences alone, never on the mean they are to bound. See
Harville, Biometrika 61 (1974) 383, on integrating over such parameters, and Uhlenbeck and Ornstein, Phys. Rev. 36
(1930) 823. What lasts longer than `TAU_S` reaches is no drift but belongs to the run, and needs a second process: of
drift with a correlation time of 4 s two windows of 5 s cover 95 %, of faster drift more, of 8 s nearly 90 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BATCHES: Final = 20
BATCHES_MOST: Final = 10
"""Batches in all, and of one stretch: enough to see drift from half a second on, few enough to be quick."""

TAU_S: Final = np.geomspace(0.1, 22.0, 9)
"""Correlation times (s) thought possible, evenly in their logarithm: from a power regulator's to a heat sink's."""

SIGMA: Final = np.geomspace(3e-4, 0.1, 14)
"""Relative standard deviations thought possible, evenly in their logarithm. The least one is an allowance: a window too
short to show any drift does not prove that there is none."""

FLOOR: Final = 1e-6
"""Relative standard deviation of a batch that is always there, so that matrices can be inverted."""

COVERAGE: Final = 0.95

_DEVIATIONS: Final = np.linspace(0.0, 6.0, 3001)
_INSIDE: Final = np.array([math.erf(each / math.sqrt(2)) for each in _DEVIATIONS.tolist()])
"""Share of a normal distribution within ± so many standard deviations; between these points by proportion."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Two quantities that rise side by side without a gap, at the same instants; the rate is Δabove ÷ Δbelow.

    t_s: the instants, rising. edge_s: standard deviation of each instant, 0 where it is exact. average_s: what rises
    above is summed from averages over so long, which show only part of a drift faster than that.
    """

    t_s: FloatArray
    above: FloatArray
    below: FloatArray
    edge_s: FloatArray
    average_s: float = 0.0

    @property
    def rates(self) -> FloatArray:
        """The rate between neighbouring instants, of a rising stretch."""
        rates: FloatArray = np.diff(self.above) / np.diff(self.below)
        return rates

    @property
    def rising(self) -> bool:
        """Whether the instants, and what rises below, do so from each to the next: else some rate is none."""
        return bool((np.diff(self.t_s) > 0).all() and (np.diff(self.below) > 0).all())

    def batched(self, batches: int) -> Stretch:
        """The same seen at up to `batches` + 1 of its instants, its first and last among them."""
        last = len(self.t_s) - 1
        keep = np.unique(np.linspace(0, last, min(batches, last) + 1).round().astype(int))
        return Stretch(self.t_s[keep], self.above[keep], self.below[keep], self.edge_s[keep], self.average_s)


def mean_rate(stretches: Sequence[Stretch]) -> float:
    """Σ Δabove ÷ Σ Δbelow. Raises ZeroDivisionError where nothing rose below."""
    above = sum(float(stretch.above[-1] - stretch.above[0]) for stretch in stretches)
    return above / sum(float(stretch.below[-1] - stretch.below[0]) for stretch in stretches)


def relative_half_width(stretches: Sequence[Stretch]) -> float:
    """Half the 95 % interval of `mean_rate` over itself, about the rate's long-run value; infinite where unknown.

    Unknown: one batch alone, instants or counts that do not rise, or batches so unlike that 64 bits cannot hold both.
    """
    mean = mean_rate(stretches)
    if mean == 0 or not all(stretch.rising for stretch in stretches):
        return math.inf
    try:
        with np.errstate(divide="raise", over="raise", invalid="raise"):
            return _half_width(stretches, mean)
    except (FloatingPointError, np.linalg.LinAlgError):
        return math.inf


def _half_width(stretches: Sequence[Stretch], mean: float) -> float:
    batches = min(BATCHES_MOST, max(1, BATCHES // len(stretches)))
    batched = [stretch.batched(batches) for stretch in stretches]
    values = np.concatenate([stretch.rates for stretch in batched])
    starts = np.concatenate([stretch.t_s[:-1] for stretch in batched])
    ends = np.concatenate([stretch.t_s[1:] for stretch in batched])
    if len(values) < 2:
        return math.inf
    noise = _noise(batched, _white(stretches, mean))
    drift = _drift(batched)
    share = (ends - starts) / (ends - starts).sum()
    weights = _weights(values / mean, drift, noise)
    variances = np.outer(np.einsum("i,tij,j->t", share, drift, share), SIGMA**2) + share @ noise @ share
    return _mixture_half_width(weights.ravel(), np.sqrt(variances).ravel())


def _white(stretches: Sequence[Stretch], mean: float) -> float:
    """Relative variance of a sample times its length (s), of noise independent from sample to sample.

    From differences of neighbours, in which drift all but cancels; what uncertain edges put there is taken off.
    """
    found = []
    for stretch in stretches:
        length_s, variance = np.diff(stretch.t_s), stretch.edge_s**2
        if len(length_s) < 2:
            continue
        scatter = np.diff(stretch.rates / mean) ** 2 / 2
        pair_s = (length_s[1:] + length_s[:-1]) / 2
        edges = (variance[:-2] + 4 * variance[1:-1] + variance[2:]) / (2 * pair_s**2)
        found.append((scatter - edges) * pair_s)
    return max(0.0, float(np.concatenate(found).mean())) if found else 0.0


def _noise(batched: Sequence[Stretch], white: float) -> FloatArray:
    """Relative covariance of the batches but for drift: white noise, and edges that neighbours share."""
    size = sum(len(stretch.t_s) - 1 for stretch in batched)
    noise = np.zeros((size, size))
    first = 0
    for stretch in batched:
        length_s, variance = np.diff(stretch.t_s), stretch.edge_s**2
        here = np.arange(first, first + len(length_s))
        noise[here, here] = (variance[:-1] + variance[1:]) / length_s**2 + white / length_s + FLOOR**2
        shared = -variance[1:-1] / (length_s[:-1] * length_s[1:])
        noise[here[:-1], here[1:]] = noise[here[1:], here[:-1]] = shared
        first += len(length_s)
    return noise


def _drift(batched: Sequence[Stretch]) -> FloatArray:
    """Covariances of the batches' means under Ornstein-Uhlenbeck processes of unit variance, one of each `TAU_S`.

    A covariance's double antiderivative, differenced twice over the batches' ends, is the integral over two batches.
    """
    ends = np.concatenate([stretch.t_s for stretch in batched])
    between = np.cumsum([len(stretch.t_s) for stretch in batched])[:-1] - 1  # from one stretch's end to the next one
    length_s = np.delete(np.diff(ends), between)
    apart = abs(ends[:, None] - ends) / TAU_S[:, None, None]
    average = batched[0].average_s / TAU_S[:, None, None]
    twice = _twice_integrated(apart, average) if average.any() else apart + np.expm1(-apart)
    products = np.diff(np.diff(twice, axis=1), axis=2)
    for axis in (1, 2):
        products = np.delete(products, between, axis=axis)
    covariance: FloatArray = -products * (TAU_S**2)[:, None, None] / np.outer(length_s, length_s)
    return covariance


def _twice_integrated(apart: FloatArray, average: FloatArray) -> FloatArray:
    """The double antiderivative of the covariance of running averages of that length; all in correlation times."""

    def four_times(u: FloatArray) -> FloatArray:
        u = abs(u)
        integral: FloatArray = np.expm1(-u) + u - u**2 / 2 + u**3 / 6
        return integral

    twice: FloatArray = (four_times(apart + average) - 2 * four_times(apart) + four_times(apart - average)) / average**2
    return twice


def _weights(values: FloatArray, drift: FloatArray, noise: FloatArray) -> FloatArray:
    """Posterior weight of each (`TAU_S`, `SIGMA`), from the differences between the batches alone."""
    size = len(values)
    contrasts = np.linalg.qr(np.column_stack([np.ones(size), np.eye(size)[:, 1:]]))[0][:, 1:]
    whiten = np.linalg.inv(np.linalg.cholesky(contrasts.T @ noise @ contrasts)) @ contrasts.T
    # In the eigenvectors of whitened drift all contrasts are independent, whatever SIGMA is.
    spectrum, vectors = np.linalg.eigh(whiten @ drift @ whiten.T)
    seen = (np.swapaxes(vectors, 1, 2) @ (whiten @ values)) ** 2
    expected = 1 + SIGMA[:, None] ** 2 * np.maximum(spectrum, 0.0)[:, None, :]
    log_likelihood = -0.5 * (np.log(expected) + seen[:, None, :] / expected).sum(axis=2)
    likelihood = np.exp(log_likelihood - log_likelihood.max())
    weights: FloatArray = likelihood / likelihood.sum()
    return weights


def _mixture_half_width(weights: FloatArray, deviations: FloatArray) -> float:
    """The ± that holds `COVERAGE` of a mixture of normals about 0, of those standard deviations."""
    low, high = 0.0, 3 * float(deviations.max())
    for _ in range(20):
        middle = (low + high) / 2
        inside = float(weights @ np.interp(middle / deviations, _DEVIATIONS, _INSIDE))
        low, high = (middle, high) if inside < COVERAGE else (low, middle)
    return high
