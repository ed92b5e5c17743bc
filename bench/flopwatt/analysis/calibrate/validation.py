"""Held-out errors as figures: over all shapes, large ones, by size and by (N, K) site, and what intervals cover."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flopwatt.analysis.calibrate import intervals
from flopwatt.analysis.calibrate.core import Array, Shapes
from flopwatt.analysis.calibrate.records import Errors, Site

LARGE_FLOP: Final = 16e9
SIZES_GFLOP: Final = (0.0, 0.01, 0.1, 1.0, 16.0, 64.0, 256.0, 1024.0)
"""Least GFLOP of each size class."""

TAUGHT_MOST: Final = 5000
"""Rows that teach an interval whose coverage is judged: more would change it little and take seconds."""

_SITES_LEAST: Final = 10
_ROWS_LEAST: Final = 4


def size_class(shapes: Shapes) -> Any:
    """The place in SIZES_GFLOP of each shape [rows]."""
    return np.searchsorted(np.array(SIZES_GFLOP[1:]) * 1e9, shapes.flop, side="right")


def errors(
    shapes: Shapes, measured: Array, predicted: Array, inside: npt.NDArray[np.bool_], roofline: Array | None, sites: Any
) -> Errors:
    """Figures of held-out predictions. inside: of `covered`. roofline: its prediction, None where it has none."""
    off = np.abs(predicted / measured - 1) * 100
    large = shapes.flop >= LARGE_FLOP
    size = size_class(shapes)
    by_size = [_site(off, inside, size == one, size_gflop=SIZES_GFLOP[one]) for one in np.unique(size).tolist()]
    by_site = []
    for rows in _together(sites):
        by_site.append(_site(off, inside, rows, n=int(shapes.n[rows[0]]), k=int(shapes.k[rows[0]])))
    return Errors(
        count=len(off),
        mape=_short(off.mean()),
        p90=_short(np.quantile(off, 0.9)),
        mape_large=_short(off[large].mean()) if large.any() else None,
        roofline_mape=None if roofline is None else _short((np.abs(roofline / measured - 1) * 100).mean()),
        coverage=_short(inside.mean()),
        by_size=tuple(by_size),
        by_site=tuple(by_site),
    )


def covered(x: Array, error: Array, sites: Any, seed: int = 0) -> npt.NDArray[np.bool_]:
    """Which logarithmic errors [rows] lie in an interval that was fitted to other sites alone: halves judge each other.

    x: [rows, features]. sites: numbers [rows]; where there are few of them, rows are dealt one by one. An interval
    judged on the errors that made it would cover more than it does of new ones.
    """
    inside = np.ones(len(error), dtype=bool)
    if len(error) < _ROWS_LEAST:
        return inside
    groups = sites if sites.max() + 1 >= _SITES_LEAST else np.arange(len(error))
    rng = np.random.default_rng(seed)
    half = (rng.permutation(groups.max() + 1) % 2 == 0)[groups]
    for judged in (half, ~half):
        taught = rng.permutation(np.flatnonzero(~judged))[:TAUGHT_MOST]
        interval = intervals.fit(x[taught], error[taught])
        width = intervals.half_width(interval, x[judged], np.zeros(int(judged.sum())))
        inside[judged] = np.abs(error[judged]) <= width
    return inside


def _together(sites: Any) -> list[Any]:
    """The rows of each site."""
    order = np.argsort(sites, kind="stable")
    return [rows for rows in np.split(order, np.flatnonzero(np.diff(sites[order])) + 1) if len(rows)]


def _site(
    off: Array,
    inside: npt.NDArray[np.bool_],
    rows: Any,
    n: int | None = None,
    k: int | None = None,
    size_gflop: float | None = None,
) -> Site:
    return Site(
        count=len(off[rows]),
        mape=_short(off[rows].mean()),
        p90=_short(np.quantile(off[rows], 0.9)),
        coverage=_short(inside[rows].mean()),
        n=n,
        k=k,
        size_gflop=size_gflop,
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")
