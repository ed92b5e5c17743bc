"""The processes of a run: signals to all of them, ones that will not die, and what lies about in the working folder."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

import pytest

from flopwatt.errors import SuiteError
from flopwatt.measurement import worker_client
from flopwatt.measurement.endings import ended_by
from flopwatt.measurement.messages import Hello, RigSpec
from flopwatt.measurement.runner import Run
from flopwatt.measurement.worker_client import Worker, WorkerDied, WorkerKilled
from flopwatt.runs.plan import Choices, build
from flopwatt.runs.records import End, Event, Planned, Policy, Record
from flopwatt.runs.store import read
from flopwatt.runs.suites import suite_from_shapes
from flopwatt_process import flopwatt, sources, start
from processes import children
from simulated_runs import LONG, WORDS, resume, wait_for_records


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_service_manager_that_ends_every_process_costs_no_case(tmp_path: Path, number: signal.Signals) -> None:
    """As systemd and spot instances do; the worker hears of it first."""
    path = tmp_path / "run.jsonl"
    process = start(*LONG, "-o", path)
    wait_for_records(path, 3)
    (worker,) = children(process.pid)
    os.kill(worker, number)
    time.sleep(0.2)
    assert process.poll() is None
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130, log
    run = read(path)
    assert {record.status for record in run.records} == {"ok"}
    assert run.end is not None
    assert run.end.message == number.name


def test_a_worker_stuck_in_its_driver_does_not_hold_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even SIGKILL ends a process that waits for a driver call to return."""
    monkeypatch.setattr(worker_client, "OBITUARY_S", 0.1)
    worker = Worker(RigSpec(scenario="h100"))
    waits = worker._process.wait

    def never(timeout: float | None = None) -> int:
        assert timeout is not None, "waited for without end"
        raise subprocess.TimeoutExpired("worker", timeout)

    with monkeypatch.context() as patched:
        patched.setattr(worker._process, "wait", never)
        begun = time.monotonic()
        worker.kill()
        assert time.monotonic() - begun < 5
    waits(10)


def test_a_machine_on_which_no_file_can_be_made_still_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose root is read-only: what a worker says of its death is kept in memory."""

    def refuse() -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(worker_client.tempfile, "TemporaryFile", refuse)
    with pytest.raises(SuiteError, match="b300"):
        Worker(RigSpec(scenario="b300"))
    worker = Worker(RigSpec(scenario="h100"))
    os.kill(worker.pid, signal.SIGSEGV)
    with pytest.raises(WorkerDied, match="killed by SIGSEGV"):
        worker.read_idle()


def two_processes() -> tuple[Planned, ...]:
    """A case in each of two processes: the second needs a worker of its own."""
    choices = Choices(backends=("torch",), effort="fast", processes=2)
    return build([suite_from_shapes(("2048x2048x2048",))], choices).cases


@pytest.mark.parametrize(("deaths", "measured"), [(1, True), (2, False)])
def test_a_worker_killed_while_it_starts_is_started_once_more(
    monkeypatch: pytest.MonkeyPatch, deaths: int, measured: bool
) -> None:
    """A system out of memory takes the process of the moment: the plan's rest does not hang on which that was."""
    spec = RigSpec(scenario="h100")
    run = Run(Worker(spec), spec, Policy())
    greet, left = Worker._greet, [None] * deaths

    def killed(worker: Worker, spec: RigSpec) -> Hello:
        if left:
            left.pop()
            os.kill(worker.pid, signal.SIGKILL)
        return greet(worker, spec)

    monkeypatch.setattr(Worker, "_greet", killed)
    found = list(run.steps(two_processes()[1:]))
    run.close()
    said = [step.message for step in found if isinstance(step, Event) and step.what == "worker"]
    assert "started again: the measuring process did not start (killed by SIGKILL)" in said[0]
    assert [step.status for step in found if isinstance(step, Record)] == (["ok"] if measured else [])
    assert [step.reason for step in found if isinstance(step, End)] == ["done" if measured else "failed"]


def test_every_end_has_words() -> None:
    assert [ended_by(code) for code in (-signal.SIGSEGV, -50, 3)] == [
        "killed by SIGSEGV", "killed by signal 50", "exit code 3",
    ]  # fmt: skip


