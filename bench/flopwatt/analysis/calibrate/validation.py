"""Held-out errors as figures: over all shapes, large ones, by size and by (N, K) site, and what intervals cover."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from flopwatt.analysis.calibrate import intervals
from flopwatt.analysis.calibrate.core import Array, Shapes
from flopwatt.analysis.calibrate.records import Errors, Interval95, Site

LARGE_FLOP: Final = 16e9
_SIZES_GFLOP: Final = (0.01, 0.1, 1.0, 16.0, 64.0, 256.0, 1024.0)


def errors(
    shapes: Shapes, measured: Array, predicted: Array, covered: float, roofline: Array | None, sites: Any
) -> Errors:
    """Figures of held-out predictions. roofline: the same quantity by a plain roofline, None where it has none."""
    off = np.abs(predicted / measured - 1) * 100
    large = shapes.flop >= LARGE_FLOP
    edge = np.searchsorted(np.array(_SIZES_GFLOP) * 1e9, shapes.flop, side="right")
    by_size = [
        _site(off[edge == bin], size_gflop=_SIZES_GFLOP[bin - 1] if bin else 0.0) for bin in np.unique(edge).tolist()
    ]
    by_site = []
    for site in range(int(sites.max()) + 1):
        rows = np.flatnonzero(sites == site)
        by_site.append(_site(off[rows], n=int(shapes.n[rows[0]]), k=int(shapes.k[rows[0]])))
    return Errors(
        count=len(off),
        mape=_short(off.mean()),
        p90=_short(np.quantile(off, 0.9)),
        mape_large=_short(off[large].mean()) if large.any() else None,
        roofline_mape=None if roofline is None else _short((np.abs(roofline / measured - 1) * 100).mean()),
        coverage=covered,
        by_size=tuple(by_size),
        by_site=tuple(by_site),
    )


def coverage(interval: Interval95, x: Array, error: Array) -> float:
    """The share of logarithmic errors inside their interval."""
    return float(np.mean(np.abs(error) <= intervals.half_width(interval, x, np.zeros(len(error)))))


def _site(off: Array, n: int | None = None, k: int | None = None, size_gflop: float | None = None) -> Site:
    return Site(
        count=len(off), mape=_short(off.mean()), p90=_short(np.quantile(off, 0.9)), n=n, k=k, size_gflop=size_gflop
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")
