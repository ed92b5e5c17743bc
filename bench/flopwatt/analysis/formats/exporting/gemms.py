"""The GEMMs that an export holds: those of models, those on a grid, and what a calibration predicts of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flopwatt.analysis.calibrate.core import Array, Shapes
from flopwatt.analysis.calibrate.points import make_shapes
from flopwatt.analysis.calibrate.predictor import Calibration, Prediction
from flopwatt.errors import SuiteError
from flopwatt.runs.suites import Model, list_models, load_model, training_gemms

TENSOR_PARALLEL: Final = (1, 2, 4, 8)
SQUARES: Final = tuple(round(2 ** (step / 2) / 64) * 64 for step in range(14, 30))
"""Sizes of the square GEMMs that stand for all where no others are asked for: 128 to 23168, two an octave."""

SIZES_MOST: Final = 65536
M_AN_OCTAVE: Final = 8
NK_AN_OCTAVE: Final = 2
"""Density of the grid of `table`: tokens finely, for waves of tiles are steps along M; weights coarsely, beside those
of known models exactly."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """GEMMs of one number format with their predictions. layout: None for the one that was measured."""

    dtype: str
    shapes: Shapes
    found: Prediction


def from_rows(rows: Sequence[tuple[int, int, int, int]], dtype: str) -> Shapes:
    """GEMMs of (m, n, k, batch)."""
    m, n, k, batch = np.array(rows, dtype=float).T
    return make_shapes(m, n, k, batch, dtype)


def predict(calibration: Calibration, dtype: str, shapes: Shapes) -> Predicted:
    """What `calibration` says of `shapes`. Raises InputError for a dtype or sizes that it cannot have."""
    sizes = (shapes.m, shapes.n, shapes.k)
    return Predicted(dtype, shapes, calibration.predict(*sizes, batch=shapes.batch, dtype=dtype))


def models(names: Iterable[str]) -> tuple[Model, ...]:
    """The models of that name or file, or all that are shipped where none is named. Raises SuiteError."""
    return tuple(load_model(name) for name in (tuple(names) or list_models()))


def weights(of: Iterable[Model]) -> tuple[tuple[int, int], ...]:
    """Distinct (N, K) of the linear layers' forward GEMMs, at every tensor-parallel degree the model can have."""
    found: set[tuple[int, int]] = set()
    for model, degree in itertools.product(of, TENSOR_PARALLEL):
        try:
            items = training_gemms(model.with_(tensor_parallel=degree), attention=False)
        except SuiteError:  # its heads or widths cannot be shared out so
            continue
        found |= {(item.problem.n, item.problem.k) for item in items if item.phase == "forward"}
    return tuple(sorted(found))


def forward(of: Iterable[Model], tokens: Sequence[int], dtype: str) -> Shapes:
    """Every distinct forward GEMM of the models, for each number of tokens."""
    return from_rows([(m, n, k, 1) for m in tokens for n, k in weights(of)], dtype)


def squares(dtype: str) -> Shapes:
    """Square GEMMs of every size that matters."""
    return from_rows([(size, size, size, 1) for size in SQUARES], dtype)


def table(of: Iterable[Model], dtype: str) -> Shapes:
    """A grid for a table that is interpolated: M finely, (N, K) coarsely and, exactly, those of the models."""
    m = _geometric(1, M_AN_OCTAVE)
    coarse = _geometric(64, NK_AN_OCTAVE)
    pairs = sorted({*itertools.product(coarse, coarse), *weights(of)})
    n, k = np.array(pairs, dtype=float).T
    return make_shapes(np.repeat(m, len(pairs)), np.tile(n, len(m)), np.tile(k, len(m)), dtype=dtype)


def inside(calibration: Calibration, dtype: str) -> Shapes:
    """A grid of the sizes that were measured, two an octave; every size where nothing was."""
    m, n, k = (one.ravel() for one in np.meshgrid(*(_geometric(least, NK_AN_OCTAVE) for least in (1, 64, 64))))
    whole = make_shapes(m, n, k, dtype=dtype)
    domain = calibration.fitted(dtype).domain
    if domain is None:
        return whole
    axes = np.log2([whole.m, whole.n, whole.k, whole.batch, whole.flop])
    low, high = (np.array(end)[:, None] for end in (domain.low, domain.high))
    return whole.take(((axes >= low) & (axes <= high)).all(axis=0))


def half_widths(value: Array, low: Array, high: Array) -> Array:
    """Half of each 95 % interval, relative to its value."""
    return np.asarray((high - low) / (2.0 * value))


def _geometric(least: int, an_octave: int) -> list[int]:
    """Sizes from `least` to SIZES_MOST, so many an octave; from 64 on multiples of 64, as tiles are."""
    steps = range(round(np.log2(SIZES_MOST / least) * an_octave) + 1)
    sizes = (least * 2 ** (step / an_octave) for step in steps)
    return sorted({round(size) if size < 64 else round(size / 64) * 64 for size in sizes})
