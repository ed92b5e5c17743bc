from __future__ import annotations

import numpy as np
import pytest
from plain_scenario import plain, steady_kernel

from flopwatt.errors import DeviceError
from flopwatt.measurement.clock import VirtualClock
from flopwatt.measurement.simulation.gpu import SimulatedGpu
from flopwatt.measurement.simulation.timer import SimulatedTimer

S = 1_000_000_000


def timer_over(scenario, time_s=1e-3, run=(1.0, 1.0), start_ns=5 * S):
    clock = VirtualClock(start_ns)
    gpu = SimulatedGpu(scenario, start_s=start_ns / S)
    return clock, gpu, SimulatedTimer(gpu, clock, steady_kernel(time_s), run, np.random.default_rng(1))


def test_a_burst_is_exactly_as_many_launches_as_asked_and_ends_the_load():
    clock, gpu, timer = timer_over(plain())
    timed = timer.run(marks=8, launches_per_mark=3)
    assert timed.load.launches == tuple(range(0, 27, 3))
    assert timed.load.t_ns[0] == 5 * S
    assert np.diff(timed.load.t_ns) == pytest.approx(3e6, abs=1)
    assert clock.now_ns() == timed.load.t_ns[-1]
    assert gpu.true_power_w([5.01, 5.03]) == pytest.approx([350, 50])


def test_an_open_load_ends_at_the_first_mark_not_before_now():
    clock, gpu, timer = timer_over(plain(noise={"launch_jitter": 0.05}))
    timer.begin(launches_per_mark=7)
    while clock.now_ns() < 7 * S:
        timer.pump()
    asked_ns = clock.now_ns()
    timed = timer.end()
    assert timed.load.t_ns[-2] < asked_ns <= timed.load.t_ns[-1] == clock.now_ns()
    assert timed.load.launches[-1] / 7 == len(timed.load.t_ns) - 1
    assert timed.load.launches[-1] == pytest.approx(2000, rel=0.005)
    assert gpu.true_power_w(clock.now_ns() / S + 0.01) == pytest.approx(50)


def test_jitter_of_launches_averages_within_a_mark():
    spread = {}
    for launches in (1, 16):
        _, _, timer = timer_over(plain(noise={"launch_jitter": 0.04}))
        t_ns = timer.run(4000 // launches, launches).load.t_ns
        spread[launches] = np.diff(t_ns).std() / np.diff(t_ns).mean()
    assert spread[1] == pytest.approx(0.04, rel=0.1)
    assert spread[16] == pytest.approx(0.01, rel=0.15)


def test_the_run_factors_scale_time_and_power():
    _, gpu, timer = timer_over(plain(), run=(1.02, 0.99))
    t_ns = timer.run(1000, 1).load.t_ns
    assert np.diff(t_ns).mean() == pytest.approx(1.02e6, rel=1e-6)
    assert gpu.true_power_w(5.5) == pytest.approx(0.99 * 350)


@pytest.mark.parametrize("time_s", [5e-6, 1e-3, 0.5])
def test_warming_up_tells_the_time_of_one_launch(time_s):
    clock, _, timer = timer_over(plain(), time_s=time_s)
    assert timer.warm_up() == pytest.approx(time_s * 1e9, rel=1e-3)
    assert clock.now_ns() - 5 * S == pytest.approx(max(0.02, 3 * time_s) * S, rel=0.01)


def test_a_lost_gpu_ends_every_load():
    _, _, timer = timer_over(plain(faults={"lost_after_s": 1.0}))
    timer.run(500, 1)
    with pytest.raises(DeviceError, match="CUDA error: GPU is lost"):
        timer.run(600, 1)
    timer = timer_over(plain(faults={"lost_after_s": 1.0}))[2]
    timer.begin(1)
    for _ in range(249):
        timer.pump()
    with pytest.raises(DeviceError, match="CUDA error: GPU is lost"):
        timer.pump()


def test_a_pump_lets_a_mark_or_four_milliseconds_pass():
    for time_s, expected_ns in ((1e-3, 4_000_000), (0.05, 50_000_000)):
        clock, _, timer = timer_over(plain(), time_s=time_s)
        timer.begin(1)
        timer.pump()
        assert clock.now_ns() - 5 * S == expected_ns
