"""Kernels that fail in every way, through the real program and real PyTorch: each costs its own row."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install flopwatt[measure]")

from anonymity import USER, assert_anonymous
from faulty_backend import SITE

from flopwatt.runs.records import Record
from flopwatt.runs.store import RunFile, read
from flopwatt_process import flopwatt, sources
from simulated_runs import SHORT_RESTS

HERE = Path(__file__).parent


def run_faulty(folder: Path, sizes: list[int]) -> tuple[int, RunFile, str]:
    """A burst run on the CPU of one GEMM for each M, with two sound ones around; exit code, file, standard error."""
    (folder / "sitecustomize.py").write_text(SHORT_RESTS + SITE)
    path = folder / "run.jsonl"
    shapes = [word for m in (64, *sizes, 72) for word in ("--shape", f"{m}x64x64")]
    words = [
        "run",
        "--device",
        "cpu",
        "--backend",
        "faulty",
        "--dtype",
        "fp32",
        "--regime",
        "burst",
        "--effort",
        "fast",
        *shapes,
    ]
    variables = {**sources(folder, HERE), "OMP_NUM_THREADS": "1", "USER": USER}
    done = flopwatt(*words, "-o", path, cwd=folder, timeout=240, variables=variables)
    return done.returncode, read(path), done.stderr


def by_m(run: RunFile) -> dict[int, Record]:
    return {record.case.problem.m: record for record in run.records if record.case.problem}


EXPECTED = {
    80: "killed by SIGSEGV",
    96: "MemoryError",
    104: "wrong result",
    112: "wrong result",
    120: "RuntimeError: a kernel's",
    128: "RuntimeError: CUDA error: an illegal memory access was encountered",
    136: "exit code 3",
    144: "killed by SIGKILL",
    152: "its process sent bytes that are no answer",
    160: "exit code 1: a library that calls exit",
    168: "OSError: [Errno 13] Permission denied: '…/gemm.cu' (included from …/faulty_backend.py), cache …/cache for …",
}
"""M → what the row says of it."""

REPLACED = (80, 96, 128, 136, 144, 152, 160)
"""After these the next case needs a fresh process."""


def check_faults(run: RunFile, sizes: list[int]) -> None:
    rows = by_m(run)
    assert set(rows) == {64, 72, *sizes}, "every case has a row"
    assert {m: (rows[m].status, rows[m].reason) for m in (64, 72)} == {64: ("ok", None), 72: ("ok", None)}
    for m in sizes:
        assert rows[m].status == "failed"
        assert EXPECTED[m] in (rows[m].reason or ""), (m, rows[m].reason)
        assert rows[m].measurement is None
    replaced = [event for event in run.events if event.what == "worker"]
    assert len(replaced) == len([m for m in sizes if m in REPLACED])
    assert run.end is not None
    assert run.end.reason == "done"
    assert_anonymous(run.path)


def test_a_segfault_a_wrong_result_and_an_exception_cost_a_row_each(tmp_path: Path) -> None:
    sizes = [80, 104, 112, 120, 168]
    code, run, _ = run_faulty(tmp_path, sizes)
    assert code == 1
    check_faults(run, sizes)


@pytest.mark.slow
def test_every_other_fault_costs_its_own_row(tmp_path: Path) -> None:
    sizes = [96, 128, 136, 144, 152, 160]
    code, run, _ = run_faulty(tmp_path, sizes)
    assert code == 1
    check_faults(run, sizes)


@pytest.mark.slow
def test_a_kernel_that_hangs_is_killed_and_the_rest_goes_on(tmp_path: Path) -> None:
    code, run, _ = run_faulty(tmp_path, [88])
    assert code == 1
    rows = by_m(run)
    assert "the kernel hangs" in (rows[88].reason or "")
    assert rows[64].status == rows[72].status == "ok"


@pytest.mark.slow
def test_memory_that_others_kept_costs_a_case_nothing_but_a_fresh_process(tmp_path: Path) -> None:
    code, run, _ = run_faulty(tmp_path, [56])
    assert code == 0
    assert {m: row.status for m, row in by_m(run).items()} == {64: "ok", 72: "ok", 56: "ok"}
    said = [event.message for event in run.events]
    assert "replaced: OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB." in said
    assert "measured again: OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB." in said
