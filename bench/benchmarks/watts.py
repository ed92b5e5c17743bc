"""Whether the watts can be believed: bias and coverage of every figure on simulated boards, beside naive estimators.

Each seed is a board of its own, on which a process measures a GEMM under steady load in two 5 s windows, while the
naive estimators read the same sensor. With --all the seed is that board's day: five fresh processes, one after the
other; boards whose sensor lacks a counter, or has one that sees part of the time; and cases of the least effort. The
sensor's gain and offset are part of the truth here: no statistics removes them.

This run: what the process would show if it went on for ever, its own draw of the run-to-run spread included; each of
the five processes is held against its own. Board: what fresh processes show on average. Same seconds: the true energy
of the very stretch that was measured.

Exit code 1 where a line with bounds is outside them: |bias| at most 0.5 %, and coverage from 93 to 97 %. Where an
interval is wide on purpose, coverage above 93 % alone: one process for the board (its spread is assumed), bursts,
`fast`, which does not wait for the chip to warm through and is off by what its interval allows for, and sums of power
readings: they show fast drift so exactly that slower drift of the same pace, and more of it, cannot be excluded.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

from flopwatt.measurement.case import measure_case
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.simulation.scenario import Scenario, Sensor
from flopwatt.runs.energy import Energy, judge
from flopwatt.runs.records import Case, EffortName, Regime, SensorIdentity
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.stats import Interval, across_processes, launch_time
from gemmkernels.problem import Problem

CHIPS: Final = ("h100", "a100")
PROCESSES: Final = 5
BIAS_MOST: Final = 0.005
EXACT: Final = (0.93, 0.97)
WIDE: Final = (0.93, 1.0)
S: Final = 1_000_000_000
POLL_NS: Final = 50_000_000
WARM_NS: Final = 30 * S
"""How long the chip was under load before a process that is not the day's first."""


class Line(NamedTuple):
    """One line of the table: what estimates, over which load, about which truth, and the coverage it must have."""

    estimator: str
    load: str
    about: str
    bounds: tuple[float, float] | None = None


class Result(NamedTuple):
    """One seed's outcome of a line: relative error and relative half-width (NaN where there is no interval)."""

    line: Line
    error: float
    half_width: float


class Row(NamedTuple):
    """A case as any run measures it."""

    raw: RawMeasurement
    time: Interval
    energy: Energy

    @property
    def figures(self) -> dict[str, Interval]:
        """TFLOPS/W is joules of a launch upside down, and so they stand for it. Empty but for time without energy."""
        power_w, energy_j = self.energy.power_w, self.energy.energy_j
        watts = {"power": power_w, "TFLOPS/W": energy_j.reciprocal(1.0)} if power_w and energy_j else {}
        return {"time": self.time, **watts}


def gemm(side: int, effort: EffortName = "normal", regime: Regime = "sustained") -> Case:
    """A square bf16 GEMM by torch."""
    return Case(problem=Problem(side, side, side, layout="nt"), backend="torch", effort=effort, regime=regime)


def one_seed(chip: str, processes: int, seed: int) -> tuple[list[Result], int]:
    """The lines of one seed on one chip, and how many of its rows had energy that is not plainly `ok`."""
    scenario = _scenario(chip)
    case = gemm(8192)
    results: list[Result] = []
    rigs = [SimulatedRig(scenario, seed=seed, process=process, idle=False) for process in range(processes)]
    rows = [measured(rig, case, seed + process, warm=process > 0) for process, rig in enumerate(rigs)]
    for rig, row in zip(rigs, rows, strict=True):
        for name, true in truth(rig, case, this_run=True).items():
            results.append(held_against(Line(name, "2 × 5 s", "this run", EXACT), row.figures[name], true))
    results += [*edge_to_edge(rigs[0], rows[0].raw), *naive(scenario, seed)]
    if processes == PROCESSES:
        results += [*of_the_board(rigs[0], rows), *other_sensors(scenario, seed), *least_effort(scenario, seed)]
    return results, sum(row.energy.status != "ok" for row in rows)


