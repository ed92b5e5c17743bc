"""Dense polling: every change bracketed, through the unmodified bindings too; slower where a sensor answers zeros."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest

from flopwatt.measurement.clock import VirtualClock
from flopwatt.measurement.power.dense import DensePoller
from flopwatt.measurement.power.process import ProcessSampler
from flopwatt.measurement.power.sensor import PowerReading, SensorLost, SlowReading
from flopwatt.runs.rhythm import changes, counter_changes, period

MS = 1_000_000
S = 1_000_000_000


class StepSensor:
    """Instant power and counter that step every 100 ms; zeros where power is asked again within `zero_within_ns`."""

    source = "nvml"

    def __init__(self, clock, zero_within_ns=0, lost_at_ns=None, counter=True):
        self.unreadable = {}
        self.asked = []
        self.slow_at = []
        self._clock, self._zero_ns, self._lost_ns, self._counter = clock, zero_within_ns, lost_at_ns, counter

    def read_counter(self):
        self._clock.sleep_ns(20_000)
        if not self._counter:
            self.unreadable["counter"] = "NOT_SUPPORTED"
            return None
        return 1000 + self._clock.now_ns() // (100 * MS)

    def read_watts(self):
        self._clock.sleep_ns(50_000)
        now = self._clock.now_ns()
        if self._lost_ns is not None and now > self._lost_ns:
            raise SensorLost("GPU_IS_LOST")
        zero = self.asked and now - self.asked[-1] < self._zero_ns
        self.asked.append(now)
        return PowerReading(instant_mw=0 if zero else 100_000 + now // (100 * MS))

    def read_power(self):
        raise AssertionError("dense polling has no time for clocks, temperature and reasons")

    def read_slow(self):
        self.slow_at.append(self._clock.now_ns())
        return SlowReading(power_limit_mw=700_000)


def polled(seconds=3, **traits):
    clock = VirtualClock()
    sensor = StepSensor(clock, **traits)
    poller = DensePoller(sensor, clock)
    due = 0
    while due < seconds * S:
        clock.sleep_ns(due - clock.now_ns())
        due = poller.poll()
    poller.finish()
    return sensor, poller.samples()


def test_every_change_is_bracketed_within_a_spacing_and_little_else_is_kept():
    _, samples = polled()
    for seen in (changes(samples.power, "instant_mw"), counter_changes(samples.counter)):
        assert len(seen.t_s) == 29
        assert seen.t_s == pytest.approx(np.arange(1, 30) * 0.1, abs=1e-3)
        assert seen.width_s.max() < 1.7e-3
    assert len(samples.power.t_ns) <= 61, "two a change, the first and the last"
    assert samples.call_ns == 20_000, "one call of the counter"


def test_what_is_slow_is_read_once_a_second_and_the_state_never():
    sensor, samples = polled(seconds=5)
    assert np.diff(sensor.slow_at) == pytest.approx(S, rel=0.01)
    assert samples.slow.power_limit_mw == (700_000,) * 5
    assert samples.power.clock_mhz == samples.power.temp_c == samples.power.reasons == ()


def test_without_a_counter_the_latency_is_that_of_power():
    _, samples = polled(counter=False)
    assert samples.counter is None
    assert samples.unreadable == {"counter": "NOT_SUPPORTED"}
    assert samples.call_ns == 50_000


def test_a_sensor_that_answers_zeros_is_asked_more_slowly_until_it_does_not():
    sensor, samples = polled(seconds=5, zero_within_ns=50 * MS)
    spacings = np.diff(sensor.asked)
    assert spacings[:15].max() < 2 * MS
    assert 60 * MS <= spacings[30:].min() <= spacings[30:].max() < 63 * MS
    assert period(changes(samples.power, "instant_mw")) == pytest.approx(0.1, rel=0.01)
    assert len(counter_changes(samples.counter).t_s) == 49, "the counter is read as densely as before"


def test_a_lost_sensor_ends_the_stretch_and_keeps_what_was_read():
    _, samples = polled(lost_at_ns=S)
    assert samples.lost == "GPU_IS_LOST"
    assert len(samples.power.t_ns) >= 18


def test_period_and_tick_are_told_through_the_bindings(fake_gpu):
    # The step comes late enough for a sampler that is slow to start.
    gpu = fake_gpu(load_from_s=5.0, load_to_s=1e9, power_update_ms=20, counter_tick_ms=20)
    sampler = ProcessSampler("nvml")
    try:
        before = Counter(gpu.calls())
        sampler.start(dense=True)
        begun = time.monotonic()
        time.sleep(max(0.0, gpu.origin_ns * 1e-9 + 6.2 - begun))
        samples = sampler.stop()
        lasted_s = time.monotonic() - begun
        dense = Counter(gpu.calls()) - before
        sampler.start()
        time.sleep(0.4)
        ordinary = sampler.stop()
    finally:
        sampler.close()
    assert samples.lost is None
    assert dense["nvmlDeviceGetTotalEnergyConsumption"] > 100
    assert dense["nvmlDeviceGetFieldValues"] > 100
    assert abs(dense["nvmlDeviceGetEnforcedPowerLimit"] - lasted_s) < 2, "once a second"
    assert not {call for call in dense if "Temperature" in call or "Reasons" in call or "Process" in call}
    # After a step of load the running average ramps for a second and changes at every update.
    assert period(changes(samples.power, "average_mw")) == pytest.approx(0.020, rel=0.02)
    assert period(counter_changes(samples.counter)) == pytest.approx(0.020, rel=0.02)
    assert 0 < samples.call_ns < 2 * MS
    assert len(changes(samples.power, "instant_mw").t_s) == 1, "the load's one step"
    assert ordinary.call_ns is None, "the next stretch is an ordinary one"
    assert len(ordinary.power.t_ns) < 12
