"""Rows of the same case from several fresh processes as one, each quantity with its interval about the board's truth.

A row's own interval is about the one process that measured it. Merged, it is about what fresh processes show on
average: Student's interval of their results; of one result alone, its own widened by the run-to-run spread, which the
other cases of the board tell where enough of them were repeated, and which is taken as 1 % where they do not.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

from flopwatt.runs.stats import RUN_TO_RUN, Interval, across_processes
from flopwatt.runs.tidy import Row

IDENTITY: Final = (
    "run_id", "gpu", "board_id", "suite", "role", "phase", "m", "n", "k", "batch", "dtype", "out_dtype", "layout",
    "scaling", "backend", "config", "regime", "effort", "inputs", "cache", "flop", "status", "count",
    "headline",
)  # fmt: skip
"""Columns in which rows must agree to be the same case."""

SEVERITY: Final = ("ok", "disputed", "unsteady", "unidentified", "refused", "unsupported")
"""Energy statuses, the best first: merged rows are as good as their worst."""

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


_Setting = tuple[str, str | None, str]
"""Run, board and regime: within them the spread between processes is taken to be the same for every case."""

REPEATS: Final = 10
"""Degrees of freedom from which on a measured run-to-run spread is believed: it is then known to 25 %."""


def merge(rows: Iterable[Row]) -> list[Row]:
    """One row a case, in the order of its first; intervals are about the board's truth.

    A quantity is averaged over the processes that have it; `processes` says how many rows went in.
    """
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in IDENTITY)].append(row)
    pools: dict[_Setting, list[list[Row]]] = defaultdict(list)
    for group in groups.values():
        pools[_setting(group)].append(group)
    spreads = {setting: {name: run_to_run(name, pool) for name in _WITH_INTERVAL} for setting, pool in pools.items()}
    return [_merged(group, spreads[_setting(group)]) for group in groups.values()]


def run_to_run(column: str, groups: Iterable[Sequence[Row]]) -> float:
    """Relative standard deviation of a column between processes, pooled over cases; 1 % where too few were repeated."""
    squares = degrees = 0.0
    for group in groups:
        values = [row[column] for row in group if row[column]]
        if len(values) > 1:
            mean = sum(values) / len(values)
            squares += sum((value / mean - 1) ** 2 for value in values)
            degrees += len(values) - 1
    return math.sqrt(squares / degrees) if degrees >= REPEATS else RUN_TO_RUN


def _setting(group: Sequence[Row]) -> _Setting:
    return group[0]["run_id"], group[0]["board_id"], group[0]["regime"]


def _merged(group: list[Row], spreads: dict[str, float]) -> Row:
    merged = {**group[0], "processes": len(group)}
    for name in _WITH_INTERVAL:
        low, high = f"{name}_low", f"{name}_high"
        results = [Interval(row[name], row[low], row[high]) for row in group if row[name] is not None]
        if results:
            interval = across_processes(results, spreads[name])
            merged[name], merged[low], merged[high] = interval.value, interval.low, interval.high
    worst = max(group, key=lambda row: SEVERITY.index(row["energy_status"]) if row["energy_status"] in SEVERITY else 0)
    merged["energy_status"], merged["energy_reason"] = worst["energy_status"], worst["energy_reason"]
    for name in _PLAIN:
        values = [row[name] for row in group if row[name] is not None]
        if values:
            merged[name] = sum(values) / len(values)
    return merged
