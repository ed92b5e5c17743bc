"""Faults of a simulated sensor, each measured through to a row that names it and keeps a good time."""

from __future__ import annotations

import re

import msgspec
import pytest
from plain_scenario import LOAD_W, plain, steady_kernel, watched

from flopwatt.measurement.case import Outcome, measure_case
from flopwatt.measurement.identify import identify_sensor
from flopwatt.measurement.power.sensor import SensorLost
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.simulation.scenario import Scenario
from flopwatt.runs.energy import judge
from flopwatt.runs.records import Case, SensorIdentity
from flopwatt.runs.stats import launch_time
from gemmkernels.problem import Problem

MS = 1_000_000
CASE = Case(problem=Problem(4096, 4096, 4096), backend="torch")
IDENTIFIED = SensorIdentity(source="simulated", update_period_s=0.1, window_s=0.025, gain_uncertainty=0.05)


def measured(faults: dict[str, object], sensor: SensorIdentity | None = IDENTIFIED) -> tuple[SimulatedRig, Outcome]:
    """A case of `normal` effort, its two windows from about 5 to 10 and 10 to 15 s, on a noiseless H100 with faults."""
    tables = msgspec.to_builtins(load_scenario("h100"))
    thermal = {**tables["thermal"], "time_constant_s": 0.5}
    rig = SimulatedRig(
        msgspec.convert({**tables, "thermal": thermal, "noise": {}, "faults": faults}, Scenario), idle=False
    )
    if sensor is not None:
        rig.sensor = sensor
    return rig, measure_case(rig, CASE)


