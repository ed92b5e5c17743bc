"""The sampler process on a fake GPU whose true tick times and energy are known on the same clock."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time

import pytest

from flopwatt.measurement.power.process import ANSWER_S, NullSampler, ProcessSampler, open_sampler
from processes import is_gone, wait_for


def sample(seconds: float, sampler: ProcessSampler | None = None):
    sampler = sampler or open_sampler("nvml")
    try:
        sampler.start()
        time.sleep(seconds)
        return sampler.stop()
    finally:
        sampler.close()


def kill(sampler: ProcessSampler) -> None:
    """Ends the sampler's process, and waits until it has."""
    os.kill(sampler.pid, signal.SIGKILL)
    sampler._process.wait(30)


def polled(sampler: ProcessSampler, least: int) -> None:
    """Until so many readings of power have come."""
    wait_for(lambda: (power := sampler.peek().power) is not None and len(power.t_ns) >= least)


def true_ticks(gpu, tick_ms: float, until_ns: int, jitter_ms: float = 0.0) -> list[float]:
    """Milliseconds from the origin, as nvml.c computes them."""
    end_ms = (until_ns - gpu.origin_ns) * 1e-6
    return [t for n in range(int(end_ms / tick_ms) + 2) if (t := n * tick_ms + jitter_ms * math.sin(n)) <= end_ms]


