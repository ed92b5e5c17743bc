from __future__ import annotations

import numpy as np
import pytest
from plain_scenario import plain, steady_kernel, watched

from flopwatt.measurement.simulation.sampler import VirtualSampler

S = 1_000_000_000


def sampled(scenario, **seeds):
    gpu, clock, _ = watched(scenario, **seeds)
    return gpu, clock, VirtualSampler(gpu, clock)


def loaded_samples(scenario, looks=1, seconds=10):
    gpu, clock, sampler = sampled(scenario, seed=1)
    clock.sleep_ns(S)
    sampler.start()
    gpu.begin(1.0, steady_kernel())
    for _ in range(looks):
        clock.sleep_ns(seconds * S // looks)
        sampler.peek()
    return sampler.stop()


def test_polls_happen_at_their_own_times_however_rarely_somebody_looks():
    scenario = plain(noise={"drift_power": 0.01}, sensor={"latency_s": 20e-6})
    once, often = loaded_samples(scenario, looks=1), loaded_samples(scenario, looks=500)
    assert once == often
    assert once.source == "simulated"
    assert once.power.t_ns[0] >= S
    assert once.power.t_ns[-1] == pytest.approx(11 * S, abs=S // 10)
    # Power is polled at 10 to 20 Hz.
    assert 100 <= len(once.power.t_ns) <= 202


def test_counter_edges_are_bracketed_within_two_milliseconds_and_give_true_energy():
    gpu, clock, sampler = sampled(plain(noise={"drift_power": 0.02}, sensor={"latency_s": 20e-6}), seed=3)
    gpu.begin(0.0, steady_kernel())
    sampler.start()
    clock.sleep_ns(10 * S)
    counter = sampler.stop().counter
    before, t, energy = (np.array(a)[5:] for a in (counter.before_ns, counter.t_ns, counter.energy_mj))
    assert np.median(t - before) < 2e6
    edges = (before + t) / 2 / S
    true_j = float(gpu.true_energy_j(edges[0], edges[-1]))
    assert (energy[-1] - energy[0]) * 1e-3 == pytest.approx(true_j, rel=3e-4)


def test_polling_ten_seconds_costs_few_readings():
    gpu, clock, sampler = sampled(plain())
    calls = {"counter": 0, "power": 0}
    sensor = sampler._sensor
    read_counter, read_power = sensor.read_counter, sensor.read_power

    def counted(name, read):
        def call():
            calls[name] += 1
            return read()

        return call

    sensor.read_counter, sensor.read_power = counted("counter", read_counter), counted("power", read_power)
    gpu.begin(0.0, steady_kernel())
    sampler.start()
    clock.sleep_ns(10 * S)
    sampler.stop()
    assert 100 <= calls["power"] <= 202
    # At most each millisecond; hunting edges only, an order of magnitude fewer.
    assert 100 < calls["counter"] < 5000
    assert len(gpu.timeline) < 600


def test_each_stretch_begins_afresh():
    _, clock, sampler = sampled(plain())
    sampler.start()
    clock.sleep_ns(2 * S)
    assert sampler.stop().power.t_ns[-1] <= 2 * S + 10_000_000
    clock.sleep_ns(5 * S)
    sampler.start()
    clock.sleep_ns(2 * S)
    assert sampler.stop().power.t_ns[0] >= 7 * S
    sampler.close()


def test_what_cannot_be_read_and_a_lost_gpu_are_told():
    samples = loaded_samples(plain(sensor={"unsupported": ["counter", "instant"]}))
    assert samples.counter is None
    assert samples.unreadable["counter"] == "NOT_SUPPORTED"
    assert samples.unreadable["instant_mw"] == "NOT_SUPPORTED"
    assert samples.lost is None
    lost = loaded_samples(plain(faults={"lost_after_s": 5.0}))
    assert "GPU_IS_LOST" in lost.lost
    assert lost.power.t_ns[-1] < 5 * S


def test_being_sampled_slows_launches_only_where_the_scenario_says_so():
    rates = []
    for slowdown in (0.0, 0.02):
        gpu, clock, sampler = sampled(plain(faults={"sampling_slowdown": slowdown}))
        sampler.start()
        gpu.begin(0.0, steady_kernel())
        clock.sleep_ns(2 * S)
        sampler.stop()
        rates.append(gpu.launches_since_begin(2.0) / 2)
    assert rates == pytest.approx([1000, 1000 / 1.02])
