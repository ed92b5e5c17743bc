"""Public GEMM tables as points, split by (N, K) pairs, and the rows of one that a budget would have bought."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from flopwatt.analysis.calibrate.chip import Chip, chip_of
from flopwatt.analysis.calibrate.core import Array, Shapes
from flopwatt.analysis.calibrate.points import Points, make_shapes
from flopwatt.runs import gpus
from flopwatt.runs.suites.calibration import farthest_first

SYSTEMS: Final = {
    "A100": ("a100_sxm", "A100-SXM4-80GB"), "H100": ("h100_sxm", "H100-SXM5-80GB"),
    "H200": ("h200_sxm", "H200-SXM5-141GB"), "B200": ("b200_sxm", "B200-SXM6-180GB"),
    "GB200": ("gb200", "GB200-186GB"), "L40S": ("l40s", "L40S-48GB"),
}  # fmt: skip
FORMATS: Final = {"bf16": "bfloat16", "fp8_e4m3": "fp8"}
SPLIT_SEED: Final = 2026


def installed() -> Path | None:
    """Where the public tables lie; None where `aiconfigurator-core` is not installed."""
    spec = find_spec("aiconfigurator_core")
    return (
        Path(next(iter(spec.submodule_search_locations))) / "systems/data"
        if spec and spec.submodule_search_locations
        else None
    )


def load(root: Path, gpu: str, stack: str, dtype: str) -> Points | None:
    """A GPU's newest table of a stack in one format, equal shapes averaged; None where it has none."""
    found = sorted((root / SYSTEMS[gpu][0] / "gemm" / stack).glob("*/gemm_perf.parquet"))
    return read(found[-1], dtype) if found else None


def read(path: Path, dtype: str) -> Points | None:
    """A table's rows of one format, equal shapes averaged; None where it has none."""
    table = pd.read_parquet(path)
    table = table[(table["gemm_dtype"] == FORMATS[dtype]) & (table["m"] > 0) & (table["latency"] > 0)]
    if table.empty:
        return None
    if "power" not in table:
        table = table.assign(power=np.nan)
    table = table.groupby(["m", "n", "k"], as_index=False).agg(latency=("latency", "median"), power=("power", "median"))
    shapes = make_shapes(table["m"], table["n"], table["k"], dtype=dtype)
    time_s, watts = table["latency"].to_numpy() * 1e-3, table["power"].to_numpy(dtype=float)
    return Points(shapes, np.zeros(len(table)), time_s, watts)


def chip(gpu: str, dtype: str) -> Chip:
    """Published figures of a GPU."""
    spec = next(one for one in gpus.specs() if one.name == SYSTEMS[gpu][1])
    found = chip_of(spec, dtype)
    assert found is not None
    return found


def test_pairs(tables: Iterable[Points], inner: bool) -> tuple[set[tuple[float, float]], set[tuple[float, float]]]:
    """(N, K) pairs to leave out of fitting everywhere, and those to judge on: a quarter of all pairs of all tables.

    inner: for choosing a model: a quarter of the rest is judged on, and the quarter that counts stays unseen.
    """
    pairs = sorted({pair for table in tables for pair in _pairs(table)})
    dealt = [pairs[i] for i in np.random.default_rng(SPLIT_SEED).permutation(len(pairs))]
    quarter = len(dealt) // 4
    outer = set(dealt[:quarter])
    if not inner:
        return outer, outer
    judged = set(dealt[quarter : quarter + 3 * quarter // 4])
    return outer | judged, judged


def among(points: Points, pairs: set[tuple[float, float]]) -> Array:
    """Which points have one of these (N, K) pairs."""
    return np.array([pair in pairs for pair in _pairs(points)])


def scatter(points: Points, value: Array) -> float:
    """Mean absolute error, in percent, that no law escapes: of neighbouring M at one (N, K) which cost the same.

    Of those of 2 to 15 that four does not divide, at sites that have them all; NaN where none has. Multiples of four
    are read by other kernels, and in tables made row by row after GEMMs of another format.
    """
    wanted = np.array([2, 3, 5, 6, 7, 9, 10, 11, 13, 14, 15])
    rows = np.flatnonzero(np.isin(points.shapes.m, wanted))
    order = rows[np.lexsort((points.shapes.m[rows], points.shapes.k[rows], points.shapes.n[rows]))]
    sites = points.sites[order]
    whole = np.isin(sites, np.flatnonzero(np.bincount(sites) == len(wanted)))
    if not whole.any():
        return float("nan")
    steps = np.diff(np.log(value[order][whole]).reshape(-1, len(wanted)), axis=1)[:, np.diff(wanted) == 1]
    return float(np.abs(steps).mean() / np.sqrt(2) * 100)


def matched(points: Points, asked: Shapes) -> Array:
    """Seconds that these points hold of the asked shapes; NaN where they lack one."""
    held = dict(zip(_sizes(points.shapes), points.time_s.tolist(), strict=True))
    return np.array([held.get(size, np.nan) for size in _sizes(asked)])


def bought(points: Points, count: int) -> Points:
    """The first `count` of these shapes in the order of our own design."""
    sizes = np.stack([points.shapes.m, points.shapes.n, points.shapes.k], axis=1)
    return points.take(np.array(farthest_first(np.log2(sizes), count)))


def _pairs(points: Points) -> list[tuple[float, float]]:
    return list(zip(points.shapes.n.tolist(), points.shapes.k.tolist(), strict=True))


def _sizes(shapes: Shapes) -> list[tuple[float, float, float]]:
    return list(zip(shapes.m.tolist(), shapes.n.tolist(), shapes.k.tolist(), strict=True))
