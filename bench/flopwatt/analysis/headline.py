"""The figures a user came for: TFLOPS, watts and TFLOPS per watt of a whole training step's GEMMs.

Sums of FLOPs over sums of time and energy, each GEMM weighted by how often one step runs it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from flopwatt.runs.records import Case, SuiteFact
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.stats import Interval, across_processes, launch_time, symmetric
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import Row, run_rows
from gemmkernels.problem import Problem


@dataclass(frozen=True, slots=True)
class SequenceGap:
    """A layer's GEMMs replayed in order, held against the sum of the same GEMMs measured singly.

    relative: (replayed − summed) / summed, with its interval.
    """

    replayed_s: float
    summed_s: float
    relative: Interval


@dataclass(frozen=True, slots=True)
class Headline:
    """Totals of one suite on one board with one backend and kind of inputs, sustained.

    flop, time_s, energy_j: of one step (one micro-batch over all tensor-parallel ranks). power_w, tflops_per_w,
    pj_per_flop, joules_per_token: None where any of the GEMMs has no energy; missing_energy says how many.
    coverage: share of the suite's planned FLOPs that were measured; below 1 the totals are of that part.
    """

    suite: str
    model: str | None
    layers: int | None
    gpu: str
    board_id: str | None
    origin: str
    backend: str
    inputs: str
    dtype: str
    processes: int
    flop: int
    coverage: float
    time_s: Interval
    tflops: Interval
    power_w: Interval | None
    energy_j: Interval | None
    tflops_per_w: Interval | None
    pj_per_flop: float | None
    joules_per_token: float | None
    tokens: int | None
    power_systematic: float | None
    missing_energy: int
    gap: SequenceGap | None


COMPLETE: Final = 0.9999
"""Share of the planned FLOPs from which on totals are those of the whole step."""

_GEMM: Final = ("role", "phase", "m", "n", "k", "batch", "dtype", "out_dtype", "layout", "scaling", "count")

_Key = tuple[str, str | None, str, str]
"""Suite, the format it was asked for, backend, inputs."""


def headlines(runs: Iterable[RunFile]) -> list[Headline]:
    """One headline for each training step, format asked for, backend and inputs that a run measured sustained."""
    return [headline for run in runs for headline in _of_run(run)]


def _of_run(run: RunFile) -> Iterator[Headline]:
    facts = {(fact.name, fact.dtype): fact for fact in run.header.suites if fact.tokens}
    if not facts:
        return
    groups: dict[_Key, list[Row]] = defaultdict(list)
    for row in run_rows(run):
        counted = row["headline"] and row["regime"] == "sustained" and (row["suite"], row["suite_dtype"]) in facts
        if counted and row["time_s"] is not None:
            groups[row["suite"], row["suite_dtype"], row["backend"], row["inputs"]].append(row)
    planned = _planned_flop(run)
    for key, rows in groups.items():
        yield _headline(run, facts[key[:2]], rows, planned[key])


def _planned_flop(run: RunFile) -> dict[_Key, int]:
    """FLOPs of one step that the run set out to measure."""
    planned: dict[_Key, int] = defaultdict(int)
    for entry in run.header.plan:
        if entry.process or entry.case.regime != "sustained" or entry.case.problem is None:
            continue
        for use in entry.uses:
            if use.headline:
                key = (use.suite, use.dtype, entry.case.backend, entry.case.inputs)
                planned[key] += entry.case.flop * use.count
    return planned


def _headline(run: RunFile, fact: SuiteFact, rows: Sequence[Row], planned_flop: int) -> Headline:
    by_process: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        by_process[row["process"]].append(row)
    # Only processes that measured the very same GEMMs can be averaged: of all, those that cover most.
    alike: dict[frozenset[tuple[object, ...]], list[list[Row]]] = defaultdict(list)
    for part in by_process.values():
        alike[frozenset(tuple(row[name] for name in _GEMM) for row in part)].append(part)
    whole = max(alike.values(), key=lambda parts: (_flop(parts[0]), len(parts)))
    flop = _flop(whole[0])
    first = whole[0][0]
    for part in whole:
        part.sort(key=lambda row: tuple(str(row[name]) for name in _GEMM))
    time = _total(whole, "time_s")
    missing = sum(any(part[index]["energy_j"] is None for part in whole) for index in range(len(whole[0])))
    energy = None if any(row["energy_j"] is None for part in whole for row in part) else _total(whole, "energy_j")
    coverage = flop / planned_flop if planned_flop else 1.0
    complete = coverage > COMPLETE
    per_watt = energy.reciprocal(flop * 1e-12) if energy else None
    return Headline(
        suite=fact.name,
        model=fact.model,
        layers=fact.layers,
        gpu=first["gpu"],
        board_id=first["board_id"],
        origin=first["origin"],
        backend=first["backend"],
        inputs=first["inputs"],
        dtype="+".join(sorted({row["dtype"] for row in whole[0]})),
        processes=len(whole),
        flop=flop,
        coverage=coverage,
        time_s=time,
        tflops=time.reciprocal(flop * 1e-12),
        power_w=_ratio(energy, time) if energy else None,
        energy_j=energy,
        tflops_per_w=per_watt,
        pj_per_flop=energy.value / flop * 1e12 if energy else None,
        joules_per_token=energy.value / fact.tokens if energy and fact.tokens and complete else None,
        tokens=fact.tokens,
        power_systematic=first["power_systematic"],
        missing_energy=missing,
        gap=_sequence_gap(run, first),
    )


def _flop(rows: Sequence[Row]) -> int:
    return sum(row["flop"] * row["count"] for row in rows)


def _total(processes: Sequence[Sequence[Row]], column: str) -> Interval:
    """The count-weighted sum of a column, its interval about the board's truth: see `across_processes`."""
    return across_processes([_sum(rows, column) for rows in processes])


