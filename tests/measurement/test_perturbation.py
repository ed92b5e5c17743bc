"""Sampler on against off: a sampler that steals time is found out, one that does not is not accused."""

from __future__ import annotations

import random

import pytest

from flopwatt.measurement.clock import VirtualClock
from flopwatt.measurement.perturbation import measure_perturbation
from flopwatt.measurement.power.sampler import Samples
from flopwatt.measurement.rig import Prepared
from flopwatt.measurement.timing_cpu import CpuTimer


class StealingSampler:
    """Slows every launch by a fraction while it samples."""

    source = "none"

    def __init__(self) -> None:
        self.on = False

    def start(self) -> None:
        self.on = True

    def peek(self) -> Samples:
        return Samples(source="none")

    def stop(self) -> Samples:
        self.on = False
        return Samples(source="none")

    def close(self) -> None:
        self.on = False


class VirtualRig:
    """Launches of 1 ms with 1 % of jitter that slow down by 2 % over the load."""

    def __init__(self, theft: float) -> None:
        self.clock = VirtualClock()
        self.sampler = StealingSampler()
        self._theft = theft
        self._random = random.Random(3)

    def step(self, _: int) -> None:
        slowing = 1 + 2e-12 * self.clock.now_ns()
        stolen = 1 + self._theft * self.sampler.on
        self.clock.sleep_ns(round(1e6 * self._random.gauss(1.0, 0.01) * slowing * stolen))


def test_rates_that_merely_scatter_show_no_effect() -> None:
    """Neighbours that halve and double the rate at random: the mean of on/off would be far above 1."""
    rig = VirtualRig(0.0)
    plain, chance = rig.step, random.Random(5)

    def step(index: int) -> None:
        if index % 400 == 0:
            rig.burden = chance.choice((1, 2, 4))
        for _ in range(rig.burden):
            plain(index)

    rig.burden = 1  # type: ignore[attr-defined]
    found = measure_perturbation(rig, Prepared(timer=CpuTimer(step, rig.clock), config={}), pairs=200)  # type: ignore[arg-type]
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0 < found.high
    assert abs(found.value) < 0.1


@pytest.mark.parametrize("theft", [0.0, 0.002, 0.05])
def test_the_slowdown_is_found_within_its_interval(theft: float) -> None:
    rig = VirtualRig(theft)
    prepared = Prepared(timer=CpuTimer(rig.step, rig.clock), config={})
    found = measure_perturbation(rig, prepared)  # type: ignore[arg-type]
    assert found.low is not None
    assert found.high is not None
    assert found.low < 1 / (1 + theft) - 1 < found.high
    assert found.high - found.low < 0.003
    assert not rig.sampler.on
