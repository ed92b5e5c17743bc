"""Time that grows with M, N and K: no GEMM is predicted much faster than a smaller one that it contains.

Real GPUs do reverse a little: a library hands 48 rows to a slower kernel than 64. How far is taken from the measured
points themselves, by size; what goes further is an error of the learned residual, and is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from flopwatt.analysis.calibrate.core import Array, Shapes
from flopwatt.analysis.calibrate.intervals import LEVEL
from flopwatt.analysis.calibrate.points import LAYOUT_CODES, Points
from flopwatt.analysis.calibrate.records import Growth
from flopwatt.analysis.calibrate.validation import SIZES_GFLOP, size_class

REVERSAL_LEAST: Final = 0.02
"""Logarithm that is noise anyway: what two runs of one GEMM differ by."""

_CLASS_LEAST: Final = 20
_COMPARED_MOST: Final = 4000

Seconds = Callable[[Shapes, Array], Array]


def learn(points: Points, seconds: Seconds) -> Growth:
    """The lattice over the domain of the points. seconds: of shapes and layout codes, at the least."""
    axes = [_axis(size) for size in (points.shapes.m, points.shapes.n, points.shapes.k)]
    m, n, k = (size.ravel() for size in np.meshgrid(*axes, indexing="ij"))
    shapes = Shapes(m, n, k, np.ones(len(m)), points.shapes.in_bytes, points.shapes.out_bytes)
    log_s = {}
    for layout, code in LAYOUT_CODES.items():
        if (points.layout == code).any():
            most = np.log(seconds(shapes, np.full(len(m), code))).reshape([len(axis) for axis in axes])
            for dimension in range(most.ndim):
                most = np.maximum.accumulate(most, axis=dimension)
            log_s[layout] = tuple(np.round(most, 5).ravel().tolist())
    lattice = [tuple(axis.astype(int).tolist()) for axis in axes]
    return Growth(m=lattice[0], n=lattice[1], k=lattice[2], log_s=log_s, reversal=_reversal(points))


def raised(growth: Growth, shapes: Shapes, layout: Array, time_s: Array, half: Array) -> Array:
    """The times [rows], none below what the slowest lattice shape inside its shape takes, noise apart.

    Noise is half of the 95 % interval, `half` [rows], or the measured reversal, both in logarithms.
    """
    axes = [np.asarray(axis, dtype=float) for axis in (growth.m, growth.n, growth.k)]
    place = [
        np.searchsorted(axis, size, side="right") - 1
        for axis, size in zip(axes, (shapes.m, shapes.n, shapes.k), strict=True)
    ]
    known = np.minimum.reduce(place) >= 0
    noise = np.maximum(np.asarray(growth.reversal)[size_class(shapes)], half)
    least: Array = np.zeros(len(shapes))
    for name, table in growth.log_s.items():
        rows = known & (layout == LAYOUT_CODES[name])
        log_s = np.asarray(table).reshape([len(axis) for axis in axes])
        least[rows] = np.exp(log_s[tuple(at[rows] for at in place)] - noise[rows])
    return np.maximum(time_s, least)


def _axis(size: Array) -> Array:
    """The least of a size, then powers of two and half-way between them up to the most."""
    powers = 2.0 ** np.arange(np.ceil(np.log2(size.max())) + 1)
    steps = np.concatenate([powers, 1.5 * powers[1:], [size.min()]])
    return np.unique(steps[(steps >= size.min()) & (steps <= size.max())])


def _reversal(points: Points) -> tuple[float, ...]:
    """By size class: how far, in logarithms, 95 % of measured shapes fall at most below the slowest inside them."""
    rows = np.random.default_rng(0).permutation(len(points))[:_COMPARED_MOST]
    sizes = np.stack([points.shapes.m, points.shapes.n, points.shapes.k, points.shapes.batch], axis=1)[rows]
    log_s, layout = np.log(points.time_s[rows]), points.layout[rows]
    drop = np.array([_fallen(row, sizes, log_s, layout) for row in range(len(rows))])
    size = size_class(points.shapes.take(rows))
    everywhere = _most(drop)
    return tuple(_most(drop[size == one], everywhere) for one in range(len(SIZES_GFLOP)))


def _fallen(row: int, sizes: Array, log_s: Array, layout: Array) -> float:
    inside = (sizes <= sizes[row]).all(axis=1) & (layout == layout[row])
    return float(log_s[inside].max() - log_s[row])


def _most(drop: Any, otherwise: float = REVERSAL_LEAST) -> float:
    if len(drop) < _CLASS_LEAST:
        return otherwise
    return max(round(float(np.quantile(drop, LEVEL)), 4), REVERSAL_LEAST)
