"""A case measured from end to end with the sampler process on a fake GPU: watts, or null with the reason."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from flopwatt.measurement.case import Outcome, measure_prepared
from flopwatt.measurement.clock import MonotonicClock
from flopwatt.measurement.power.process import open_sampler
from flopwatt.measurement.power.sampler import Sampler
from flopwatt.measurement.rig import Prepared
from flopwatt.measurement.timing_cpu import CpuTimer
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
        self.sensor = sensor
        self.clock = MonotonicClock()
        self.sampler: Sampler = open_sampler("nvml")

    def prepare(self, case: Case, seed: int) -> Prepared:
        return Prepared(timer=CpuTimer(lambda _: time.sleep(0.002), self.clock), config={})

    def joined_by(self) -> int:
        return 0

    def release(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        self.sampler.close()


def measure(sensor: SensorIdentity = IDENTIFIED) -> Outcome:
    rig = NvmlRig(sensor)
    try:
        return measure_prepared(rig, CASE, rig.prepare(CASE, 0))
    finally:
        rig.close()


FakeGpuMaker = Callable[..., Any]


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
    "counter not supported": ({"counter": "NOT_SUPPORTED"}, "ok", None),
    "nothing permitted": (
        dict.fromkeys(("counter", "field_186", "field_185", "power"), "NO_PERMISSION"),
        "unsupported",
        "NO_PERMISSION",
    ),
    "zero watts": ({"load_mw": 0, "idle_mw": 0}, "unsupported", "zero|never changed|0"),
    "lost in the middle": ({"lost_after_s": 1.6}, None, "GPU_IS_LOST"),
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
    assert time_s.value == pytest.approx(2.1e-3, rel=0.2)
    if status is not None:
        assert outcome.energy_status == status, outcome.energy_reason
    if reason is not None:
        import re

        said = f"{outcome.energy_reason} {raw.unreadable}"
        assert outcome.energy_status not in ("ok", "disputed")
        assert re.search(reason, said), said


def test_without_a_counter_an_unidentified_sensor_gives_no_watts(fake_gpu: FakeGpuMaker) -> None:
    fake_gpu(load_from_s=0, load_to_s=1e9, counter="NOT_SUPPORTED")
    outcome = measure(SensorIdentity(source="nvml"))
    assert outcome.energy_status == "unidentified"
    assert "doctor --sensor" in str(outcome.energy_reason)