def of_the_board(rig: SimulatedRig, rows: Sequence[Row]) -> Iterator[Result]:
    """What fresh processes say together, and what one may say alone, of the board that they ran on."""
    for name, true in truth(rig, gemm(8192), this_run=False).items():
        found = [row.figures[name] for row in rows]
        for count in (3, 5):
            line = Line(name, f"2 × 5 s, {count} processes", "board", EXACT)
            yield held_against(line, across_processes(found[:count]), true)
        line = Line(name, "2 × 5 s, 1 process + 1 %", "board", WIDE)
        yield held_against(line, across_processes(found[:1]), true)


@functools.cache
def _scenario(chip: str) -> Scenario:
    return load_scenario(chip)


def identified(rig: SimulatedRig) -> SensorIdentity:
    """The board's sensor as `flopwatt doctor --sensor` would find it, were it to err in nothing."""
    board, sensor = rig.gpu.board, rig.scenario.sensor
    return SensorIdentity(
        source="simulated",
        update_period_s=board.update_period_s,
        window_s=None if "instant" in sensor.unsupported else board.window_s,
        average_window_s=None if "average" in sensor.unsupported else board.average_window_s,
        counter_tick_s=None if "counter" in sensor.unsupported else sensor.counter_tick_s or board.update_period_s,
        counter_covers_all_time=sensor.counter_covers_all_time,
        delay_s=board.delay_s,
        rise_s=board.rise_s,
        gain_uncertainty=rig.sensor.gain_uncertainty,
    )


def measured(rig: SimulatedRig, case: Case, seed: int, *, soak: bool = True, warm: bool = False) -> Row:
    """A case measured as any run does. warm: the process before this one has left a warm chip."""
    if warm:
        timer = rig.prepare(case, 0).timer
        timer.begin(launches_per_mark=100)
        rig.clock.sleep_ns(WARM_NS)
        timer.end()
    raw = measure_case(rig, case, seed=seed, soak=soak and not warm).measurement
    assert isinstance(raw, RawMeasurement)
    time_s = launch_time(raw, case.regime)
    assert time_s is not None
    return Row(raw, time_s, judge(raw, rig.sensor))


def truth(rig: SimulatedRig, case: Case, *, this_run: bool) -> dict[str, float]:
    """What the figures of a row should be, as this board's sensor would show them."""
    steady = rig.gpu.steady(case, this_run=this_run)
    shown_w = shown(rig, steady.power_w)
    return {"power": shown_w, "time": steady.time_s, "TFLOPS/W": 1.0 / (shown_w * steady.time_s)}


def shown(rig: SimulatedRig, true_w: float) -> float:
    """True watts with the gain and offset of this board's sensor."""
    board = rig.gpu.board
    return board.gain * true_w + board.offset_w


def held_against(line: Line, found: Interval, true: float) -> Result:
    """The error of an interval's value, and how far the interval reaches on the side of the truth."""
    end = found.low if true < found.value else found.high
    return Result(line, found.value / true - 1, abs(end - found.value) / true if end is not None else 0.0)


def edge_to_edge(rig: SimulatedRig, raw: RawMeasurement) -> Iterator[Result]:
    """The counter between two edges about 1 s and 5 s apart, against the true energy between them."""
    assert raw.counter is not None
    window = raw.windows[0]
    before, after = np.array(raw.counter.before_ns), np.array(raw.counter.t_ns)
    inside = (before >= window.start_ns) & (after <= window.end_ns)
    edges_s = ((before + after)[inside] / 2 + raw.origin_ns) / S
    joules = np.array(raw.counter.energy_mj)[inside] * 1e-3
    for seconds in (1, 5):
        last = int(np.argmin(abs(edges_s - edges_s[0] - seconds)))
        found_w = (joules[last] - joules[0]) / (edges_s[last] - edges_s[0])
        true_w = mean_power(rig, float(edges_s[0]), float(edges_s[last]))
        yield Result(Line("counter between edges", f"{seconds} s", "same seconds"), found_w / true_w - 1, np.nan)


