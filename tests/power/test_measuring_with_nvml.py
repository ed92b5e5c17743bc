"""A case measured from end to end with the sampler process on a fake GPU: watts, or null with the reason."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from fake_nvml import build
from flopwatt.measurement.case import Outcome, measure_prepared
from flopwatt.measurement.clock import MonotonicClock
from flopwatt.measurement.power.process import open_sampler
from flopwatt.measurement.power.sampler import Sampler
from flopwatt.measurement.rig import Prepared
from flopwatt.measurement.timing_cpu import CpuTimer
from flopwatt.runs.energy import judge
from flopwatt.runs.records import Case, Environment, Origin, SensorIdentity
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.stats import launch_time
from gemmkernels.problem import Problem

CASE = Case(problem=Problem(4096, 4096, 4096), backend="torch", effort="fast")
IDENTIFIED = SensorIdentity(source="nvml", update_period_s=0.1, window_s=0.025)


class NvmlRig:
    """The real clock and the real sampler process; a launch sleeps 2 ms."""

    origin: Origin = "measured"
    environment = Environment(kind="cuda", gpu="NVIDIA H100 80GB HBM3")
    board_id = None
    idle_w = None
    idle_context_w = None

    def __init__(self, sensor: SensorIdentity) -> None:
        self.others: Callable[[], int] = lambda: 0
        self.sensor = sensor
        self.clock = MonotonicClock()
        self.sampler: Sampler = open_sampler("nvml")

    def prepare(self, case: Case, seed: int) -> Prepared:
        return Prepared(timer=CpuTimer(lambda _: time.sleep(0.002), self.clock), config={})

    def joined_by(self) -> int:
        return self.others()

    def idle_after(self) -> float | None:
        return None

    def release(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        self.sampler.close()


def measure(
    sensor: SensorIdentity = IDENTIFIED,
    environment: Environment = NvmlRig.environment,
    others: Callable[[], int] = lambda: 0,
) -> Outcome:
    rig = NvmlRig(sensor)
    rig.environment, rig.others = environment, others
    try:
        return measure_prepared(rig, CASE, rig.prepare(CASE, 0))
    finally:
        rig.close()


FakeGpuMaker = Callable[..., Any]


def good_time(raw: RawMeasurement, time_s: float) -> None:
    """A launch takes its 2 ms of sleep and what a busy machine adds to that, by the marks of the whole load."""
    load = raw.loads[0]
    assert time_s >= 2e-3
    assert time_s == pytest.approx(
        (load.t_ns[-1] - load.t_ns[0]) * 1e-9 / (load.launches[-1] - load.launches[0]), rel=0.3
    )


def test_a_steady_load_has_its_watts(fake_gpu: FakeGpuMaker) -> None:
    fake_gpu(load_from_s=0, load_to_s=1e9)
    outcome = measure()
    assert (outcome.status, outcome.energy_status, outcome.energy_reason) == ("ok", "ok", None)
    raw = outcome.measurement
    assert isinstance(raw, RawMeasurement)
    assert raw.counter is not None
    assert raw.power is not None
    assert set(raw.power.instant_mw) == {690_000}
    assert set(raw.power.temp_c) == {41}
    # The window is long enough for the edges inside it to span what a 100 ms sensor needs.
    window = raw.windows[0]
    assert (window.end_ns - window.start_ns) * 1e-9 == pytest.approx(0.025 + 21 * 0.1 + 0.2, abs=0.05)


REFUSALS = {
    "nothing permitted": (
        dict.fromkeys(("counter", "field_186", "field_185", "power"), "NO_PERMISSION"),
        "unsupported",
        "NO_PERMISSION",
    ),
    "zero watts": ({"load_mw": 0, "idle_mw": 0}, "unsupported", "zero|never changed|0"),
    "lost in the middle": ({"lost_after_s": 1.6}, None, "GPU_IS_LOST"),
    "driver updated in the middle": (
        {"fields": "LIB_RM_VERSION_MISMATCH", "errors_from_s": 1.6},
        "refused",
        "the sensor was lost while the load ran: NVML: LIB_RM_VERSION_MISMATCH",
    ),
    "heat between polls": ({"thermal_violation_per_s": 4e6}, "unsteady", r"thermal slowdown for \d+ ms, between polls"),
}

COUNTER_FAULTS = {
    "stops": ({"counter_stops_at_s": 1.6}, r"counter: stopped \d\.\d s before the end$"),
    "ceases to answer": (
        {"counter": "UNKNOWN", "errors_from_s": 1.6},
        r"counter: stopped \d\.\d s before the end: UNKNOWN$",
    ),
    "is reset": ({"counter_drops_at_s": 1.6}, r"counter: fell from \d+ to 1 mJ: it was reset, or wrapped$"),
    "stands still": ({"counter_frozen": 1}, "counter: does not count: 5000000 mJ throughout$"),
    "is not supported": ({"counter": "NOT_SUPPORTED"}, "counter: NOT_SUPPORTED$"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refused_energy_never_costs_a_good_time(fake_gpu: FakeGpuMaker, name: str) -> None:
    changes, status, reason = REFUSALS[name]
    fake_gpu(load_from_s=0, load_to_s=1e9, **changes)
    outcome = measure()
    assert outcome.status == "ok"
    raw = outcome.measurement
    assert isinstance(raw, RawMeasurement)
    time_s = launch_time(raw, "sustained")
    assert time_s is not None
    good_time(raw, time_s.value)
    if status is not None:
        assert outcome.energy_status == status, outcome.energy_reason
    if reason is not None:
        said = f"{outcome.energy_reason} {raw.unreadable}"
        assert outcome.energy_status not in ("ok", "disputed")
        assert re.search(reason, said), said


@pytest.mark.parametrize("fault", COUNTER_FAULTS)
def test_a_counter_at_fault_leaves_the_watts_to_an_identified_sensor_and_is_named(
    fake_gpu: FakeGpuMaker, fault: str
) -> None:
    changes, reason = COUNTER_FAULTS[fault]
    fake_gpu(load_from_s=0, load_to_s=1e9, **changes)
    for _ in range(3):  # the fault comes at its own time: where this machine stalls, it falls outside the window
        outcome = measure()
        named = re.fullmatch(reason.removesuffix("$"), outcome.energy_reason or "")
        if outcome.energy_status == "ok" and named:
            break
    assert (outcome.status, outcome.energy_status) == ("ok", "ok"), outcome.energy_reason
    assert named, outcome.energy_reason
    energy = judge(outcome.measurement, IDENTIFIED)
    assert energy.source == "power"
    assert energy.power_w.value == pytest.approx(690, rel=1e-3)


def test_a_record_of_the_longest_windows_with_the_drivers_own_times_stays_small(fake_gpu: FakeGpuMaker) -> None:
    fake_gpu(load_from_s=0, load_to_s=1e9, counter_tick_ms=45)
    raw = measure().measurement
    assert raw is not None
    power = raw.power
    assert power is not None
    assert power.stamp_origin_us == pytest.approx(time.time() * 1e6, abs=60e6)
    spacings = [b - a for a, b in pairwise(power.stamp_us)]
    assert sorted(spacings)[len(spacings) // 2] == pytest.approx(50_000, rel=0.1)
    columns = [name for name in power.__struct_fields__ if isinstance(getattr(power, name), tuple)]
    assert all(getattr(power, name) for name in columns), "every column is read here"
    # Times and stamps of a real length: 400 readings, 400 edges and 400 marks are what a record holds at most.
    full = msgspec.structs.replace(
        raw,
        power=repeated(power, "t_ns", "stamp_us"),
        counter=repeated(raw.counter, "before_ns", "t_ns"),
        loads=(repeated(raw.loads[0], "t_ns"),),
    )
    assert len(msgspec.json.encode(full)) < 50_000


def repeated(trace: Any, *times: str) -> Any:
    """A trace of 400 entries: its first ones over and over, the times spread over 22 s."""
    changes: dict[str, tuple[int | None, ...]] = {}
    for name in trace.__struct_fields__:
        column = getattr(trace, name)
        if isinstance(column, tuple):
            changes[name] = tuple(column[i % len(column)] for i in range(400))
        if name in times:
            last = 22_000_000 if name == "stamp_us" else 22_000_000_000
            changes[name] = tuple(last * i // 399 for i in range(400))
    return msgspec.structs.replace(trace, **changes)


def test_a_slice_has_a_time_and_no_watts(fake_gpu: FakeGpuMaker) -> None:
    fake_gpu(load_from_s=0, load_to_s=1e9, mig=1)
    outcome = measure(environment=msgspec.structs.replace(NvmlRig.environment, mig=True))
    assert (outcome.status, outcome.energy_status) == ("ok", "refused")
    assert outcome.energy_reason == "MIG is on: the watts are the whole GPU's, not this slice's"


def test_a_process_beside_the_load_refuses_its_watts(fake_gpu: FakeGpuMaker) -> None:
    gpu = fake_gpu(load_from_s=0, load_to_s=1e9)
    count = "from flopwatt.measurement.nvml_device import describe\nanswer = describe().other_processes"
    counted: list[int] = []

    def others() -> int:  # the fake is found by processes started afresh alone
        if counted:
            build.extend_scenario(gpu.variables, processes=1)
        counted.append(gpu.run(count))
        return counted[-1]

    outcome = measure(others=others)
    assert counted == [0, 1], "asked before the load and after it, never within"
    assert (outcome.status, outcome.energy_status) == ("ok", "refused")
    assert outcome.energy_reason == "another process computes on this GPU: the watts are not this case's alone"
    assert outcome.measurement is not None
    assert outcome.measurement.flags == ("shared",)


def test_without_a_counter_an_unidentified_sensor_gives_no_watts(fake_gpu: FakeGpuMaker) -> None:
    fake_gpu(load_from_s=0, load_to_s=1e9, counter="NOT_SUPPORTED")
    outcome = measure(SensorIdentity(source="nvml"))
    assert outcome.energy_status == "unidentified"
    assert "doctor --sensor" in str(outcome.energy_reason)
