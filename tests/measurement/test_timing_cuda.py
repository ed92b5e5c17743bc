"""The CUDA timer against a device that is not there: events, graphs and a stream in virtual time.

The device's clock has its own offset and runs 40 ppm fast; events have CUDA's float32 milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import pytest
import torch

from flopwatt.measurement.case import hold
from flopwatt.measurement.clock import VirtualClock
from flopwatt.measurement.timing_cuda import CudaTimer

LAUNCH_COST_NS = 4_000
CALL_NS = 2_000
FAST = 1 + 40e-6


class Device:
    """One stream. Work starts when the stream is free and the host has launched it."""

    def __init__(self, kernel_ns: int, *, capturable: bool = True) -> None:
        self.clock = VirtualClock(5_000_000_000)
        self.kernel_ns = kernel_ns
        self.capturable = capturable
        self.busy_until = 0
        self.launched: list[int] = []
        self.idle_ns: list[int] = []
        self.capturing: list[int] | None = None
        self.stream = "default"

    def step(self, index: int) -> None:
        if self.capturing is not None:
            if not self.capturable:
                raise RuntimeError("operation not permitted when stream is capturing")
            self.capturing.append(index)
            return
        self.clock.sleep_ns(LAUNCH_COST_NS)
        self._run([index])

    def replay(self, indices: list[int]) -> None:
        self.clock.sleep_ns(LAUNCH_COST_NS)
        self._run(indices)

    def _run(self, indices: list[int]) -> None:
        start = max(self.clock.now_ns(), self.busy_until)
        self.idle_ns.append(start - self.busy_until)
        self.busy_until = start + self.kernel_ns * len(indices)
        self.launched += indices

    def synchronize(self) -> None:
        self.clock.sleep_ns(self.busy_until - self.clock.now_ns() + CALL_NS)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Device:
    kernel_ns, capturable = getattr(request, "param", (500_000, True))
    gpu = Device(kernel_ns, capturable=capturable)

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            gpu.clock.sleep_ns(CALL_NS)
            self.t_ns = max(gpu.clock.now_ns(), gpu.busy_until)

        def query(self) -> bool:
            gpu.clock.sleep_ns(CALL_NS)
            return gpu.clock.now_ns() >= self.t_ns

        def synchronize(self) -> None:
            gpu.clock.sleep_ns(self.t_ns - gpu.clock.now_ns() + CALL_NS)

        def elapsed_time(self, later: Event) -> float:
            return float(np.float32((later.t_ns - self.t_ns) * FAST * 1e-6))

    class Graph:
        def __init__(self) -> None:
            self.indices: list[int] = []

        def capture_begin(self) -> None:
            assert gpu.stream == "side", "capture on the default stream is refused"
            gpu.capturing = self.indices

        def capture_end(self) -> None:
            gpu.capturing = None
            if not gpu.capturable:
                raise RuntimeError("operation failed due to a previous error during capture")

        def replay(self) -> None:
            gpu.replay(self.indices)

    class Stream:
        def wait_stream(self, other: Stream) -> None:
            """One stream's worth of order is all that this device has."""

    @contextmanager
    def stream(_: Stream) -> Iterator[None]:
        gpu.stream = "side"
        try:
            yield
        finally:
            gpu.stream = "default"

    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "synchronize", gpu.synchronize)
    return gpu


KERNELS = {
    "long": (5_000_000, True),
    "short": (20_000, True),
    "tiny": (6_000, True),
    "not capturable": (500_000, False),
}


def each_kernel() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("device", KERNELS.values(), ids=KERNELS, indirect=True)


@each_kernel()
def test_warm_up_finds_the_time_of_a_launch(device: Device) -> None:
    timer = CudaTimer(device.step, 3, device.clock)
    # From an idle device the first launch costs the host's time as well.
    assert timer.warm_up() == pytest.approx(device.kernel_ns, rel=0.02)
    assert set(device.launched) == {0, 1, 2}