def mean_power(rig: SimulatedRig, start_s: float, end_s: float) -> float:
    """True mean watts between two instants, as the sensor's gain and offset show them."""
    return shown(rig, float(rig.gpu.true_energy_j(start_s, end_s)) / (end_s - start_s))


def other_sensors(scenario: Scenario, seed: int) -> Iterator[Result]:
    """Power summed where there is no counter, or one that sees a window of 18 to 25 ms in each period of 100 ms."""
    averages = scenario.sensor.average_window_s is not None
    lacking = replace(scenario.sensor, unsupported=("counter", "instant") if averages else ("counter",))
    alone = "1 s average alone" if averages else "instant power alone"
    part_time = replace(scenario.sensor, counter_covers_all_time=False)
    cases: tuple[tuple[str, Sensor, EffortName], ...] = (
        (f"2 × 5 s, {alone}", lacking, "normal"),
        (f"fast, {alone}", lacking, "fast"),
        ("2 × 5 s, part-time counter", part_time, "normal"),
    )
    for load, sensor, effort in cases:
        rig = SimulatedRig(replace(scenario, sensor=sensor), seed=seed, idle=False)
        rig.sensor = identified(rig)
        case = gemm(8192, effort)
        found, true = measured(rig, case, seed, warm=effort != "fast").figures, truth(rig, case, this_run=True)
        for name in ("power", "TFLOPS/W"):
            yield held_against(Line(name, load, "this run", WIDE), found[name], true[name])


def least_effort(scenario: Scenario, seed: int) -> Iterator[Result]:
    """`fast` cases as a suite has them: first of a run, fourth, and after a much smaller load; and bursts."""
    rig = SimulatedRig(scenario, seed=seed, idle=False)
    loads = (
        ("fast, first of a run", 8192), ("", 8192), ("", 8192), ("fast, fourth of a run", 8192),
        ("", 1024), ("fast, after 1024³", 8192),
    )  # fmt: skip
    for index, (load, side) in enumerate(loads):
        case = gemm(side, "fast")
        found = measured(rig, case, seed + index, soak=index == 0).figures
        for name, true in truth(rig, case, this_run=True).items() if load else ():
            yield held_against(Line(name, load, "this run", WIDE), found[name], true)
    rig, case = SimulatedRig(scenario, seed=seed, idle=False), gemm(4096, regime="burst")
    time_s = measured(rig, case, seed).time
    yield held_against(Line("time", "bursts", "this run", WIDE), time_s, rig.gpu.burst_time_s(case, this_run=True))


