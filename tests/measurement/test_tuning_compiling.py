"""Candidates compiled in processes of their own, which may fail and die."""

from __future__ import annotations

import multiprocessing
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from flopwatt.measurement.tuning.compiling import Job, Resources, compile_all, is_compiled
from gemmkernels.backend import Config, Device
from gemmkernels.problem import Problem

H100 = Device("cuda", "NVIDIA H100 80GB HBM3", 0, (9, 0), 132, 232_448, 50 * 2**20, 80 * 2**30)
TILE: Config = {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4, "GROUP_M": 8}
NO_POWER_OF_TWO = TILE | {"BLOCK_M": 48}
EVEN, RAGGED = Problem(256, 256, 256, layout="nt"), Problem(256, 256, 249, layout="nt")


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))


def test_which_backends_are_compiled():
    assert is_compiled("triton-tiled")
    assert not is_compiled("torch")


def test_resources_of_each_problem_and_failures_as_reasons(tmp_path: Path):
    jobs = [
        Job("triton-tiled", TILE, H100, (EVEN, RAGGED), opcodes=True),
        Job("triton-tiled", NO_POWER_OF_TWO, H100, (EVEN,)),
    ]
    found = {job.config["BLOCK_M"]: results for job, results in compile_all(jobs, 2)}
    even, ragged = found[64]
    assert isinstance(even, Resources)
    assert isinstance(ragged, Resources)
    assert even.multipliers == ("HGMMA.64x64x16.F32.BF16",)
    assert {name.partition(".")[0] for name in even.copies} == {"LDGSTS"}
    assert even.shared_bytes == pytest.approx(4 * (64 + 64) * 64 * 2, abs=128)
    assert 32 <= even.registers <= 168
    assert not even.spills
    assert ragged.copies == (), "rows that start anywhere are not copied asynchronously"
    (reason,) = found[48]
    assert isinstance(reason, str)
    assert "power of 2" in reason
    assert "\n" not in reason
    assert list((tmp_path / "triton").rglob("*.cubin")), "a launch finds the kernel in Triton's cache"


def test_a_compiler_that_dies_costs_its_problem_only():
    """Two processes are killed: over the job, and over the first of its two problems when it is tried alone."""
    killed = 0

    def kill() -> None:
        nonlocal killed
        until = time.monotonic() + 30
        while killed < 2 and time.monotonic() < until:
            for process in multiprocessing.active_children():
                process.kill()
                killed += 1
                time.sleep(0.2)
            time.sleep(0.01)

    assassin = threading.Thread(target=kill)
    assassin.start()
    results = [
        result for _, found in compile_all([Job("triton-tiled", TILE, H100, (EVEN, RAGGED))], 1) for result in found
    ]
    assassin.join()
    assert len(results) == 2
    assert [result for result in results if isinstance(result, str)] == ["the compiler died: killed by SIGKILL"]
    assert sum(isinstance(result, Resources) for result in results) == 1
