"""Sensors, kernels and boards far from the shipped ones: figures that hold the truth in their interval, or a reason."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flopwatt.measurement.case import measure_case
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.simulation.scenario import Scenario
from flopwatt.runs.effort import EFFORT
from flopwatt.runs.energy import Energy, judge
from flopwatt.runs.records import Case, EffortName, SensorIdentity
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.stats import launch_time
from gemmkernels.problem import Problem

SIDE = 8192
UNIDENTIFIED = SensorIdentity(source="simulated")
FAST_SENSOR = {"update_period_s": 0.02, "window_s": 0.01, "delay_s": 0.02, "rise_s": 0.01, "counter_tick_s": 0.01}
FAST_IDENTITY = SensorIdentity(source="simulated", update_period_s=0.02, window_s=0.01, counter_tick_s=0.01)
AVERAGE = {"average_window_s": 5.0, "unsupported": ["instant", "counter"]}
AVERAGE_IDENTITY = SensorIdentity(
    source="simulated", update_period_s=0.1, average_window_s=5.0, delay_s=0.31, rise_s=0.12
)


def rig_of(identity: SensorIdentity = UNIDENTIFIED, **tables: dict[str, Any]) -> SimulatedRig:
    """An H100 with these tables' entries put over its own."""
    h100: dict[str, Any] = msgspec.to_builtins(load_scenario("h100"))
    merged = {**h100, **{name: {**h100[name], **table} for name, table in tables.items()}}
    rig = SimulatedRig(msgspec.convert(merged, Scenario), seed=3, idle=False)
    rig.sensor = identity
    return rig


def case_of(effort: EffortName = "fast") -> Case:
    return Case(problem=Problem(SIDE, SIDE, SIDE, layout="nt"), backend="torch", effort=effort)


def measured(rig: SimulatedRig, effort: EffortName = "fast", *, soak: bool = True) -> tuple[RawMeasurement, Energy]:
    outcome = measure_case(rig, case_of(effort), seed=3, soak=soak)
    assert outcome.status == "ok", outcome.reason
    assert isinstance(outcome.measurement, RawMeasurement)
    return outcome.measurement, judge(outcome.measurement, rig.sensor)


def holds_the_truth(rig: SimulatedRig, raw: RawMeasurement, energy: Energy) -> None:
    """Time and joules of a launch lie in their intervals, the sensor's gain and offset part of the truth."""
    steady, board = rig.gpu.steady(case_of(), this_run=True), rig.gpu.board
    time_s, energy_j = launch_time(raw, "sustained"), energy.energy_j
    true_j = (board.gain * steady.power_w + board.offset_w) * steady.time_s
    for found, true in ((time_s, steady.time_s), (energy_j, true_j)):
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low <= true <= found.high


SOUND: dict[str, tuple[dict[str, dict[str, Any]], SensorIdentity, str]] = {
    "T 20 ms, tick 10 ms, identified": ({"sensor": FAST_SENSOR}, FAST_IDENTITY, "counter"),
    "T 20 ms, tick 10 ms": ({"sensor": FAST_SENSOR}, UNIDENTIFIED, "counter"),
    "5 s average alone, identified": ({"sensor": AVERAGE}, AVERAGE_IDENTITY, "power"),
    "counter in steps of 1 J": ({"sensor": {"counter_step_j": 1.0}}, UNIDENTIFIED, "counter"),
    "counter every 1 ms": ({"sensor": {"counter_tick_s": 0.001}}, UNIDENTIFIED, "counter"),
    "zeros for 1 s": ({"faults": {"zeros": {"from_s": 4.0, "until_s": 5.0}}}, UNIDENTIFIED, "counter"),
    "no temperature": ({"sensor": {"unsupported": ["temp"]}}, UNIDENTIFIED, "counter"),
    "3.7 s a launch": ({"gpu": {"peak_flop_per_s": {"bf16": 4e11}}}, UNIDENTIFIED, "counter"),
    "7.5 s a launch": ({"gpu": {"peak_flop_per_s": {"bf16": 2e11}}}, UNIDENTIFIED, "counter"),
}


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.parametrize("soak", [True, False], ids=["first", "later"])
def test_the_least_effort_still_holds_the_truth(name: str, soak: bool) -> None:
    tables, identity, source = SOUND[name]
    rig = rig_of(identity, **tables)
    if not soak:  # a chip that the cases before have warmed
        measured(rig)
    raw, energy = measured(rig, soak=soak)
    assert (energy.status, energy.source) == ("ok", source), energy.reason
    holds_the_truth(rig, raw, energy)


