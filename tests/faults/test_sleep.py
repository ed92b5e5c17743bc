"""A laptop that sleeps, a process that is stopped: what was measured across it is measured again, not written down."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import msgspec
import pytest

from flopwatt.measurement import runner
from flopwatt.measurement.messages import Broken, Done, RigSpec
from flopwatt.measurement.runner import Run
from flopwatt.measurement.worker_client import Worker
from flopwatt.runs.plan import Choices, build
from flopwatt.runs.records import Planned, Policy
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.store import RunFile, read
from flopwatt.runs.suites import suite_from_shapes
from flopwatt_process import flopwatt, sources, start
from processes import children, is_stopped, wait_for
from simulated_runs import WORDS

SLEEPING = """
import itertools, sys
if "flopwatt.measurement.worker" in sys.orig_argv:
    from flopwatt.measurement.clock import VirtualClock
    calls = itertools.count()
    VirtualClock.suspended_ns = lambda _: 4_000_000_000 * (next(calls) {when})
"""
"""A machine that has slept four seconds longer at each look that `when` picks; two looks are taken at a case."""


def asleep(folder: Path, when: str) -> tuple[int, RunFile]:
    (folder / "sitecustomize.py").write_text(SLEEPING.format(when=when))
    path = folder / "run.jsonl"
    words = ("run", "--simulate", "h100", "--shape", "1024x1024x1024", "--shape", "2048x2048x2048", "--effort", "fast")
    done = flopwatt(*words, "-o", path, variables=sources(folder))
    return done.returncode, read(path)


def test_a_case_that_the_machine_slept_through_is_measured_again(tmp_path: Path) -> None:
    code, run = asleep(tmp_path, "== 1")
    assert code == 0
    assert [record.status for record in run.records] == ["ok", "ok"]
    said = [(event.what, event.message) for event in run.events if event.what == "paused"]
    assert said == [("paused", "measured again: the machine slept for 4.0 s while the case was measured")]


def test_a_machine_that_always_sleeps_has_no_figures_and_says_why(tmp_path: Path) -> None:
    code, run = asleep(tmp_path, "% 2")
    assert code == 1
    assert len(run.records) == 2
    for record in run.records:
        assert (record.status, record.measurement) == ("failed", None)
        assert record.reason == "the machine slept for 4.0 s while the case was measured"
    assert len([event for event in run.events if event.what == "paused"]) == 2 * (runner.TRIES - 1)


class Noting(Worker):
    """A real worker that calls its simulation measured, and notes which cases were asked to be soaked."""

    def __init__(self, spec: RigSpec) -> None:
        super().__init__(spec)
        self.hello = msgspec.structs.replace(self.hello, origin="measured")
        self.soaks: list[bool] = []

    def measure(self, planned: Planned, seed: int, soak: bool, timeout_s: float) -> Done | Broken:
        self.soaks.append(soak)
        return super().measure(planned, seed, soak, timeout_s)


@pytest.mark.parametrize(("between_s", "soaks"), [(0.5, [True, False, False]), (60.0, [True, True, True])])
def test_a_chip_that_has_cooled_between_two_cases_is_soaked_again(
    monkeypatch: pytest.MonkeyPatch, between_s: float, soaks: list[bool]
) -> None:
    """As after Ctrl-Z and fg: nothing was being measured, but the next case would be, on a cold chip."""
    spec = RigSpec(scenario="h100")
    shapes = ("1024x1024x1024", "2048x2048x2048", "4096x4096x4096")
    cases = build([suite_from_shapes(shapes)], Choices(backends=("torch",), effort="fast", processes=1)).cases
    uptime_ns = [0]

    def look() -> int:
        uptime_ns[0] += round(between_s * 1e9)
        return uptime_ns[0]

    monkeypatch.setattr(runner, "_uptime_ns", look)
    worker = Noting(spec)
    run = Run(worker, spec, Policy())
    try:
        assert len(list(run.steps(cases))) > 3
    finally:
        run.close()
    assert worker.soaks == soaks


STOPPING = """
import itertools, os, signal, sys
if "flopwatt.measurement.worker" in sys.orig_argv:
    from flopwatt.measurement.timing_cpu import CpuTimer
    marks, pump = itertools.count(), CpuTimer.pump
    def stopping(timer):
        if next(marks) == 3:
            os.kill(os.getpid(), signal.SIGSTOP)
        pump(timer)
    CpuTimer.pump = stopping
"""
"""A worker that stops itself once, under load."""


@pytest.mark.slow
def test_a_stop_in_the_middle_of_a_case_on_the_cpu_shows_in_no_figure(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install flopwatt[measure]")
    (tmp_path / "sitecustomize.py").write_text(STOPPING)
    path = tmp_path / "run.jsonl"
    words = ("run", "--device", "cpu", "--shape", "64x64x64", "--dtype", "fp32", "--effort", "fast")
    variables = {**sources(tmp_path), "OMP_NUM_THREADS": "1"}
    process = start(*words, "-o", path, variables=variables)
    wait_for(lambda: any(map(is_stopped, children(process.pid))))
    (worker,) = children(process.pid)
    time.sleep(4.0)
    continued_ns = time.monotonic_ns()
    os.kill(worker, signal.SIGCONT)
    _, log = process.communicate(timeout=200)
    assert process.returncode == 0, log
    run = read(path)
    (record,) = run.records
    event = next(event for event in run.events if event.what == "paused")
    assert event.message.startswith("measured again: the measuring process was stopped, or starved, for ")
    raw = record.measurement
    assert isinstance(raw, RawMeasurement)
    assert raw.origin_ns + raw.loads[0].t_ns[0] > continued_ns


def test_nothing_was_paused_in_an_ordinary_run(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    assert flopwatt(*WORDS, "-o", path).returncode == 0
    assert not [event for event in read(path).events if event.what in ("paused", "memory")]