@each_kernel()
def test_a_load_is_gap_free_and_its_marks_are_where_launches_completed(device: Device) -> None:
    timer = CudaTimer(device.step, 3, device.clock)
    launch_ns = timer.warm_up()
    before = len(device.launched)
    timer.begin(max(1, round(5_000_000 / launch_ns)))
    device.idle_ns.clear()
    hold(timer, device.clock, 2.0)
    timed = timer.end()
    assert max(device.idle_ns) == 0
    assert timed.load.launches[0] == 0
    assert timed.load.launches[-1] == len(device.launched) - before
    steps = np.diff(timed.load.t_ns) / np.diff(timed.load.launches)
    assert np.median(steps) == pytest.approx(device.kernel_ns, rel=1e-4)
    assert timed.load.t_ns[-1] == pytest.approx(device.busy_until, abs=10_000)
    assert timed.load.t_ns[-1] - timed.load.t_ns[0] >= 2e9
    assert timed.clock_map is not None
    assert timed.clock_map.drift_ns == pytest.approx(-40e-6 * (timed.load.t_ns[-1] - timed.load.t_ns[0]), rel=0.1)
    assert timed.clock_map.first_half_width_ns <= 5_000


@each_kernel()
def test_the_operand_sets_are_used_in_turn(device: Device) -> None:
    timer = CudaTimer(device.step, 3, device.clock)
    launch_ns = timer.warm_up()
    device.launched.clear()
    timer.run(20, max(1, round(1_000_000 / launch_ns)))
    assert device.launched == [index % 3 for index in range(len(device.launched))]


@pytest.mark.parametrize("sets", [2, 3, 5, 27])
@pytest.mark.parametrize("per_mark", [1, 2, 3, 4, 9, 40])
def test_a_burst_never_holds_more_launches_than_asked_and_never_repeats_a_set(
    device: Device, sets: int, per_mark: int
) -> None:
    timer = CudaTimer(device.step, sets, device.clock)
    timer.warm_up()
    device.launched.clear()
    timed = timer.run(10, per_mark)
    assert per_mark - sets < timed.load.launches[1] <= per_mark
    assert len(device.launched) == timed.load.launches[-1]
    assert all(after == (before + 1) % sets for before, after in pairwise(device.launched))


def test_a_burst_is_exactly_what_was_asked(device: Device) -> None:
    timer = CudaTimer(device.step, 2, device.clock)
    timer.warm_up()
    device.launched.clear()
    timed = timer.run(12, 4)
    assert len(device.launched) == 48
    assert timed.load.launches == tuple(range(0, 49, 4))


@pytest.mark.parametrize("device", [(500_000, False)], indirect=True)
def test_a_kernel_that_cannot_be_captured_is_launched_plainly_and_says_so(device: Device) -> None:
    timer = CudaTimer(device.step, 2, device.clock)
    timer.warm_up()
    timer.run(4, 4)
    assert timer.name == "cuda-event"
    assert device.stream == "default"


def test_out_of_memory_while_capturing_is_not_taken_for_a_kernel_that_cannot_be_captured(device: Device) -> None:
    timer = CudaTimer(device.step, 2, device.clock)
    timer.warm_up()

    def exhausted(index: int) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    timer._step = exhausted
    device.capturable = False  # ending the broken capture raises as well
    with pytest.raises(RuntimeError) as raised:
        timer.run(6, 6)
    assert isinstance(raised.value.__context__, torch.OutOfMemoryError)
    assert timer.name == "cuda-graph"


def test_the_queue_survives_a_pause_of_this_process(device: Device) -> None:
    """The host is descheduled for 15 ms: work queued ahead keeps the device busy."""
    timer = CudaTimer(device.step, 2, device.clock)
    timer.warm_up()
    timer.begin(4)
    device.idle_ns.clear()
    for _ in range(50):
        timer.pump()
        device.clock.sleep_ns(15_000_000)
    assert max(device.idle_ns) == 0
    timer.end()
