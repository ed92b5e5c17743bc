"""A Gaussian process as plain arrays: fitted by scikit-learn, kept as numbers, evaluated by numpy alone."""

from __future__ import annotations

import warnings
from typing import Final

import numpy as np

from flopwatt.analysis.calibrate.core import Array
from flopwatt.runs.frozen import Frozen

POINTS_MOST: Final = 1000
_TUNED_ON: Final = 300
_CHUNK: Final = 512
"""Rows at a time: their distances to all points stay in the cache."""


class Process(Frozen, frozen=True, kw_only=True):
    """A Matérn 3/2 process with one length a feature: mean at x = variance · Σ weight · k(x, point).

    points: [count][features], already divided by the lengths; offset, length: of each feature of x.
    """

    offset: tuple[float, ...]
    length: tuple[float, ...]
    variance: float
    points: tuple[tuple[float, ...], ...]
    weight: tuple[float, ...]

    def evaluate(self, x: Array) -> Array:
        """The mean at each row of x [rows, features]."""
        points = np.asarray(self.points)
        weight = np.asarray(self.weight)
        squares = (points**2).sum(axis=1)
        out: Array = np.empty(len(x))
        for start in range(0, len(x), _CHUNK):
            part = (x[start : start + _CHUNK] - np.asarray(self.offset)) / np.asarray(self.length)
            distance = np.maximum((part**2).sum(axis=1)[:, None] + squares - 2.0 * part @ points.T, 0.0)
            distance *= 3.0
            np.sqrt(distance, out=distance)
            out[start : start + _CHUNK] = ((1.0 + distance) * np.exp(-distance)) @ weight
        return out * self.variance


def learn(x: Array, y: Array) -> Process:
    """A process fitted to y [rows] over x [rows, features], of which at most POINTS_MOST are used."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    order = np.random.default_rng(0).permutation(len(y))[:POINTS_MOST]  # tables come sorted by size
    x, y = x[order], y[order]
    offset, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 1e-6, spread, 1e6)  # a feature that never varied is not looked at
    z = (x - offset) / spread
    kernel = ConstantKernel(0.01, (1e-5, 10.0)) * Matern(np.full(x.shape[1], 2.0), (0.1, 100.0), nu=1.5)
    kernel = kernel + WhiteKernel(1e-3, (1e-5, 0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a length at its bound: the feature does not matter
        tuned = GaussianProcessRegressor(kernel).fit(z[:_TUNED_ON], y[:_TUNED_ON])
        fitted = GaussianProcessRegressor(tuned.kernel_, optimizer=None).fit(z, y)
    variance, matern = fitted.kernel_.k1.k1.constant_value, fitted.kernel_.k1.k2
    length = np.broadcast_to(matern.length_scale, x.shape[1])
    return Process(
        offset=tuple(offset.tolist()),
        length=tuple((spread * length).tolist()),
        variance=float(variance),
        points=tuple(tuple(row) for row in np.round(z / length, 9).tolist()),
        weight=tuple(np.asarray(fitted.alpha_).ravel().tolist()),
    )
