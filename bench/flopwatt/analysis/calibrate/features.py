"""What the learned residual sees of a GEMM: sizes, how they fill tiles and waves, alignment, and the core's view."""

from __future__ import annotations

from typing import Final

import numpy as np

from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.core import VIEW, Array, Shapes, View

_TILES: Final = (
    (64, 64), (64, 128), (128, 64), (128, 128), (64, 256), (128, 192), (192, 128), (128, 256), (256, 128), (256, 256),
)  # fmt: skip
_ROWS: Final = (64, 128, 256)
_ALIGNMENT_MOST: Final = 10.0

FEATURES: Final = 14 + 4 * len(_TILES) + 3 + len(_ROWS) + VIEW
"""Columns of `matrix`."""

_SMOOTH_VIEW: Final = (0, 1, 2, 3, 4, 6, 8)
"""Columns of the core's view that are continuous, or nearly."""

SMOOTH_FEATURES: Final = 5 + len(_SMOOTH_VIEW)
"""Columns of `smooth`."""


def matrix(shapes: Shapes, view: View, chip: Chip, layout: Array) -> Array:
    """[rows, FEATURES] for the trees. view: the core's. layout: 0 for nt, 1 for nn, 2 for tn."""
    return np.concatenate([sizes(shapes, view.seconds, chip, layout), view.columns], axis=1)


def sizes(shapes: Shapes, core_s: Array, chip: Chip, layout: Array) -> Array:
    """[rows, FEATURES - VIEW]: sizes, tiles, waves and alignment, and these seconds beside the roofline's."""
    m, n, k, batch = shapes.m, shapes.n, shapes.k, shapes.batch
    roof = roofline(shapes, chip)
    columns = [
        np.log2(m), np.log2(n), np.log2(k), np.log2(shapes.flop), np.log2(shapes.bytes),
        np.log2(shapes.flop / shapes.bytes), np.log2(m * n), np.log2(m / n), np.log2(n / k),
        np.log2(m * k), np.log2(n * k), np.log(core_s), np.log(core_s / roof), layout + 4.0 * np.log2(batch),
    ]  # fmt: skip
    for bm, bn in _TILES:
        tiles = np.ceil(m / bm) * np.ceil(n / bn) * batch
        waves = tiles / chip.sm_count
        whole = np.ceil(waves)
        columns += [
            np.log2(waves),
            waves / whole,
            m * n * batch / (tiles * bm * bn),
            np.log2(whole * chip.sm_count * bm * bn / (m * n * batch)),
        ]
    columns += [_alignment(size) for size in (m, n, k)]
    columns += [np.mod(m, rows) / rows for rows in _ROWS]
    return np.stack(columns, axis=1)


def smooth(shapes: Shapes, view: View, chip: Chip) -> Array:
    """[rows, SMOOTH_FEATURES] for the Gaussian process: log sizes, the core's distance from the roofline, its view."""
    m, n, k, batch = (np.log2(size) for size in (shapes.m, shapes.n, shapes.k, shapes.batch))
    off = np.log2(view.seconds / roofline(shapes, chip))
    return np.concatenate([np.stack([m, n, k, batch, off], axis=1), view.columns[:, _SMOOTH_VIEW]], axis=1)


def roofline(shapes: Shapes, chip: Chip) -> Array:
    """Seconds at the peak of the tensor cores or of DRAM, whichever is longer."""
    return np.asarray(np.maximum(shapes.flop / chip.flop_per_s, shapes.bytes / chip.bytes_per_s))


def _alignment(size: Array) -> Array:
    """log₂ of the largest power of two that divides each size, up to 2¹⁰."""
    whole = size.astype(np.int64)
    return np.asarray(np.minimum(np.log2((whole & -whole).astype(float)), _ALIGNMENT_MOST))
