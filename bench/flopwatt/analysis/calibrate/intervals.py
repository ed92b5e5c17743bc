"""Prediction intervals from held-out errors: locally scaled, conformal, wider outside what was measured."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from flopwatt.analysis.calibrate import forest
from flopwatt.analysis.calibrate.core import Array, Shapes
from flopwatt.analysis.calibrate.forest import Forest
from flopwatt.analysis.calibrate.records import Domain, Interval95

LEVEL: Final = 0.95
LEAST: Final = 0.003
"""Logarithmic error below which no interval goes: clocks do not hold still to a third of a percent."""

GROWTH: Final = 0.33
"""Widening of an interval for each octave outside the domain, relative.

What holds 93 to 97 % of the shapes over 256 GFLOP of public A100, H100 and B200 tables, fitted below 64 GFLOP.
"""

FEW: Final = 20

UNKNOWN_HALF: Final = 0.9
"""Half width, in logarithms, where nothing was measured: a core that starts from a spec sheet is off by up to 2.5 ×."""


def fit(x: Array, error: Array) -> Interval95:
    """The interval of predictions with held-out logarithmic errors `error` [rows] at features x [rows, features]."""
    size = np.abs(error)
    floor = max(float(np.quantile(size, 0.2)), LEAST)
    ceiling = max(float(np.quantile(size, 0.98)), 2 * floor)
    spread = Forest()
    scores = size / floor
    if len(size) >= 100:
        # Scores come from halves of which the other taught the scale: one judged on its own rows flatters itself.
        half = np.random.default_rng(0).permutation(len(size)) % 2 == 0
        for judged in (half, ~half):
            taught = _spread(x[~judged], size[~judged])
            scores[judged] = size[judged] / _scale(x[judged], taught, floor, ceiling)
        spread = _spread(x, size)
    quantile = _quantile(scores)
    if len(size) < FEW:
        # So few errors have no 95 % quantile: their largest, stretched, up to what no measurement at all would get.
        # The fewer they are, the more of that stays: one point may lie on the law that a fit starts from by luck.
        quantile = quantile * (1 + (FEW - len(size)) / 10)
        quantile = float(np.clip(quantile, UNKNOWN_HALF / len(size) / floor, UNKNOWN_HALF / floor))
    return Interval95(quantile=quantile, spread=spread, floor=floor, ceiling=ceiling, growth=GROWTH)


def unknown(half: float = UNKNOWN_HALF, growth: float = GROWTH) -> Interval95:
    """The interval where nothing was measured."""
    return Interval95(quantile=half, spread=Forest(), floor=1.0, ceiling=1.0, growth=growth)


def half_width(interval: Interval95, x: Array, octaves: Array) -> Array:
    """Half of the 95 % interval, in logarithms [rows]."""
    scale = _scale(x, interval.spread, interval.floor, interval.ceiling)
    return np.asarray(np.minimum(interval.quantile * scale * (1 + interval.growth * octaves), 5.0))


def domain_of(shapes: Shapes, layouts: tuple[str, ...]) -> Domain:
    """The box that holds these shapes."""
    sizes = _logs(shapes)
    low, high = sizes.min(axis=0).tolist(), sizes.max(axis=0).tolist()
    return Domain(low=tuple(low), high=tuple(high), layouts=layouts)


def octaves_outside(domain: Domain | None, shapes: Shapes, known_layout: npt.NDArray[np.bool_]) -> Array:
    """How far outside the domain each shape lies, in factors of two, summed over sizes; a new layout counts as one."""
    if domain is None:
        return np.ones(len(shapes))
    sizes = _logs(shapes)
    beyond = np.maximum(np.asarray(domain.low) - sizes, 0) + np.maximum(sizes - np.asarray(domain.high), 0)
    beyond[beyond < 1e-9] = 0.0
    return np.asarray(beyond[:, :4].max(axis=1) + beyond[:, 4] + ~known_layout)


def _spread(x: Array, size: Array) -> Forest:
    """Trees for the logarithm of how large errors are."""
    few = len(size) <= 3000
    return forest.learn(
        x, np.log(size + LEAST), leaves=4 if few else 15, rounds=30 if few else 60, seed=0, rate=0.08, sparse=few
    )


def _scale(x: Array, spread: Forest, floor: float, ceiling: float) -> Array:
    if not spread.trees:
        return np.full(len(x), floor)
    return np.clip(np.exp(spread.evaluate(x)), floor, ceiling)


def _quantile(scores: Array) -> float:
    """The conformal 95 % quantile: of n scores the ⌈0.95 (n + 1)⌉th smallest."""
    rank = min(int(np.ceil(LEVEL * (len(scores) + 1))), len(scores))
    return float(np.sort(scores)[rank - 1])


def _logs(shapes: Shapes) -> Array:
    return np.log2(np.stack([shapes.m, shapes.n, shapes.k, shapes.batch, shapes.flop], axis=1))