@pytest.mark.parametrize(("tick_ms", "jitter_ms"), [(100.0, 0.0), (101.0, 2.0), (20.0, 0.0)])
def test_every_edge_brackets_a_true_tick_within_three_milliseconds(fake_gpu, tick_ms, jitter_ms):
    gpu = fake_gpu(load_from_s=0, load_to_s=1e9, counter_tick_ms=tick_ms, counter_jitter_ms=jitter_ms)
    counter = sample(2.0).counter
    ticks = true_ticks(gpu, tick_ms, counter.t_ns[-1] + 10_000_000, jitter_ms)
    edges = list(zip(counter.before_ns, counter.t_ns, strict=True))[1:]
    assert len(edges) >= min(17, 2000 / tick_ms * 0.4)
    widths = []
    for before, after in edges:
        low, high = (before - gpu.origin_ns) * 1e-6, (after - gpu.origin_ns) * 1e-6
        nearest = min(ticks, key=lambda tick: abs(tick - (low + high) / 2))
        assert low - 0.001 <= nearest <= high + 0.001, "the bracket is honest"
        widths.append(high - low)
    # On a machine that others use, many a poll waits for a core: a quarter of them does not.
    assert sorted(widths)[len(widths) // 4] < 3.0


def test_energy_between_edges_is_the_true_energy(fake_gpu):
    fake_gpu(load_from_s=0, load_to_s=1e9)
    counter = sample(3.0).counter
    middles = [(before + after) / 2e9 for before, after in zip(counter.before_ns, counter.t_ns, strict=True)]
    watts = (counter.energy_mj[-1] - counter.energy_mj[1]) * 1e-3 / (middles[-1] - middles[1])
    assert watts == pytest.approx(690.0, rel=0.005)


def test_power_and_slow_traces_have_their_rates_and_units(fake_gpu):
    fake_gpu(load_from_s=0, load_to_s=1e9)
    samples = sample(1.5)
    assert samples.source == "nvml"
    assert samples.lost is None
    assert samples.unreadable == {}
    assert 25 <= len(samples.power.t_ns) <= 33
    assert set(samples.power.instant_mw) == {690000}
    assert set(samples.power.clock_mhz) == {1755}
    assert set(samples.power.reasons) == {4}
    assert len(samples.slow.t_ns) == 3, "at once, after a second, and at the end"
    assert set(samples.slow.power_limit_mw) == {700000}


def test_slow_calls_widen_the_brackets_and_nothing_else(fake_gpu):
    gpu = fake_gpu(load_from_s=0, load_to_s=1e9, call_us=2000)
    counter = sample(1.5).counter
    ticks = true_ticks(gpu, 100.0, counter.t_ns[-1])
    for before, after in list(zip(counter.before_ns, counter.t_ns, strict=True))[1:]:
        assert any(before <= gpu.origin_ns + tick * 1e6 <= after for tick in ticks)
        assert after - before < 25_000_000


def test_a_stretch_starts_afresh(fake_gpu):
    fake_gpu()
    sampler = open_sampler("nvml")
    try:
        sampler.start()
        time.sleep(0.4)
        first = sampler.stop()
        begun = time.monotonic_ns()
        sampler.start()
        time.sleep(0.4)
        second = sampler.stop()
    finally:
        sampler.close()
    assert first.counter.t_ns[-1] < begun < second.counter.before_ns[0]
    assert first.power.t_ns[-1] < begun < second.power.t_ns[0]


def test_peek_is_cheap_and_agrees_with_stop(fake_gpu):
    fake_gpu()
    sampler = open_sampler("nvml")
    try:
        sampler.start()
        polled(sampler, 10)
        costs = []
        for _ in range(20):
            begun = time.perf_counter()
            peeked = sampler.peek()
            costs.append(time.perf_counter() - begun)
        stopped = sampler.stop()
    finally:
        sampler.close()
    assert sorted(costs)[10] < 0.5e-3
    assert stopped.power.t_ns[: len(peeked.power.t_ns)] == peeked.power.t_ns
    assert stopped.counter.t_ns[: len(peeked.counter.t_ns)] == peeked.counter.t_ns


def test_a_counter_that_is_not_supported_leaves_power(fake_gpu):
    fake_gpu(counter="NOT_SUPPORTED")
    sampler = open_sampler("nvml")
    assert sampler.unreadable == {"counter": "NOT_SUPPORTED"}
    samples = sample(0.5, sampler)
    assert samples.counter is None
    assert samples.unreadable == {"counter": "NOT_SUPPORTED"}
    assert set(samples.power.instant_mw) == {73000}


def test_a_counter_that_never_changes_says_so(fake_gpu):
    fake_gpu(counter_frozen=1)
    samples = sample(2.4)
    assert samples.counter is None
    assert samples.unreadable["counter"] == "does not count: 5000000 mJ throughout"


def test_a_counter_that_goes_backwards_is_left_out(fake_gpu):
    fake_gpu(counter_drops_at_s=0.6)
    samples = sample(1.0)
    assert samples.counter is None
    assert samples.unreadable["counter"].startswith("fell from 50")
    assert samples.power is not None


def test_a_gpu_lost_while_sampling_keeps_what_was_read_and_says_so(fake_gpu):
    fake_gpu(lost_after_s=0.8)
    samples = sample(1.3)
    assert samples.lost.startswith("NVML: GPU_IS_LOST")
    assert len(samples.power.t_ns) >= 5
    assert len(samples.counter.t_ns) >= 3


def test_zero_readings_reach_the_trace_as_they_are(fake_gpu):
    fake_gpu(zero_power=1)
    assert set(sample(0.3).power.instant_mw) == {0}


@pytest.mark.parametrize("code", ["DRIVER_NOT_LOADED", "NO_PERMISSION"])
def test_where_nvml_does_not_open_the_sampler_gives_the_reason(fake_gpu, code):
    fake_gpu(init=code)
    sampler = open_sampler("nvml")
    assert isinstance(sampler, NullSampler)
    assert (sampler.source, list(sampler.unreadable)) == ("none", ["power"])
    assert sampler.unreadable["power"].startswith(f"NVML: {code} in nvmlInit: ")
    samples = sample(0.0, sampler)
    assert samples.power is samples.counter is samples.lost is None
    assert samples.unreadable == sampler.unreadable


def test_without_a_library_the_sampler_gives_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    sampler = open_sampler("nvml:GPU-that-is-not-there")
    sampler.close()
    assert isinstance(sampler, NullSampler)
    assert sampler.unreadable["power"].startswith("NVML: ")


def test_a_sampler_that_is_killed_is_told_at_once_and_replaced_by_the_next_start(fake_gpu):
    fake_gpu()
    sampler = ProcessSampler("nvml")
    try:
        sampler.start()
        polled(sampler, 5)
        kill(sampler)
        assert "killed by SIGKILL" in sampler.peek().lost
        begun = time.monotonic()
        samples = sampler.stop()
        assert time.monotonic() - begun < ANSWER_S, "there is nobody to wait for"
        assert "killed by SIGKILL" in samples.lost
        assert len(samples.power.t_ns) >= 5, "what came before the end is kept"
        sampler.start()
        time.sleep(0.3)
        assert sampler.stop().lost is None
    finally:
        sampler.close()


def test_a_sampler_that_hangs_does_not_hang_stop(fake_gpu, monkeypatch):
    fake_gpu()
    monkeypatch.setattr("flopwatt.measurement.power.process.ANSWER_S", 0.3)
    sampler = ProcessSampler("nvml")
    try:
        sampler.start()
        os.kill(sampler.pid, signal.SIGSTOP)
        begun = time.monotonic()
        assert "did not answer" in sampler.stop().lost
        assert time.monotonic() - begun < ANSWER_S
    finally:
        os.kill(sampler.pid, signal.SIGCONT)
        sampler.close()


def test_ctrl_c_does_not_reach_the_sampler(fake_gpu):
    fake_gpu()
    sampler = ProcessSampler("nvml")
    try:
        sampler.start()
        os.kill(sampler.pid, signal.SIGINT)
        time.sleep(0.3)
        assert sampler.stop().lost is None
        assert os.getpgid(sampler.pid) != os.getpgid(0)
    finally:
        sampler.close()


PARENT = """
import sys, time
from flopwatt.measurement.power.process import ProcessSampler
sampler = ProcessSampler("nvml")
sampler.start()
print(sampler.pid, flush=True)
time.sleep(60)
"""


def test_the_sampler_goes_when_its_parent_is_killed(fake_gpu):
    fake_gpu()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.kill()
    wait_for(lambda: is_gone(pid))


def test_the_sampler_process_loads_no_torch_triton_or_numpy():
    code = (
        "import sys\nimport flopwatt.measurement.power.serving, flopwatt.measurement.power.nvml\n"
        "import flopwatt.measurement.power.rapl\n"
        "print(sorted({'torch', 'triton', 'numpy', 'pandas'} & sys.modules.keys()))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_a_target_nobody_knows_is_told():
    assert open_sampler("wattmeter").unreadable["power"].startswith("no power sensor is called 'wattmeter'")


@pytest.mark.parametrize("selector", ["GPU-00000000-1111-2222-3333-444444444441", "00000000:1b:00.0"])
def test_the_sampler_opens_the_gpu_that_is_named(fake_gpu, selector):
    gpu = fake_gpu(gpus=2)
    sampler = open_sampler(f"nvml:{selector}")
    sampler.close()
    assert sampler.source == "nvml"
    assert "nvmlDeviceGetHandleByIndex_v2" not in gpu.calls()


def test_a_process_that_does_not_start_is_told(monkeypatch):
    monkeypatch.setattr("flopwatt.measurement.power.process.MODULE", "flopwatt.measurement.power.nowhere")
    assert open_sampler("nvml").unreadable == {"power": "the sampler process ended: exit code 1"}


def test_a_replacement_that_does_not_start_is_told_in_the_samples(fake_gpu, monkeypatch):
    fake_gpu()
    sampler = ProcessSampler("nvml")
    try:
        kill(sampler)
        fake_gpu(init="DRIVER_NOT_LOADED")
        sampler.start()
        assert sampler.peek().lost.startswith("the sampler process cannot be replaced: NVML: DRIVER_NOT_LOADED")
        assert sampler.stop().power is None
    finally:
        sampler.close()