def test_a_worker_that_dies_before_it_is_asked_is_one_that_did_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending to it fails then, before anything can be read."""
    launch = worker_client._launch

    def dead(theirs: socket.socket, words: IO[bytes]) -> subprocess.Popen[bytes]:
        process = launch(theirs, words)
        process.kill()
        process.wait()
        return process

    monkeypatch.setattr(worker_client, "_launch", dead)
    with pytest.raises(WorkerKilled, match=r"did not start \(killed by SIGKILL\): see `flopwatt doctor`"):
        Worker(RigSpec(scenario="h100"))


def test_a_machine_that_starts_no_process_ends_the_run_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a container's limit on processes is reached in the middle of a plan."""
    spec = RigSpec(scenario="h100")
    run = Run(Worker(spec), spec, Policy())

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(subprocess, "Popen", refuse)
    found = list(run.steps(two_processes()[1:]))
    assert [step.message for step in found if isinstance(step, End)] == [
        "no measuring process for the remaining 1 cases: the measuring process cannot be started (resource "
        "temporarily unavailable): end other processes, or raise the limits of this one"
    ]


HOSTILE = ("msgspec", "numpy", "socket", "torch", "json", "flopwatt")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A working folder of files that are called as modules are."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in HOSTILE:
        (folder / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\nraise SystemExit(9)\n"
        )
    return folder


def run_in(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python started as the installed `flopwatt` is, without the working folder among its sources."""
    return subprocess.run(
        [sys.executable, "-P", *words],
        cwd=folder,
        env={**os.environ, **sources()},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_what_lies_in_the_working_folder_is_never_run(hostile: Path, tmp_path: Path) -> None:
    done = run_in(
        hostile, "-m", "flopwatt", "run", "--simulate", "h100", "--shape", "1024x1024x1024", "-o", "run.jsonl"
    )
    assert done.returncode == 0, done.stderr
    sampler = "from flopwatt.measurement.power.process import open_sampler as o; print(o('teapot').unreadable['power'])"
    done = run_in(hostile, "-c", sampler)
    assert "no power sensor is called 'teapot'" in done.stdout, done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_kill_9_of_the_worker_at_random_points_costs_one_case_at_most(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "run.jsonl"
    process = start(*LONG[:-1], "3", "-o", path)
    wait_for_records(path, 1)
    time.sleep(random.Random(seed).uniform(0.0, 1.0))
    for worker in children(process.pid):
        os.kill(worker, signal.SIGKILL)
    _, log = process.communicate(timeout=100)
    run = read(path)
    failed = [record for record in run.records if record.status == "failed"]
    assert len(failed) <= 1, log
    assert {record.reason for record in failed} <= {"killed by SIGKILL"}
    keys = [(record.case_id, record.process) for record in run.records]
    assert len(keys) == len(set(keys))
    assert process.returncode == (1 if failed else 0), log
    assert len(keys) == len(run.header.plan)


def test_two_runs_cannot_write_one_file(tmp_path: Path) -> None:
    path, alias = tmp_path / "run.jsonl", tmp_path / "alias.jsonl"
    first = start(*LONG, "-o", path)
    wait_for_records(path, 2)
    os.link(path, alias)
    again = start(*LONG, "-o", path)
    resumed = [start("run", "--simulate", "h100", "--resume", name) for name in (path, alias)]
    _, said = again.communicate(timeout=60)
    assert again.returncode == 2
    assert "exists: choose another name" in said
    for one in resumed:
        _, said = one.communicate(timeout=60)
        assert one.returncode == 2
        assert "another flopwatt is writing it: wait for it" in said
    first.kill()
    first.communicate()
    alias.unlink()
    assert len({record.id for record in read(path).records}) == len(read(path).records)


def test_of_two_that_resume_at_once_one_does(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    assert flopwatt(*WORDS, "--budget", "20s", "-o", path).returncode == 3
    both = [start("run", "--simulate", "h100", "--resume", path, "--budget", "10m") for _ in range(2)]
    codes = []
    for one in both:
        one.communicate(timeout=100)
        codes.append(one.returncode)
    assert sorted(codes) in ([0, 2], [0, 0]), "the second is refused, or finds nothing left to do"
    run = read(path)
    keys = [(record.case_id, record.process) for record in run.records]
    assert len(keys) == len(set(keys)) == len(run.header.plan)
    assert len(resume(path).records) == len(keys)
