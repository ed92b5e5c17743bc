"""A GPU that is lost, replaced, or taken by another run: the run goes on where it can, and says why where it cannot."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pretend_gpu
import pytest

from fake_nvml import build
from flopwatt.errors import DeviceBusy
from flopwatt.measurement.gpu_lock import GpuLock
from flopwatt.measurement.messages import RigSpec
from flopwatt.measurement.runner import Run
from flopwatt.measurement.simulation.loading import shipped
from flopwatt.measurement.worker_client import Worker
from flopwatt.runs.plan import Choices
from flopwatt.runs.plan import build as build_plan
from flopwatt.runs.records import End, Event, Policy, Record
from flopwatt.runs.store import RunFile, read
from flopwatt.runs.suites import suite_from_shapes
from flopwatt_process import flopwatt, sources

SHAPES = ("1024x1024x1024", "2048x2048x2048", "4096x4096x4096")


def scenario(name: str, faults: str = "") -> str:
    return f"{shipped()[name]}\n[faults]\n{faults}\n"


def test_a_fresh_process_on_another_board_measures_nothing(tmp_path: Path) -> None:
    """As when `cuda:0` fell off its bus and PyTorch counts the next one as 0."""
    path = tmp_path / "gpu.toml"
    path.write_text(scenario("h100", 'crash_on = "2048x2048x2048"'))
    spec = RigSpec(scenario=str(path))
    cases = build_plan([suite_from_shapes(SHAPES)], Choices(backends=("torch",), effort="fast", processes=1)).cases
    run, found = Run(Worker(spec), spec, Policy()), []
    for step in run.steps(cases):
        found.append(step)
        if isinstance(step, Record) and step.status == "failed":
            path.write_text(scenario("a100"))
    run.close()
    assert [step.status for step in found if isinstance(step, Record)] == ["ok", "failed"]
    end = found[-1]
    assert isinstance(end, End)
    assert end.reason == "failed"
    assert end.message == (
        "no measuring process for the remaining 1 cases: the NVIDIA H100 80GB HBM3 measured so far is gone, and "
        "NVIDIA A100-SXM4-80GB answers in its place: see `flopwatt doctor`"
    )
    assert end.message in [step.message for step in found if isinstance(step, Event)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build.build(tmp_path_factory.mktemp("nvml"))


def measured(
    folder: Path, library: Path, sizes: list[int], *, regime: str = "burst", **changes: object
) -> tuple[int, RunFile, str]:
    """A run on the pretended GPU, the real worker and sampler at work: exit code, file, standard error."""
    pytest.importorskip("torch", reason="needs torch: pip install flopwatt[measure]")
    scenario_file = build.write_scenario(folder / "scenario.txt", load_from_s=0, load_to_s=1e9, **changes)
    variables = {**build.environment(library, scenario_file), **pretend_gpu.variables(folder)}
    words = ["run", "--backend", "doomed", "--dtype", "fp32", "--effort", "fast", "--regime", regime]
    shapes = [word for m in sizes for word in ("--shape", f"{m}x64x64")]
    path = folder / "run.jsonl"
    done = flopwatt(*words, *shapes, "-o", path, variables=variables, timeout=240)
    return done.returncode, read(path), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["gone", "other"])
def test_a_gpu_lost_in_the_middle_costs_its_case_and_ends_the_run_with_an_account(
    tmp_path: Path, library: Path, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRETEND_LOSS", loss)
    code, run, said = measured(tmp_path, library, [64, 80, 96])
    assert code == 1, said
    rows = {record.case.problem.m: record for record in run.records if record.case.problem}
    assert rows[80].status == "failed"
    assert "Error: CUDA error: unspecified launch failure" in (rows[80].reason or "")
    assert all(rows[m].status == "ok" for m in rows if m != 80)
    assert run.end is not None
    assert run.end.reason == "failed"
    left = 3 - len(rows)
    assert f"no measuring process for the remaining {left} cases" in run.end.message
    assert {segment.environment.kind for segment in run.segments} == {"cuda"}
    # Not the CPU in its place either, which is what `auto` means where there is no GPU.
    assert "the NVIDIA H100 80GB HBM3 measured so far is gone, and " in run.end.message
    assert run.end.message in said


LOSSES = {
    "off the bus": ({"lost_after_s": 9.0}, "GPU_IS_LOST"),
    "driver unloaded": (
        {"fields": "DRIVER_NOT_LOADED", "counter": "DRIVER_NOT_LOADED", "errors_from_s": 9.0},
        "DRIVER_NOT_LOADED",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("loss", LOSSES)
def test_a_sensor_lost_in_the_middle_costs_watts_and_no_time(tmp_path: Path, library: Path, loss: str) -> None:
    changes, named = LOSSES[loss]
    code, run, said = measured(tmp_path, library, [64, 96, 128], regime="sustained", **changes)
    assert code == 0, said
    assert [record.status for record in run.records] == ["ok"] * 3
    refused = [record for record in run.records if record.energy_status not in ("ok", "disputed", "unsteady")]
    assert refused, "it was lost while one of them was measured"
    assert all(named in (record.energy_reason or "") for record in refused)
    assert run.records[-1] in refused
    assert run.end is not None
    assert run.end.reason == "done"
    assert run.end.idle_after_reason == "the power sensor answered nothing"


HOLD = """
import os, sys, time
from flopwatt.errors import DeviceBusy
from flopwatt.measurement.gpu_lock import GpuLock
if len(sys.argv) > 2:
    os.setuid(int(sys.argv[2]))
try:
    lock = GpuLock(sys.argv[1], "NVIDIA H100")
except DeviceBusy as busy:
    print(busy, flush=True)
else:
    print("held", flush=True)
    time.sleep(60)
"""


def hold(board: str, user: int | None = None) -> subprocess.Popen[str]:
    """Another process that takes the lock, as another user where one is given."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, board, *([] if user is None else [str(user)])],
        env={**os.environ, **sources()},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def board() -> str:
    """A board of this test's own: others test at the same time."""
    return f"test-{os.getpid()}-{time.monotonic_ns()}"


@pytest.fixture
def holder(board: str) -> Iterator[subprocess.Popen[str]]:
    process = hold(board)
    assert first_line(process) == "held"
    yield process
    process.kill()
    process.communicate()


def test_one_run_at_a_time_on_a_gpu(holder: subprocess.Popen[str], board: str) -> None:
    with pytest.raises(DeviceBusy, match=r"another flopwatt measures on NVIDIA H100: wait for it, or .* with --shared"):
        GpuLock(board, "NVIDIA H100")
    GpuLock(board + "-another", "NVIDIA H100").close()


def test_a_run_that_was_killed_leaves_no_lock_behind(holder: subprocess.Popen[str], board: str) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    GpuLock(board, "NVIDIA H100").close()
    GpuLock(board, "NVIDIA H100").close()


def test_another_user_sees_the_lock_and_can_hold_it(holder: subprocess.Popen[str], board: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    nobody = 65534
    refused = hold(board, user=nobody)
    assert "another flopwatt measures on NVIDIA H100" in first_line(refused)
    refused.communicate()
    theirs = hold(board + "-theirs", user=nobody)
    assert first_line(theirs) == "held"
    with pytest.raises(DeviceBusy):
        GpuLock(board + "-theirs", "NVIDIA H100")
    theirs.kill()
    theirs.communicate()