def test_what_is_unseen_costs_width() -> None:
    """A row that did not wait for the chip to warm, and cannot see how warm it is, says less than one that can."""
    widths = []
    for unsupported in ([], ["temp"]):
        raw, energy = measured(rig_of(sensor={"unsupported": unsupported}))
        assert ("warming_unseen" in raw.flags) is bool(unsupported)
        assert energy.energy_j is not None
        widths.append(energy.energy_j.relative_half_width)
    assert widths[1] > 1.1 * widths[0]


@pytest.mark.parametrize(("soak", "held_s"), [(True, EFFORT["normal"].soak_s), (False, EFFORT["normal"].settle_s)])
def test_a_temperature_that_cannot_be_read_is_given_all_the_time_there_is(soak: bool, held_s: float) -> None:
    leaky = {"time_constant_s": 15, "power_per_c": 0.003}
    rig = rig_of(sensor={"unsupported": ["temp"]}, thermal=leaky)
    if not soak:
        measured(rig, "normal")
    raw, _ = measured(rig, "normal", soak=soak)
    assert raw.windows[0].start_ns * 1e-9 >= held_s
    assert "warming_unseen" not in raw.flags
    time_s = launch_time(raw, "sustained")
    assert time_s is not None
    # 33 °C to come and 0.3 % a °C: ten seconds would leave 1.6 % of the time to come, at the cap.
    assert time_s.value == pytest.approx(rig.gpu.steady(case_of("normal"), this_run=True).time_s, rel=0.005)


def test_watts_that_the_power_limit_forbids_are_disputed() -> None:
    _, energy = measured(rig_of(sensor={"gain": 1.3}))
    assert energy.status == "disputed"
    assert energy.reason is not None
    assert energy.reason.endswith("W is over the power limit of 700 W by more than 10%")
    assert energy.power_w is not None
    assert energy.power_w.value > 850


def test_a_counter_that_wraps_gives_way_to_power() -> None:
    tables = {"sensor": {"counter_wraps_at_j": 1000.0}}
    identity = SensorIdentity(source="simulated", update_period_s=0.1, window_s=0.025)
    raw, energy = measured(rig_of(identity, **tables))
    assert (energy.status, energy.source) == ("ok", "power")
    assert raw.unreadable["counter"].endswith("it was reset, or wrapped")
    raw, energy = measured(rig_of(**tables))
    assert (energy.status, energy.energy_j) == ("unidentified", None)


def test_a_throttle_that_nothing_shows_is_not_passed_over_in_silence() -> None:
    hidden = {"unsupported": ["reasons", "thermal_violation"]}
    _, energy = measured(rig_of(sensor=hidden, faults={"throttle": [_half_clock()]}))
    assert energy.reason == "whether heat held the clock down could not be seen: NOT_SUPPORTED"
    _, energy = measured(rig_of(sensor={"unsupported": ["reasons"]}, faults={"throttle": [_half_clock()]}))
    assert energy.status == "unsteady"  # by the driver's own count of seconds


def _half_clock() -> dict[str, Any]:
    return {"from_s": 0, "duration_s": 1e5, "clock_factor": 0.5}


def test_a_driver_that_answers_too_late_for_a_tick_is_said_to() -> None:
    _, energy = measured(rig_of(sensor={"latency_s": 0.02}))
    assert energy.status == "unidentified"
    assert energy.reason is not None
    assert energy.reason.startswith("no tick of the energy counter was caught: calls to the driver take too long")
