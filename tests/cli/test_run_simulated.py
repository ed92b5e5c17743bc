"""`flopwatt run` end to end on a simulated GPU: files, tables, exit codes, crashes and resumption."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest

from flopwatt.runs.store import read
from flopwatt.runs.tidy import load
from flopwatt_process import flopwatt, start
from processes import children, is_gone, wait_for
from simulated_runs import LONG, wait_for_records

QUICK = ("run", "--simulate", "h100", "--suite", "quick")


def test_a_simulated_run_writes_a_file_and_prints_its_headline(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = flopwatt(*QUICK, "-o", path)
    assert done.returncode == 0, done.stderr
    table = load(path)
    assert len(table) == 13
    assert set(table["status"]) == {"ok"}
    assert set(table["origin"]) == {"simulated"}
    assert table["tflops"].between(500, 900).all()
    assert table["power_w"].between(550, 720).all()
    assert "simulated: not a measurement of any real GPU" in done.stdout
    assert "13 of 13 sustained measurements have energy" in done.stdout
    assert "TFLOPS/W" in done.stdout
    assert done.stdout.rstrip().endswith(str(path))
    assert "\x1b" not in done.stdout + done.stderr


def test_the_run_file_says_what_was_planned_and_that_it_is_done(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    flopwatt(*QUICK, "-o", path)
    run = read(path)
    assert {entry.case_id for entry in run.header.plan} == {record.case_id for record in run.records}
    assert run.end is not None
    assert run.end.reason == "done"
    assert all(record.origin == "simulated" for record in run.records)
    assert all(record.measurement is not None for record in run.records)
    raw = path.read_text()
    assert os.uname().nodename not in raw
    assert str(Path.home()) not in raw


def test_the_same_seed_measures_the_same(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        flopwatt(*QUICK, "--seed", "7", "-o", tmp_path / name)
    flopwatt(*QUICK, "--seed", "8", "-o", tmp_path / "c.jsonl")
    a, b, c = (load(tmp_path / f"{name}.jsonl")["time_s"].tolist() for name in "abc")
    assert a == b
    assert a != c


def test_processes_are_fresh_ones_and_their_spread_is_the_interval(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = flopwatt("run", "--simulate", "h100", "--shape", "4096x4096x4096", "--processes", "3", "-o", path)
    assert done.returncode == 0, done.stderr
    table = load(path)
    assert table["process"].tolist() == [0, 1, 2]
    spread = table["time_s"].std() / table["time_s"].mean()
    assert 1e-4 < spread < 0.03


def test_both_regimes_stay_apart_and_bursts_carry_no_watts(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    flopwatt(
        "run",
        "--simulate",
        "h100",
        "--shape",
        "8192x8192x8192",
        "--regime",
        "burst",
        "--regime",
        "sustained",
        "-o",
        path,
    )
    table = load(path).set_index("regime")
    assert table["power_w"].isna()["burst"].all()
    assert set(table["energy_status"]["burst"]) == {"refused"}
    assert table["tflops"]["burst"].mean() > table["tflops"]["sustained"].mean()
    raw = next(r.measurement for r in read(path).records if r.case.regime == "burst")
    for load_ in raw.loads:  # type: ignore[union-attr]
        assert load_.t_ns[-1] - load_.t_ns[0] <= 26_000_000


def test_a_plan_runs_nothing_and_writes_nothing(tmp_path: Path) -> None:
    done = flopwatt("run", "--simulate", "h100", "--model", "llama-3.1-70b", "--plan", cwd=tmp_path)
    assert done.returncode == 0
    assert "cases, about" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_spent_budget_is_exit_3_and_resume_finishes(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = flopwatt(*QUICK, "--budget", "20s", "-o", path)
    assert done.returncode == 3
    first = read(path)
    assert first.end is not None
    assert first.end.reason == "budget"
    assert 2 <= len(first.records) < 13
    assert "covers" in done.stdout
    resumed = flopwatt("run", "--simulate", "h100", "--resume", path, "--budget", "10m")
    assert resumed.returncode == 0, resumed.stderr
    ids = [record.case_id for record in read(path).records]
    assert len(ids) == len(set(ids)) == 13


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_loses_one_case_at_most_and_resume_finishes(tmp_path: Path, seed: int) -> None:
    kill_and_resume(tmp_path, random.Random(seed).uniform(0.05, 0.8))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
def test_kill_9_at_50_random_points(tmp_path: Path, seed: int) -> None:
    kill_and_resume(tmp_path, random.Random(1000 + seed).uniform(0.01, 1.5))


def kill_and_resume(folder: Path, after_s: float) -> None:
    path = folder / "run.jsonl"
    words = ("run", "--simulate", "h100", "--suite", "llama-3.1-8b", "--processes", "2", "-o", path)
    process = start(*words)
    wait_for(lambda: path.exists() and b"\n" in path.read_bytes())
    time.sleep(after_s)
    printed = _lines_so_far(path)
    process.kill()
    _, log = process.communicate()
    run = read(path)
    announced = sum(line.startswith("[") for line in log.splitlines())
    assert len(run.records) >= max(announced, printed)
    resumed = flopwatt("run", "--simulate", "h100", "--resume", path)
    assert resumed.returncode == 0, resumed.stderr
    whole = read(path)
    keys = [(record.case_id, record.process) for record in whole.records]
    assert len(keys) == len(set(keys))
    assert set(keys) == {(entry.case_id, entry.process) for entry in whole.header.plan}
    _assert_as_uninterrupted(folder, whole.records, words)


def _lines_so_far(path: Path) -> int:
    """Records that were on disk, whole, before the kill."""
    *whole, _ = path.read_bytes().split(b"\n")
    return sum(b'"type":"record"' in line for line in whole)


def _assert_as_uninterrupted(folder: Path, records: object, words: tuple[object, ...]) -> None:
    other = folder / "uninterrupted.jsonl"
    flopwatt(*map(str, words[:-1]), other)
    expected = {(r.case_id, r.process): r.case for r in read(other).records}
    assert {(r.case_id, r.process): r.case for r in records} == expected  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_run_ends_its_file_and_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    path = tmp_path / "run.jsonl"
    process = start(*LONG, "-o", path)
    wait_for_records(path, 3)
    (worker,) = children(process.pid)
    process.send_signal(number)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "continue with: flopwatt run --resume" in log
    run = read(path)
    assert run.end is not None
    assert (run.end.reason, run.end.message) == ("interrupted", number.name)
    wait_for(lambda: is_gone(worker))


def test_a_killed_command_line_takes_its_worker_with_it(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    process = start(*LONG, "-o", path)
    wait_for_records(path, 1)
    (worker,) = children(process.pid)
    process.kill()
    process.communicate()
    wait_for(lambda: is_gone(worker))


def test_a_worker_that_dies_costs_its_own_row(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    process = start("run", "--simulate", "h100", "--suite", "llama-3.1-405b", "--processes", "3", "-o", path)
    wait_for_records(path, 1)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    out, _ = process.communicate(timeout=60)
    run = read(path)
    failed = [record for record in run.records if record.status == "failed"]
    assert process.returncode == (1 if failed else 0)
    assert len(failed) <= 1
    assert len(run.records) == len(run.header.plan)
    if failed:
        assert failed[0].reason == "killed by SIGKILL"
        assert "killed by SIGKILL" in out


def test_resuming_on_another_board_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    flopwatt(*QUICK, "--budget", "20s", "-o", path)
    before = path.read_bytes()
    done = flopwatt("run", "--simulate", "a100", "--resume", path)
    assert done.returncode == 2
    assert "another board" in done.stderr
    assert path.read_bytes() == before
    without = flopwatt("run", "--resume", path)
    assert without.returncode == 2
    assert "add --simulate" in without.stderr


def test_show_gives_tidy_data(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    flopwatt(*QUICK, "-o", path)
    rows = json.loads(flopwatt("show", path, "--format", "json").stdout)
    assert len(rows) == 13
    assert rows[0]["pj_per_flop"] == pytest.approx(1 / rows[0]["tflops_per_w"], rel=1e-9)
    lines = flopwatt("show", path, "--format", "csv").stdout.splitlines()
    assert len(lines) == 14
    assert lines[0].startswith("run_id,origin,gpu,board_id,suite,role")
    done = flopwatt("show", path, "--format", "parquet", "-o", tmp_path / "run.parquet")
    assert done.returncode == 0
    import pandas as pd

    assert len(pd.read_parquet(tmp_path / "run.parquet")) == 13
