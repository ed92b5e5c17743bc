"""Measured GEMMs of one GPU in one number format, as the arrays a fit starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from flopwatt.analysis.calibrate.core import Array, Shapes
from gemmkernels.problem import DEFAULT_OUT_DTYPE, DTYPE_BYTES

LAYOUTS: Final = ("nt", "nn", "tn")
LAYOUT_CODES: Final = {name: float(code) for code, name in enumerate(LAYOUTS)}

FOLDS: Final = 5


@dataclass(frozen=True, slots=True)
class Points:
    """Shapes with one time each, and watts where there are some (NaN elsewhere), in the order they were measured.

    layout: codes of LAYOUT_CODES. left_out: reasons why rows were not used, and how many.
    """

    shapes: Shapes
    layout: Array
    time_s: Array
    power_w: Array
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.time_s)

    def take(self, rows: Any) -> Points:
        """Those of `rows`, an index or mask."""
        return Points(self.shapes.take(rows), self.layout[rows], self.time_s[rows], self.power_w[rows], self.left_out)

    @property
    def sites(self) -> Any:
        """A number for each point that says which (N, K) it has."""
        pairs = np.stack([self.shapes.n, self.shapes.k], axis=1)
        return np.unique(pairs, axis=0, return_inverse=True)[1].ravel()


def make_shapes(m: Any, n: Any, k: Any, batch: Any = 1, dtype: str = "bf16") -> Shapes:
    """Shapes of arrays that broadcast together, each at least 1."""
    m, n, k, batch = (np.asarray(size, dtype=float).ravel() for size in np.broadcast_arrays(m, n, k, batch))
    return Shapes(m, n, k, batch, DTYPE_BYTES[dtype], DTYPE_BYTES[DEFAULT_OUT_DTYPE[dtype]])


def folds(sites: Any, count: int = FOLDS, seed: int = 0) -> Any:
    """Which fold each point is in: whole sites where there are enough, else single points. sites: numbers [rows]."""
    groups = sites if sites.max() + 1 >= 2 * count else np.arange(len(sites))
    return (np.random.default_rng(seed).permutation(groups.max() + 1) % count)[groups]