def _sum(rows: Sequence[Row], column: str) -> Interval:
    """One process's sum with the rows' own intervals in quadrature; without one where any row has none."""
    total, variance = sum(row[column] * row["count"] for row in rows), 0.0
    for row in rows:
        ends = _ends(row, column, f"{column}_low", f"{column}_high")
        if ends is None:
            return Interval(total)
        variance += (row["count"] * (ends[1] - ends[0]) / 2) ** 2
    return symmetric(total, math.sqrt(variance))


def _ends(row: Row, column: str, low: str, high: str) -> tuple[float, float] | None:
    """The row's interval. Energy has none of its own among the columns: that of TFLOPS/W is the same, inverted."""
    if column == "energy_j":
        if row["tflops_per_w_low"] is None or row["tflops_per_w_high"] is None:
            return None
        return row["flop"] * 1e-12 / row["tflops_per_w_high"], row["flop"] * 1e-12 / row["tflops_per_w_low"]
    return None if row[low] is None or row[high] is None else (row[low], row[high])


def _ratio(energy: Interval, time: Interval) -> Interval:
    """Mean power over the step; its interval is the energy's, which holds the time's own error already."""
    value = energy.value / time.value
    half = energy.relative_half_width
    return symmetric(value, value * half if math.isfinite(half) else None)


def _sequence_gap(run: RunFile, like: Row) -> SequenceGap | None:
    """How the replay of one layer compares with the sum of its GEMMs, for the headline's suite and backend."""
    singles: dict[Problem, list[Interval]] = defaultdict(list)
    replays: list[tuple[Case, Interval]] = []
    for record in run.records:
        case = record.case
        alike = (case.backend, case.inputs, case.regime) == (like["backend"], like["inputs"], "sustained")
        if record.status != "ok" or not alike or not isinstance(record.measurement, RawMeasurement):
            continue
        time = launch_time(record.measurement, case.regime)
        if time is None:
            continue
        if case.problem is not None:
            singles[case.problem].append(time)
        elif any((use.suite, use.dtype) == (like["suite"], like["suite_dtype"]) for use in record.uses):
            replays.append((case, time))
    for case, replayed in replays:
        if all(problem in singles for problem in case.problems):
            return _gap(replayed, [singles[problem] for problem in case.problems])
    return None


def _gap(replayed: Interval, parts: Sequence[Sequence[Interval]]) -> SequenceGap:
    summed = sum(sum(t.value for t in times) / len(times) for times in parts)
    variance = sum((times[0].value * _finite(times[0].relative_half_width)) ** 2 for times in parts)
    half = math.hypot(_finite(replayed.relative_half_width), math.sqrt(variance) / summed)
    ratio = replayed.value / summed
    return SequenceGap(replayed.value, summed, Interval(ratio - 1, ratio - 1 - half * ratio, ratio - 1 + half * ratio))


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
