"""How others represent the time of a GEMM, fitted to the same points: what a calibration is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import lightgbm
import numpy as np
from scipy.spatial import KDTree

from flopwatt.analysis.calibrate import features, smooth
from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.core import Array, Shapes
from flopwatt.analysis.calibrate.points import Points

_NEIGHBOURS: Final = 8


def roofline(known: Points, asked: Shapes, chip: Chip) -> Array:
    """Peak FLOP/s or peak bandwidth, whichever takes longer."""
    return features.roofline(asked, chip)


def constant_efficiency(known: Points, asked: Shapes, chip: Chip) -> Array:
    """The same at one efficiency and one share of bandwidth, those with the least median error."""
    best = None
    for efficiency in np.linspace(0.3, 1.0, 36):
        for bandwidth in np.linspace(0.2, 1.0, 33):
            error = np.median(np.abs(np.log(_derated(known.shapes, chip, efficiency, bandwidth) / known.time_s)))
            if best is None or error < best[0]:
                best = error, efficiency, bandwidth
    assert best is not None
    return _derated(asked, chip, best[1], best[2])


def flop_bins(known: Points, asked: Shapes, chip: Chip) -> Array:
    """One efficiency for each factor of two in FLOP, as Calculon has it."""
    rate = known.shapes.flop / known.time_s
    bins = np.floor(np.log2(known.shapes.flop))
    names = np.unique(bins)
    medians = np.array([np.median(rate[bins == name]) for name in names])
    nearest = np.abs(np.floor(np.log2(asked.flop))[:, None] - names).argmin(axis=1)
    return np.asarray(asked.flop / medians[nearest])


def interpolation(known: Points, asked: Shapes, chip: Chip) -> Array:
    """Utilisation of the roofline, weighted by inverse distance in log sizes, as aiconfigurator has it."""
    use = np.log(features.roofline(known.shapes, chip) / known.time_s)
    distance, rows = KDTree(_logs(known.shapes)).query(_logs(asked), k=min(_NEIGHBOURS, len(known)))
    weight = 1.0 / (distance + 1e-6)
    return np.asarray(features.roofline(asked, chip) / np.exp((use[rows] * weight).sum(axis=1) / weight.sum(axis=1)))


def boosted_trees(known: Points, asked: Shapes, chip: Chip) -> Array:
    """LightGBM on sizes, tiles and waves, of the logarithm of time over the roofline."""
    asked_x, x = waves(asked, chip), waves(known.shapes, chip)
    return np.asarray(np.exp(learned(x, np.log(known.time_s), asked_x)))


def waves(shapes: Shapes, chip: Chip) -> Array:
    """Sizes, tiles and waves, with the roofline where a calibration has its core."""
    return features.sizes(shapes, features.roofline(shapes, chip), chip, np.zeros(len(shapes)))


def learned(x: Array, y: Array, asked: Array) -> Array:
    """Y at asked rows, by LightGBM with squared error, fewer leaves where rows are few."""
    few = len(y) <= 3000
    settings = {
        "num_leaves": 15 if few else 63, "learning_rate": 0.05, "min_data_in_leaf": 3 if few else 10,
        "feature_fraction": 0.5, "bagging_fraction": 0.8, "bagging_freq": 1, "seed": 0, "num_threads": 1, "verbose": -1,
    }  # fmt: skip
    data = lightgbm.Dataset(x, y, params={"min_data_in_bin": 1 if few else 3, "verbose": -1})
    return np.asarray(lightgbm.train(settings, data, 600).predict(asked))


def gaussian_process(known: Points, asked: Shapes, chip: Chip) -> Array:
    """A process over log sizes, of the logarithm of time over the roofline; at most 1,000 of the points."""
    process = smooth.learn(_logs(known.shapes), np.log(known.time_s / features.roofline(known.shapes, chip)))
    return np.asarray(features.roofline(asked, chip) * np.exp(process.evaluate(_logs(asked))))


def told(known: Points, asked: Shapes, chip: Chip, known_sibling: Array, asked_sibling: Array) -> Array:
    """Boosted trees that are told what another GPU's table holds of the very shapes asked: no rival, but a measure of
    what a table has of its own, which no prediction from other shapes can hold. *_sibling: seconds.
    """
    x, asked_x = (
        np.column_stack([waves(shapes, chip), np.log(seconds / features.roofline(shapes, chip))])
        for shapes, seconds in ((known.shapes, known_sibling), (asked, asked_sibling))
    )
    return np.asarray(asked_sibling * np.exp(learned(x, np.log(known.time_s / known_sibling), asked_x)))


ALL: Final[Mapping[str, Callable[[Points, Shapes, Chip], Array]]] = {
    "roofline": roofline,
    "constant efficiency": constant_efficiency,
    "FLOP bins": flop_bins,
    "log-distance interpolation": interpolation,
    "plain boosted trees": boosted_trees,
    "Gaussian process": gaussian_process,
}
"""A name for each way from known points, asked shapes and their chip to seconds."""


def _derated(shapes: Shapes, chip: Chip, efficiency: float, bandwidth: float) -> Array:
    return np.asarray(
        np.maximum(shapes.flop / (chip.flop_per_s * efficiency), shapes.bytes / (chip.bytes_per_s * bandwidth))
    )


def _logs(shapes: Shapes) -> Array:
    return np.log2(np.stack([shapes.m, shapes.n, shapes.k], axis=1))
