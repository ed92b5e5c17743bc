"""Whether the watts hold on boards that nobody tuned for: one change of a shipped scenario at a time, far from it.

Each seed measures a GEMM under steady load in two 5 s windows, on a chip that an earlier process has warmed, unless the
change is about warming. Truth is this run's, as the board's sensor shows it, its gain and offset included.

Exit code 1 where a bound is broken. |bias| is at most 0.5 % and coverage at least 90 %: with 200 seeds, three standard
errors under 95 %. A change that spoils watts must be said of at least 98 % of the rows, by their energy status. Lines
without bounds are limits that are known: drift with a correlation time as long as both windows looks like no drift.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import os
import sys
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table
from watts import Line, Result, gemm, held_against, identified, measured, show, truth

from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.simulation.scenario import Scenario
from flopwatt.runs.records import EnergyStatus

BOUNDS: Final = (0.90, 1.0)
SAID: Final = 0.98


class Change(NamedTuple):
    """What differs from a shipped scenario: table → its keys.

    says: the energy status that every row must have, None where watts must hold. cold: the chip starts at rest.
    """

    name: str
    chip: str
    tables: Mapping[str, Mapping[str, Any]]
    bounds: tuple[float, float] | None = BOUNDS
    says: EnergyStatus | None = None
    cold: bool = False


def sensor(name: str, chip: str, **keys: Any) -> Change:
    """A change of `[sensor]` alone."""
    return Change(name, chip, {"sensor": keys})


SLOW: Final = {"update_period_s": 0.2, "counter_tick_s": 0.2, "window_s": 0.1, "rise_s": 0.31, "delay_s": 0.31}
CHANGES: Final = (
    sensor("T 200, W 100 ms, late", "h100", **SLOW),
    sensor("T 50, W 10 ms, tick 10 ms", "h100", update_period_s=0.05, window_s=0.01, counter_tick_s=0.01),
    sensor("T 50 ms in steps of 20 ms", "a100", update_period_s=0.05, counter_tick_s=0.02),
    sensor("W 1 s, no counter", "a100", window_s=1.0, rise_s=0.2, unsupported=["counter"]),
    sensor("W 10 of 200 ms, no counter", "a100", update_period_s=0.2, window_s=0.01, unsupported=["counter"]),
    sensor("gain 0.9, offset +20 W", "h100", gain=0.9, offset_w=20.0),
    sensor("updates ± 10 ms", "a100", update_jitter_s=0.01),
    sensor("T 20, tick 10 ms", "h100", update_period_s=0.02, window_s=0.01, delay_s=0.02, counter_tick_s=0.01),
    sensor("counter in steps of 1 J", "h100", counter_step_j=1.0),
    sensor("1 s average alone", "h100", unsupported=["counter", "instant"]),
    sensor("no temperature", "h100", unsupported=["temp"]),
    sensor("calls of 3 ms", "a100", latency_s=0.003),
    sensor("stale and zero readings", "h100", stale=0.1, zero=0.1, counter_stale=0.1),
    sensor("the same, no counter", "h100", stale=0.1, zero=0.1, unsupported=["counter"]),
    Change(
        "drift 0.4 % of 2 s", "h100", {"noise": {"drift_power": 0.004, "drift_time": 0.002, "drift_correlation_s": 2}}
    ),
    Change("drift 0.05 %", "h100", {"noise": {"drift_power": 0.0005, "drift_time": 0.0003}}),
    Change("no noise", "h100", {"noise": {"drift_power": 0, "drift_time": 0, "launch_jitter": 0}}),
    Change(
        "run-to-run 2 %, jitter 10 %", "h100", {"noise": {"run_time": 0.02, "run_power": 0.02, "launch_jitter": 0.1}}
    ),
    Change("cap that takes 1 s", "h100", {"power": {"cap_response_s": 1.0}}),
    Change("leaky, warms over 15 s", "h100", {"thermal": {"time_constant_s": 15, "power_per_c": 0.0012}}, cold=True),
    Change("drift 0.2 % of 8 s", "a100", {"noise": {"drift_correlation_s": 8}}, bounds=None),
    Change(
        "heat throttles for 1 s",
        "h100",
        {"faults": {"throttle": [{"from_s": 8, "duration_s": 1, "clock_factor": 0.7, "per_load": True}]}},
        says="unsteady",
    ),
    Change(
        "power brake for 0.3 s",
        "a100",
        {
            "faults": {
                "throttle": [
                    {"from_s": 8, "duration_s": 0.3, "clock_factor": 0.7, "per_load": True, "cause": "power_brake"}
                ]
            }
        },
        says="unsteady",
    ),
    Change(
        "somebody else joins",
        "h100",
        {"faults": {"second_process": {"share": 0.3, "extra_w": 20, "from_s": 38}}},
        says="refused",
    ),
    Change("gain 1.3 at the cap", "h100", {"sensor": {"gain": 1.3}}, says="disputed"),
    Change("counter 5 % off", "h100", {"sensor": {"counter_gain": 1.05}}, says="disputed"),
    Change(
        "no power, no counter",
        "h100",
        {"sensor": {"unsupported": ["counter", "instant", "average"]}},
        says="unsupported",
    ),
)


def scenario_of(change: Change) -> Scenario:
    """The shipped scenario with the change, read as a file would be."""
    tables: dict[str, Any] = msgspec.to_builtins(load_scenario(change.chip))
    for table, keys in change.tables.items():
        tables[table].update(keys)
    return msgspec.convert(tables, Scenario)


def one_seed(change: Change, seed: int) -> tuple[list[Result], EnergyStatus]:
    """The figures of one row held against the truth, and what the row says of its watts."""
    rig = SimulatedRig(scenario_of(change), seed=seed, idle=False)
    rig.sensor = identified(rig)
    case = gemm(8192)
    row = measured(rig, case, seed, warm=not change.cold)
    found, true = row.figures, truth(rig, case, this_run=True)
    lines = {name: Line(name, change.name, change.chip, change.bounds) for name in found}
    return [held_against(line, found[name], true[name]) for name, line in lines.items()], row.energy.status


def main() -> int:
    """Prints what holds and what is said; 1 where a line is out of its bounds."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=200, help="of each scenario")
    seeds = parser.parse_args().seeds
    results: list[Result] = []
    said = Table(title="Watts that are spoilt, and how many rows say so", title_justify="left", box=None)
    for name in ("scenario", "chip", "status", "rows", "holds"):
        said.add_column(name)
    good = True
    with multiprocessing.get_context("spawn").Pool(os.cpu_count()) as pool:
        for change in CHANGES:
            found = pool.map(functools.partial(one_seed, change), range(seeds), chunksize=5)
            if change.says is None:
                results += [result for lines, _ in found for result in lines]
                continue
            share = sum(status == change.says for _, status in found) / seeds
            said.add_row(change.name, change.chip, change.says, f"{share:.1%}", "yes" if share >= SAID else "NO")
            good &= share >= SAID
    good &= show(results, f"Scenarios nobody tuned for, {seeds} seeds each; T update period, W window")
    Console(width=140).print(said)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
