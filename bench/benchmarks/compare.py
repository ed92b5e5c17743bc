"""Whether a comparison can be believed: how often equal runs are called different, and a slower one slower.

Each pair is two runs of one GEMM on one simulated board, three fresh processes each as `normal` effort has them, with
the scenario's run-to-run spread of 0.5 % and its drift. A slower run's kernel takes 3 % longer. The first process of
each side alone stands for runs that were not repeated. Two boards, an A100 and an H100, each have a gain and an offset
of their own: the truth is what a perfect sensor would show.

Exit code 1 where a line is outside its bound. Two gains that are each as likely anywhere within ±5 % are further apart
than ±7.1 %, their quadrature, in 8.6 % of all pairs: hence the bound of the two boards.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from flopwatt.analysis.comparing.comparison import Comparison, Options, RunComparison, compare
from flopwatt.analysis.comparing.ratios import WORDS
from flopwatt.measurement.case import measure_case
from flopwatt.measurement.simulation.gpu import SimulatedGpu
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.simulation.scenario import Scenario
from flopwatt.runs.records import SCHEMA_VERSION, Case, Record, RunHeader, Segment, case_id
from flopwatt.runs.store import RunFile
from gemmkernels.problem import Problem

CASE: Final = Case(problem=Problem(8192, 8192, 8192, layout="nt"), backend="torch")
PROCESSES: Final = 3
SLOWER: Final = 1.03
METRICS: Final = ("time", "tflops-per-w")
WHEN: Final = "2026-01-01T00:00:00Z"

EQUAL, LATER, BOARDS = "equal runs", "3 % slower", "A100, then H100"


class Line(NamedTuple):
    """One line of the table: which pairs, by which metric, of how many processes a side."""

    pairs: str
    metric: str
    processes: int


class Result(NamedTuple):
    """A pair's verdict; whether its statistical interval holds the truth, and whether the one with gains does."""

    line: Line
    verdict: str
    covered: bool
    covered_with_gains: bool
    half_width: float


def measured(scenario: Scenario, seed: int, board: int) -> RunFile:
    """A run of the case in fresh processes, as a file would hold it."""
    records, segments = [], []
    for process in range(PROCESSES):
        rig = SimulatedRig(scenario, seed=seed, board=board, process=process, idle=False)
        outcome = measure_case(rig, CASE, seed=seed + process, soak=True)
        records.append(
            Record(
                id=f"{seed}-{process}",
                case_id=case_id(CASE),
                segment=process,
                origin="simulated",
                started=WHEN,
                process=process,
                case=CASE,
                status="ok",
                energy_status=outcome.energy_status,
                measurement=outcome.measurement,
            )
        )
        segments.append(
            Segment(
                segment=process,
                started=WHEN,
                environment=rig.environment,
                board_id=rig.board_id,
                sensor=rig.sensor,
            )
        )
    header = RunHeader(
        schema=SCHEMA_VERSION, id=f"{scenario.gpu.name} {seed}", created=WHEN, origin="simulated", flopwatt="0"
    )
    return RunFile(Path(str(seed)), header, tuple(segments), tuple(records))


def truth(scenario: Scenario) -> dict[str, float]:
    """What each metric truly is over all runs, apart from a factor common to all scenarios."""
    steady = SimulatedGpu(scenario).steady(CASE)
    return {"time": steady.time_s, "tflops-per-w": 1 / (steady.time_s * steady.power_w)}


@functools.cache
def slowed(chip: str) -> Scenario:
    """The chip with a backend whose kernel takes 3 % longer, the power cap's answer included."""
    scenario = load_scenario(chip)
    goal_s = truth(scenario)["time"] * SLOWER
    backend = scenario.backend(CASE.backend)
    slower, low, high = scenario, 0.5 * backend.efficiency, backend.efficiency
    for _ in range(40):
        middle = msgspec.structs.replace(backend, efficiency=(low + high) / 2)
        slower = msgspec.structs.replace(scenario, backends={**scenario.backends, CASE.backend: middle})
        low, high = (middle.efficiency, high) if truth(slower)["time"] > goal_s else (low, middle.efficiency)
    return slower


