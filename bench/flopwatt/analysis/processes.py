"""Rows of the same case from several fresh processes as one: their means, and intervals from their scatter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, Final

from flopwatt.runs.stats import mean_interval
from flopwatt.runs.tidy import Row

IDENTITY: Final = (
    "run_id", "gpu", "board_id", "suite", "role", "phase", "m", "n", "k", "batch", "dtype", "out_dtype", "layout",
    "scaling", "backend", "config", "regime", "effort", "inputs", "cache", "flop", "status",
)  # fmt: skip
"""Columns in which rows must agree to be the same case."""

_WITH_INTERVAL: Final = ("time_s", "tflops", "power_w", "tflops_per_w")
_PLAIN: Final = (
    "energy_j",
    "pj_per_flop",
    "peak_fraction",
    "clock_mhz",
    "temp_c",
    "throttle_power",
    "throttle_thermal",
)


def merge(rows: Iterable[Row]) -> list[Row]:
    """One row a case, in the order of its first. A case measured by one process keeps its own interval.

    A quantity is averaged over the processes that have it; `processes` says how many rows went in.
    """
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in IDENTITY)].append(row)
    return [_merged(group) for group in groups.values()]


def _merged(group: list[Row]) -> Row:
    merged = {**group[0], "processes": len(group)}
    if len(group) == 1:
        return merged
    for name in (*_WITH_INTERVAL, *_PLAIN):
        values = [row[name] for row in group if row[name] is not None]
        if not values:
            continue
        interval = mean_interval(values)
        merged[name] = interval.value
        if name in _WITH_INTERVAL and len(values) > 1:
            merged[f"{name}_low"], merged[f"{name}_high"] = interval.low, interval.high
    return merged
