"""What happens to a run beside its kernels: it is put to sleep, the clock is set, Ctrl-C comes twice."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest

from flopwatt.analysis.check import check
from flopwatt.runs.store import RunFile, read
from flopwatt_process import flopwatt, sources, start
from processes import is_stopped, wait_for
from simulated_runs import SHORT_RESTS, WORDS, wait_for_records

CLOCK_SET_BACK = """
import datetime, time

class Stepping(datetime.datetime):
    calls = 0

    @classmethod
    def now(cls, tz=None):
        cls.calls += 1
        step = datetime.timedelta(hours=-1 if cls.calls % 2 else 1)
        return datetime.datetime.fromtimestamp(1.8e9, tz) + step

datetime.datetime = Stepping
plain = time.time
time.time = lambda: plain() - 86_400 * (int(plain() * 1000) % 7)
"""
"""Every look at the wall clock finds it elsewhere, as after a correction by NTP or a person."""


def cases(run: RunFile) -> dict[str, object]:
    """What was measured, by case."""
    return {record.case_id: record.measurement for record in run.records}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFile:
    path = tmp_path_factory.mktemp("undisturbed") / "run.jsonl"
    assert flopwatt(*WORDS, "-o", path).returncode == 0
    return read(path)


def test_a_run_put_to_sleep_goes_on_as_if_nothing_had_been(tmp_path: Path, undisturbed: RunFile) -> None:
    path = tmp_path / "run.jsonl"
    process = start(*WORDS, "-o", path)
    wait_for_records(path, 2)
    process.send_signal(signal.SIGSTOP)
    wait_for(lambda: is_stopped(process.pid))
    asleep = path.stat().st_size
    time.sleep(0.3)
    assert path.stat().st_size == asleep
    process.send_signal(signal.SIGCONT)
    _, complaints = process.communicate(timeout=120)
    assert process.returncode == 0, complaints
    assert cases(read(path)) == cases(undisturbed)
    assert check(read(path)) == []


def test_a_wall_clock_that_jumps_changes_no_measurement(tmp_path: Path, undisturbed: RunFile) -> None:
    (tmp_path / "sitecustomize.py").write_text(CLOCK_SET_BACK)
    path = tmp_path / "run.jsonl"
    done = flopwatt(*WORDS, "-o", path, variables=sources(tmp_path))
    assert done.returncode == 0, done.stderr
    stamps = [record.started for record in read(path).records]
    assert stamps != sorted(stamps), "the clock did jump"
    assert cases(read(path)) == cases(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_kill_9_while_pytorch_computes_loses_one_case_at_most(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "run.jsonl"
    shapes = [word for m in (64, 96, 128, 160) for word in ("--shape", f"{m}x256x256")]
    words = ("run", "--device", "cpu", "--dtype", "fp32", "--regime", "burst", "--effort", "fast", *shapes)
    (tmp_path / "sitecustomize.py").write_text(SHORT_RESTS)
    process = start(*words, "-o", path, variables=sources(tmp_path))
    wait_for(path.exists)
    time.sleep(random.Random(seed).uniform(0.0, 5.0))
    announced = path.read_bytes().count(b'"type":"record"')
    process.kill()
    process.communicate()
    before = read(path)
    assert len(before.records) >= announced
    if len(before.records) < 4:
        resumed = flopwatt("run", "--device", "cpu", "--resume", path, timeout=280, variables=sources(tmp_path))
        assert resumed.returncode == 0, resumed.stderr
    whole = read(path)
    ids = [record.case_id for record in whole.records]
    assert sorted(ids) == sorted(planned.case_id for planned in whole.header.plan)
    assert [record.status for record in whole.records] == ["ok"] * 4
    assert whole.records[: len(before.records)] == before.records


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    """The first waits for the worker to end in order; one that is stuck would hold the terminal."""
    path = tmp_path / "run.jsonl"
    process = start("run", "--device", "cpu", "--shape", "512x512x512", "--dtype", "fp32", "-o", path)
    wait_for(path.exists)
    time.sleep(1.0)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode in (130, -signal.SIGINT)
    assert time.monotonic() - begun < 10
    assert not read(path).torn
