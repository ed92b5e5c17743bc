"""The promise of every interval, kept on simulated boards: the long form, with 1000 seeds a chip, is a benchmark."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from flopwatt.measurement.case import measure_case
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.runs.energy import judge
from flopwatt.runs.records import Case
from flopwatt.runs.stats import Interval, across_processes, launch_time
from gemmkernels.problem import Problem

SEEDS = 100
CASE = Case(problem=Problem(8192, 8192, 8192, layout="nt"), backend="torch", effort="normal")


def row(rig: SimulatedRig) -> tuple[Interval, Interval, Interval]:
    """Time, power and joules of a launch, as one process measures them."""
    raw = measure_case(rig, CASE, seed=rig.gpu.seeds.seed, soak=True).measurement
    assert raw is not None
    time, energy = launch_time(raw, "sustained"), judge(raw, rig.sensor)
    assert energy.status == "ok"
    assert time is not None
    assert energy.power_w is not None
    assert energy.energy_j is not None
    return time, energy.power_w, energy.energy_j


def test_a_soak_outlasts_a_slow_heat_sink() -> None:
    """5 s within 0.5 °C, read in whole degrees, come when 2.5 °C are still to go at a time constant of 15 s."""
    scenario = load_scenario("h100")
    thermal = msgspec.structs.replace(scenario.thermal, time_constant_s=15.0)
    rig = SimulatedRig(msgspec.structs.replace(scenario, thermal=thermal), seed=1, idle=False)
    raw = measure_case(rig, CASE, seed=1, soak=True).measurement
    assert raw is not None
    begun_s = (raw.origin_ns + raw.windows[0].start_ns) * 1e-9
    settled_c = thermal.ambient_c + thermal.c_per_w * rig.gpu.steady(CASE, this_run=True).power_w
    assert settled_c - rig.gpu.regulation(begun_s).temp_c < 1.5
    assert begun_s - rig.gpu.start_s < 60
    assert "not_steady" not in raw.flags


def test_a_fast_row_covers_what_the_chip_has_still_to_warm() -> None:
    """Four in a row, and at the fourth 2 °C to go: its temperature shows one step, or none, and its time is short."""
    case, scenario, errors = msgspec.structs.replace(CASE, effort="fast"), load_scenario("h100"), []
    for seed in range(25):
        rig = SimulatedRig(scenario, seed=seed, idle=False)
        for number in range(4):
            raw = measure_case(rig, case, seed=seed + number, soak=number == 0).measurement
        assert raw is not None
        time = launch_time(raw, "sustained")
        assert time is not None
        errors.append((time.value / rig.gpu.steady(case, this_run=True).time_s - 1) / time.relative_half_width)
    assert -0.6 < np.mean(errors) < -0.1
    assert np.mean(np.abs(errors) < 1) >= 0.96


def truth(rig: SimulatedRig, *, this_run: bool) -> tuple[float, float, float]:
    """The same as this board's sensor should show them."""
    steady, board = rig.gpu.steady(CASE, this_run=this_run), rig.gpu.board
    shown_w = board.gain * steady.power_w + board.offset_w
    return steady.time_s, shown_w, shown_w * steady.time_s


def held(found: list[Interval], true: list[float]) -> tuple[float, float]:
    """Bias, and the share of intervals that hold the truth."""
    errors = [each.value / value - 1 for each, value in zip(found, true, strict=True)]
    holds = [each.low <= value <= each.high for each, value in zip(found, true, strict=True)]  # type: ignore[operator]
    return float(np.mean(errors)), float(np.mean(holds))


@pytest.fixture(scope="module")
def rigs_and_rows() -> list[tuple[SimulatedRig, tuple[Interval, Interval, Interval]]]:
    scenario = load_scenario("a100")
    rigs = [SimulatedRig(scenario, seed=seed, idle=False) for seed in range(SEEDS)]
    return [(rig, row(rig)) for rig in rigs]


@pytest.mark.parametrize("quantity", [0, 1, 2], ids=["time", "power", "energy"])
def test_one_process_covers_its_own_runs_truth(rigs_and_rows, quantity: int) -> None:
    found = [each[quantity] for _, each in rigs_and_rows]
    bias, covered = held(found, [truth(rig, this_run=True)[quantity] for rig, _ in rigs_and_rows])
    assert abs(bias) < 0.0008
    assert 0.88 <= covered <= 0.99
    assert np.median([each.relative_half_width for each in found]) < 0.007


@pytest.mark.parametrize("quantity", [0, 1, 2], ids=["time", "power", "energy"])
def test_several_processes_cover_the_boards_truth(rigs_and_rows, quantity: int) -> None:
    """Of a noise drawn afresh for each process, a hundred seeds are twenty boards' days of five processes."""
    groups = [rigs_and_rows[start : start + 5] for start in range(0, SEEDS, 5)]
    found = [across_processes([each[quantity] for _, each in group]) for group in groups]
    bias, covered = held(found, [truth(group[0][0], this_run=False)[quantity] for group in groups])
    assert abs(bias) < 0.003
    assert covered >= 0.75


def test_one_process_alone_covers_the_boards_truth_with_the_assumed_spread(rigs_and_rows) -> None:
    true = [truth(rig, this_run=False)[2] for rig, _ in rigs_and_rows]
    assert held([each[2] for _, each in rigs_and_rows], true)[1] < 0.9
    assert held([across_processes([each[2]]) for _, each in rigs_and_rows], true)[1] >= 0.95