def naive(scenario: Scenario, seed: int) -> Iterator[Result]:
    """Polling power from the moment a load begins, and subtracting counter readings taken whenever."""
    rig = SimulatedRig(scenario, seed=seed, idle=False)
    sensor, timer, clock = rig.open_sensor(), rig.prepare(gemm(8192), seed).timer, rig.clock
    clock.sleep_ns(3 * S)
    timer.begin(1)
    start_ns, polls = clock.now_ns(), []
    while clock.now_ns() < start_ns + 10 * S:
        reading = sensor.read_power()
        polls.append((clock.now_ns(), reading.average_mw if reading.average_mw is not None else reading.instant_mw))
        clock.sleep_ns(POLL_NS)
    t_ns, watts = np.array(polls, dtype=float).T * [[1.0], [1e-3]]
    averaging_s = rig.gpu.board.average_window_s or rig.gpu.board.window_s
    what = f"mean of {'1 s average' if averaging_s >= 1 else 'instant'} power"
    discard_s = averaging_s + 0.5
    for seconds, skip_s in ((0.3, 0.0), (1, 0.0), (5, 0.0), (10, 0.0), (5, discard_s), (10, discard_s)):
        found_w = watts[(t_ns >= start_ns + skip_s * S) & (t_ns <= start_ns + seconds * S)].mean()
        line = Line(f"{what}, {'settled' if skip_s else 'naive'}", f"{seconds:g} s", "same seconds")
        yield Result(line, found_w / mean_power(rig, start_ns / S + skip_s, start_ns / S + seconds) - 1, np.nan)
    rng = np.random.default_rng(seed)
    clock.sleep_ns(round(rng.random() * S))
    start_ns, first_mj = clock.now_ns(), sensor.read_counter()
    for seconds in (1, 5, 10):
        # Nobody's window is a whole number of sensor periods.
        clock.sleep_ns(start_ns + round((seconds + 0.1 * rng.random()) * S) - clock.now_ns())
        now_ns, now_mj = clock.now_ns(), sensor.read_counter()
        assert first_mj is not None
        assert now_mj is not None
        found_w = (now_mj - first_mj) * 1e-3 * S / (now_ns - start_ns)
        true_w = mean_power(rig, start_ns / S, now_ns / S)
        yield Result(Line("counter read at any instant", f"{seconds} s", "same seconds"), found_w / true_w - 1, np.nan)


def passes(line: Line, errors: np.ndarray, half_widths: np.ndarray) -> bool:
    """Whether bias and coverage are within the line's bounds; a line without bounds has nothing to fail."""
    if line.bounds is None:
        return True
    covered = float((abs(errors) <= half_widths).mean())
    unbiased = line.bounds == WIDE or abs(float(errors.mean())) <= BIAS_MOST
    return line.bounds[0] <= covered <= line.bounds[1] and unbiased


def show(results: Sequence[Result], title: str) -> bool:
    """Prints a table of the lines; whether every one holds."""
    lines: dict[Line, list[tuple[float, float]]] = defaultdict(list)
    for result in results:
        lines[result.line].append((result.error, result.half_width))
    table = Table(title=title, title_justify="left", box=None)
    for name in ("estimator", "load", "about", "bias", "95th pct error", "half-width", "coverage", "bounds", "holds"):
        table.add_column(name, justify="left" if name in ("estimator", "load", "about") else "right")
    good = True
    for line, values in lines.items():
        errors, half_widths = np.array(values).T
        holds = passes(line, errors, half_widths)
        good &= holds
        interval = ("", "") if np.isnan(half_widths).any() else (
            f"{np.median(half_widths):.2%}", f"{(abs(errors) <= half_widths).mean():.1%}"
        )  # fmt: skip
        bounds = f"{line.bounds[0]:.0%}–{line.bounds[1]:.0%}" if line.bounds else ""
        verdict = ("yes" if holds else "NO") if line.bounds else ""
        worst = f"{np.quantile(abs(errors), 0.95):.2%}"
        table.add_row(*line[:3], f"{errors.mean():+.2%}", worst, *interval, bounds, verdict)
    Console(width=140).print(table)
    return good


def main() -> int:
    """Prints a table a chip; 1 where a line is out of its bounds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=1000, help="of each chip")
    parser.add_argument("--all", action="store_true", help="every line, in minutes instead of seconds")
    words = parser.parse_args()
    seeds, processes = words.seeds, PROCESSES if words.all else 1
    good = True
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for chip in CHIPS:
            begun_s = time.perf_counter()
            found = pool.map(functools.partial(one_seed, chip, processes), range(seeds), chunksize=5)
            doubtful = sum(count for _, count in found) / (seeds * processes)
            title = (
                f"{chip}, {seeds} seeds in {time.perf_counter() - begun_s:.0f} s; "
                f"energy not plainly ok in {doubtful:.1%} of the rows"
            )
            good &= show([result for results, _ in found for result in results], title)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