FAULTS = {
    "reset": ({"counter_resets_at_s": 9.0}, "ok", r"counter: fell from \d+ to \d+ mJ: it was reset, or wrapped"),
    "stopped in the second window": (
        {"counter_stops_after_s": 12.0},
        "ok",
        r"counter: stopped \d+\.\d s before the end",
    ),
    "stopped in the first window": ({"counter_stops_after_s": 7.0}, "ok", r"counter: stopped \d+\.\d s before the end"),
    "stopped before": ({"counter_stops_after_s": 0.0}, "ok", r"counter: does not count: \d+ mJ throughout"),
    "counter unknown": (
        {"unknown": {"quantities": ["counter"], "from_s": 9.0}},
        "ok",
        r"counter: stopped \d+\.\d s before the end: UNKNOWN",
    ),
    "power and counter unknown": (
        {"unknown": {"quantities": ["counter", "instant", "average"]}},
        "unsupported",
        "average_mw: UNKNOWN; counter: UNKNOWN; instant_mw: UNKNOWN",
    ),
    "lost": ({"sensor_lost_after_s": 9.0}, "refused", "the sensor was lost while the load ran: GPU_IS_LOST"),
    "driver updated": (
        {"sensor_lost_after_s": 9.0, "sensor_lost_code": "LIB_RM_VERSION_MISMATCH"},
        "refused",
        "the sensor was lost while the load ran: LIB_RM_VERSION_MISMATCH",
    ),
    "lost before": (
        {"sensor_lost_after_s": 0.0, "sensor_lost_code": "LIB_RM_VERSION_MISMATCH"},
        "unsupported",
        "sensor: LIB_RM_VERSION_MISMATCH",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_in_its_row_and_costs_no_good_time(name: str) -> None:
    faults, status, reason = FAULTS[name]
    rig, outcome = measured(faults)
    assert outcome.status == "ok"
    assert outcome.energy_status == status, outcome.energy_reason
    assert re.fullmatch(reason, str(outcome.energy_reason)), outcome.energy_reason
    raw = outcome.measurement
    assert raw is not None
    time_s = launch_time(raw, "sustained")
    assert time_s is not None
    truth = rig.gpu.steady(CASE)
    assert time_s.value == pytest.approx(truth.time_s, rel=0.002)
    energy = judge(raw, IDENTIFIED)
    if status == "ok":
        assert energy.source == "power"
        assert energy.power_w is not None
        board = rig.gpu.board
        assert energy.power_w.value == pytest.approx(board.gain * truth.power_w + board.offset_w, rel=0.005)
    else:
        assert energy.power_w is None


@pytest.mark.parametrize("name", [name for name, (_, status, _) in FAULTS.items() if status == "ok"])
def test_with_an_unidentified_sensor_a_counter_at_fault_leaves_no_watts(name: str) -> None:
    faults, _, reason = FAULTS[name]
    _, outcome = measured(faults, sensor=None)
    assert (outcome.status, outcome.energy_status) == ("ok", "unidentified")
    assert re.search(rf"no energy counter, .*doctor --sensor`; {reason}$", str(outcome.energy_reason))


def test_the_rows_after_a_lost_sensor_still_have_their_time() -> None:
    rig, _ = measured({"sensor_lost_after_s": 9.0})
    outcome = measure_case(rig, CASE)
    assert (outcome.status, outcome.energy_status) == ("ok", "unsupported")
    assert outcome.energy_reason == "sensor: GPU_IS_LOST"


@pytest.mark.parametrize(
    ("faults", "reason"),
    [
        ({"sensor_lost_after_s": 5.0, "sensor_lost_code": "LIB_RM_VERSION_MISMATCH"}, "LIB_RM_VERSION_MISMATCH"),
        ({"unknown": {"quantities": ["counter", "instant", "average"]}}, "UNKNOWN"),
    ],
)
def test_a_sensor_at_fault_is_unidentified_with_the_code(faults: dict[str, object], reason: str) -> None:
    identity = identify_sensor(SimulatedRig(plain(faults=faults), idle=False))
    assert identity.method == "unidentified"
    assert reason in str(identity.reason)
    assert identity.update_period_s is None


def test_a_reset_counter_counts_on_from_nothing() -> None:
    gpu, clock, sensor = watched(plain(faults={"counter_resets_at_s": 2.0}))
    gpu.begin(0.0, steady_kernel())
    clock.sleep_ns(1950 * MS)
    assert (sensor.read_counter() or 0) > 10**6
    clock.sleep_ns(100 * MS)
    assert sensor.read_counter() == 0
    clock.sleep_ns(1000 * MS)
    assert sensor.read_counter() == pytest.approx(LOAD_W * 1e3, rel=1e-3)


def test_a_stopped_counter_stands_while_power_goes_on() -> None:
    gpu, clock, sensor = watched(plain(faults={"counter_stops_after_s": 2.0}))
    gpu.begin(0.0, steady_kernel())
    clock.sleep_ns(1950 * MS)
    last = sensor.read_counter()
    clock.sleep_ns(5000 * MS)
    assert sensor.read_counter() == last
    assert sensor.read_power().instant_mw == LOAD_W * 1e3


def test_unknown_passes_and_the_reading_comes_back() -> None:
    unknown = {"quantities": ["instant"], "from_s": 1.0, "until_s": 2.0}
    _, clock, sensor = watched(plain(faults={"unknown": unknown}))
    seen = []
    for _ in range(3):
        clock.sleep_ns(900 * MS)
        seen.append(sensor.read_watts().instant_mw)
    assert seen == [50_000, None, 50_000]
    assert sensor.unreadable["instant_mw"] == "UNKNOWN"


def test_a_sensor_lost_alone_leaves_the_gpu_computing() -> None:
    scenario = plain(faults={"sensor_lost_after_s": 2.0, "sensor_lost_code": "DRIVER_NOT_LOADED"})
    rig = SimulatedRig(scenario, idle=False)
    timer = rig.prepare(CASE, 0).timer
    rig.clock.sleep_ns(3000 * MS)
    with pytest.raises(SensorLost, match="DRIVER_NOT_LOADED"):
        rig.open_sensor().read_counter()
    assert len(timer.run(5, 1).load.t_ns) == 6
