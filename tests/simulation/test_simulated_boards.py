"""Simulated boards of one kind differ as their scenario says."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from plain_scenario import plain

from flopwatt.errors import SuiteError
from flopwatt.measurement.messages import RigSpec
from flopwatt.measurement.simulation.board import of_board
from flopwatt.measurement.simulation.loading import load_scenario, parse_scenario, shipped
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.simulation.scenario import Boards, Scenario
from flopwatt.measurement.worker import open_rig
from flopwatt.runs.records import Case
from gemmkernels.problem import Problem

CASE = Case(problem=Problem(8192, 8192, 8192, dtype="bf16"), backend="torch")


def steady(scenario: Scenario, number: int) -> tuple[float, float]:
    settled = SimulatedRig(scenario, board=number, idle=False).gpu.steady(CASE)
    return settled.time_s, settled.power_w


def boards(**entries: object) -> Scenario:
    return msgspec.structs.replace(plain(), boards=msgspec.convert(entries, Boards))


def test_board_0_is_the_one_in_the_file_and_a_scenario_without_spread_has_one_kind() -> None:
    scenario = load_scenario("h100")
    alike = msgspec.structs.replace(scenario, boards=type(scenario.boards)())
    assert steady(scenario, 0) == steady(alike, 0) == steady(alike, 5)
    assert steady(scenario, 1) != steady(scenario, 0)
    assert steady(scenario, 1) == steady(scenario, 1)


def test_clock_and_power_spread_as_asked() -> None:
    scenario = boards(clock=0.02, power=0.05)
    drawn = np.array([steady(scenario, number) for number in range(1, 201)])
    speeds = 1 / drawn[:, 0]
    assert speeds.std(ddof=1) / speeds.mean() == pytest.approx(0.02, rel=0.2)
    switched = drawn[:, 1] - 50.0  # what computing adds to idle
    clocks = speeds / np.median(speeds)
    assert (switched / clocks**2.2).std(ddof=1) / switched.mean() == pytest.approx(0.05, rel=0.2)


def test_a_leakier_board_under_a_cap_is_slower() -> None:
    scenario = parse_scenario(shipped()["h100"] + "\n[[boards.odd]]\nnumber = 0\npower = 1.1\n", "leaky")
    slow, capped_w = steady(scenario, 0)
    usual, usual_w = steady(load_scenario("h100"), 0)
    assert capped_w == pytest.approx(usual_w, rel=1e-3)
    assert slow > usual * 1.02


def test_odd_boards_have_what_the_scenario_gives_them() -> None:
    throttle = {"from_s": 0.0, "duration_s": 10.0, "clock_factor": 0.5}
    scenario = boards(odd=[
        {"number": 2, "power_limit_w": 250},
        {"number": 3, "clock": 0.5},
        {"number": 4, "ambient_c": 45, "throttle": [throttle]},
    ])  # fmt: skip
    limited = SimulatedRig(scenario, board=2, idle=False).environment
    assert (limited.power_limit_mw, limited.power_limit_default_mw) == (250_000, 1_000_000)
    assert steady(scenario, 3)[0] == pytest.approx(2 * steady(scenario, 0)[0], rel=0.01)
    claimed = SimulatedRig(scenario, board=3, idle=False).environment.max_clock_mhz
    assert claimed == 1400, "a slow board claims the same highest clock"
    hot = of_board(scenario, 4)
    assert hot.thermal.ambient_c == 45
    assert len(hot.faults.throttle) == 1
    assert of_board(scenario, 1) == of_board(scenario, 5), "without a spread the others are alike"


def test_the_workers_rig_is_of_the_board_asked_for() -> None:
    rigs = [open_rig(RigSpec(scenario="a100", board=number, idle=False)) for number in (0, 3, 3)]
    assert rigs[0].board_id != rigs[1].board_id
    assert rigs[1].board_id == rigs[2].board_id


def test_impossible_boards_are_refused() -> None:
    for key, value in (("number", -1), ("power", 9.0), ("power_limit_w", 0)):
        text = shipped()["h100"] + f"\n[[boards.odd]]\nnumber = 1\n{key} = {value}\n".replace(
            "number = 1\nnumber", "number"
        )
        with pytest.raises(SuiteError, match=r"boards\.odd"):
            parse_scenario(text, "odd")