def one_pair(seed: int) -> list[Result]:
    """A board's pairs: run against its like, against a slower one, and an A100 against it."""
    h100, a100 = load_scenario("h100"), load_scenario("a100")
    base = measured(h100, 3 * seed, seed)
    pairs = (
        (EQUAL, base, measured(h100, 3 * seed + 1, seed), h100, h100),
        (LATER, base, measured(slowed("h100"), 3 * seed + 2, seed), h100, slowed("h100")),
        (BOARDS, measured(a100, 3 * seed + 1, seed), base, a100, h100),
    )
    results: list[Result] = []
    for name, left, right, scenario, other in pairs:
        true, also = truth(scenario), truth(other)
        ratios = {metric: also[metric] / true[metric] for metric in METRICS}
        results += held_against(name, compare(left, right), PROCESSES, ratios)
        results += held_against(name, compare(alone(left), alone(right)), 1, ratios)
    return results


def alone(run: RunFile) -> RunFile:
    """The run as if only its first process had been."""
    return RunFile(run.path, run.header, run.segments[:1], run.records[:1])


def held_against(name: str, result: RunComparison, processes: int, ratios: dict[str, float]) -> Iterator[Result]:
    """The verdict by each metric, and the intervals against the true ratio."""
    for metric in METRICS:
        found = result.judged(result.cases[0], metric)
        if found is not None:
            line = Line(name, metric, processes)
            statistical = inside(ratios[metric], found.interval.low, found.interval.high)
            total = inside(ratios[metric], found.total.low, found.total.high)
            yield Result(line, found.verdict, statistical, total, half_width(found))


def inside(value: float, low: float | None, high: float | None) -> bool:
    """Whether an interval holds the value; one that is not there holds nothing."""
    return low is not None and high is not None and low <= value <= high


def half_width(found: Comparison) -> float:
    """Half the statistical interval over the ratio."""
    return found.interval.relative_half_width


def bound(line: Line, results: Sequence[Result]) -> tuple[str, bool | None]:
    """What the line must hold, and whether it does; None where it is shown for information."""
    counts = Counter(result.verdict for result in results)
    good, bad = WORDS[line.metric]
    if line.pairs == EQUAL:
        return "different ≤ 5 %", counts[good] + counts[bad] <= 0.05 * len(results)
    if line.pairs == LATER and line.metric == "time" and line.processes > 1:
        return "slower ≥ 95 %", counts[bad] >= 0.95 * len(results)
    if line.pairs == BOARDS and line.metric != "time":
        return "with gains ≥ 88 %", sum(result.covered_with_gains for result in results) >= 0.88 * len(results)
    return "", None


def show(pairs: int, found: Sequence[Sequence[Result]]) -> bool:
    """Prints the table; whether every line holds."""
    lines: dict[Line, list[Result]] = defaultdict(list)
    for result in (result for results in found for result in results):
        lines[result.line].append(result)
    title = f"{pairs} pairs, 8192³ bf16, threshold {Options().threshold:.0%}"
    table = Table(title=title, title_justify="left", box=None)
    names = ("pair", "metric", "processes", "better", "worse", "same", "inconclusive", "half-width")
    for name in (*names, "coverage", "with gains", "bound", "holds"):
        table.add_column(name, justify="left" if name in ("pair", "metric", "bound") else "right")
    all_hold = True
    for line, results in lines.items():
        counts = Counter(result.verdict for result in results)
        shares = [f"{counts[verdict] / len(results):.1%}" for verdict in (*WORDS[line.metric], "same", "inconclusive")]
        covered = [np.mean([result[index] for result in results]) for index in (2, 3)]
        words, holds = bound(line, results)
        all_hold &= holds is not False
        half = f"{np.median([result.half_width for result in results]):.2%}"
        verdict = "" if holds is None else "yes" if holds else "NO"
        coverage = [f"{share:.1%}" for share in covered]
        table.add_row(line.pairs, line.metric, str(line.processes), *shares, half, *coverage, words, verdict)
    Console(width=150).print(table)
    return all_hold


def main() -> int:
    """Prints the table; 1 where a line is out of its bound."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=500, help="of each kind")
    pairs = parser.parse_args().pairs
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        return 0 if show(pairs, pool.map(one_pair, range(pairs), chunksize=5)) else 1


if __name__ == "__main__":
    sys.exit(main())
