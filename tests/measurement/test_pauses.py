"""A measurement that was stopped in the middle is told from one that was merely disturbed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from itertools import accumulate
from pathlib import Path

import pytest

from flopwatt.measurement import clock, pauses
from flopwatt.measurement.pauses import Interruption, interruption
from flopwatt.measurement.timing import TimedLoad
from flopwatt.runs.samples import Load
from flopwatt_process import sources

MS = 1_000_000


def load(steps_ms: list[float], launches: int = 5) -> TimedLoad:
    """Marks so many milliseconds apart, each after so many launches."""
    t_ns = tuple(accumulate((round(step * MS) for step in steps_ms), initial=10**12))
    return TimedLoad(Load(t_ns=t_ns, launches=tuple(range(0, launches * len(t_ns), launches))), None)


STEADY = [5.0] * 400

PAUSED: dict[str, tuple[list[float], float]] = {
    "stopped for 3 s": ([*STEADY, 3005.0, *STEADY], 3.0),
    "stopped for 1 s": ([*STEADY, 1005.0, *STEADY], 1.0),
    "stopped twice": ([*STEADY, 905.0, *STEADY, 505.0], 0.9),
    "stopped in a launch of a second": ([1000.0, 1000.0, 6000.0, 1000.0], 5.0),
}

UNDISTURBED: dict[str, list[float]] = {
    "steady": STEADY,
    "an interrupt": [*STEADY, 105.0, *STEADY],
    "launches of a second that vary": [1000.0, 1300.0, 900.0, 1200.0] * 3,
    "launches of a second that another program slows": [1000.0] * 4 + [2000.0] * 3,
    "one mark": [5000.0],
    "none": [],
}


def found(*loads: TimedLoad, suspended_s: float = 0.0, absent_s: float | None = None) -> Interruption | None:
    return interruption(loads, suspended_s, absent_s)


@pytest.mark.parametrize("name", PAUSED)
@pytest.mark.parametrize("absent_s", [None, 9.0], ids=["gpu", "cpu"])
def test_a_pause_is_what_no_launch_takes(name: str, absent_s: float | None) -> None:
    steps, expected_s = PAUSED[name]
    said = f"the measuring process was stopped, or starved, for {expected_s:.1f} s under load"
    assert found(load(steps), absent_s=absent_s) == (said, expected_s <= 0.1 * sum(steps) / 1e3)


@pytest.mark.parametrize("name", UNDISTURBED)
def test_launches_that_vary_are_not_paused(name: str) -> None:
    assert found(load(UNDISTURBED[name])) is None


def test_a_pause_in_any_load_is_found_and_the_rest_between_loads_is_none() -> None:
    paused = found(load(STEADY), load([*STEADY, 1405.0]), load(STEADY))
    assert paused is not None
    assert "for 1.4 s" in paused.reason
    assert found(load(STEADY), load(STEADY)) is None
    assert found() is None, "a burst's"


def test_a_machine_that_slept_measured_nothing() -> None:
    stopped = load([*STEADY, 2505.0])
    assert found(stopped, suspended_s=7.25) == ("the machine slept for 7.2 s while the case was measured", False)
    assert found(load(STEADY), suspended_s=0.01) is None, "two clocks read one after the other"


@pytest.mark.parametrize(("pause_ms", "brief"), [(350.0, True), (300.0, True), (500.0, False)])
def test_what_is_no_more_than_noise_may_stand_marked(pause_ms: float, brief: bool) -> None:
    paused = found(load([*STEADY, *STEADY, 5.0 + pause_ms]))
    assert paused is not None
    assert paused.brief is brief


def test_a_cpu_that_others_keep_busy_is_measured_as_it_is_and_marked() -> None:
    starved = load([*STEADY, 6005.0, *STEADY])
    assert found(starved, absent_s=0.05) == (
        "the measuring process was stopped, or starved, for 6.0 s under load", True,
    )  # fmt: skip
    stopped = found(starved, absent_s=6.01)
    assert stopped is not None
    assert not stopped.brief


PRESENT = """
import os, sys, time
from flopwatt.measurement.pauses import Presence
presence = Presence()
until = time.process_time() + 0.3
while time.process_time() < until:
    pass
print(presence.absent_s(), flush=True)
sys.stdin.readline()
print(presence.absent_s(), flush=True)
"""


def test_a_process_that_works_is_present_and_one_that_stands_still_is_not() -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this kernel does not tell how long a process waits for its turn")
    with subprocess.Popen(
        [sys.executable, "-c", PRESENT],
        env={**os.environ, **sources()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert float(process.stdout.readline()) < 0.1
        begun = time.monotonic()
        process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        process.send_signal(signal.SIGCONT)
        stood_s = time.monotonic() - begun
        process.stdin.write("go on\n")
        process.stdin.close()
        assert float(process.stdout.readline()) == pytest.approx(stood_s, abs=0.25)


def test_a_kernel_that_does_not_tell_leaves_it_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pauses, "TASKS", tmp_path / "none")
    assert pauses.Presence().absent_s() is None


def test_the_time_asleep_is_told_from_the_time_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is made to wait between reading one clock and the other has not slept."""
    now_ns, waits = [10**12], iter([0, 300 * MS, 0, 80 * MS, 0] * 3)

    def tick(wait_ns: int = 1000) -> int:
        now_ns[0] += wait_ns
        return now_ns[0]

    monkeypatch.setattr(clock.time, "monotonic_ns", tick)
    monkeypatch.setattr(clock.time, "clock_gettime_ns", lambda _: tick(next(waits)) + 5 * 10**9)
    assert clock.MonotonicClock().suspended_ns() == pytest.approx(5 * 10**9, abs=2000)
