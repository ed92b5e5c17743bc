"""A real run on this machine's CPU, and a user's own kernel through the same gate."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import flopwatt
from flopwatt.errors import InputError
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.store import read
from flopwatt.runs.tidy import load
from gemmkernels.problem import Problem


@pytest.fixture(scope="module")
def cpu_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cpu") / "run.jsonl"
    words = ["run", "--device", "cpu", "--shape", "384x256x512", "--dtype", "fp32", "--dtype", "fp16"]
    words += [
        "--backend",
        "torch",
        "--backend",
        "numpy",
        "--effort",
        "fast",
        "--regime",
        "burst",
        "--regime",
        "sustained",
    ]
    subprocess.run([sys.executable, "-m", "flopwatt", *words, "-o", str(path)], check=True, capture_output=True)
    return path


def test_every_case_has_a_row_or_a_reason(cpu_run: Path) -> None:
    table = load(cpu_run)
    by_case = table.set_index(["dtype", "backend", "regime"])["status"].to_dict()
    assert by_case["fp32", "torch", "sustained"] == by_case["fp32", "numpy", "burst"] == "ok"
    skipped = table[table["dtype"] == "fp16"]
    assert set(skipped["status"]) == {"skipped"}
    assert skipped["reason"].str.contains("choose (?:bf16|fp32)").all()
    assert skipped["time_s"].isna().all()


def test_sustained_is_at_least_five_seconds_of_gap_free_work(cpu_run: Path) -> None:
    for record in read(cpu_run).records:
        if record.case.regime != "sustained" or record.status != "ok":
            continue
        raw = record.measurement
        assert isinstance(raw, RawMeasurement)
        assert sum(w.end_ns - w.start_ns for w in raw.windows) >= 5e9
        assert raw.timer == "monotonic"
        assert raw.operand_sets > 1
        assert len(raw.loads[0].t_ns) < 1000


def test_a_burst_rests_and_is_short(cpu_run: Path) -> None:
    raw = next(r.measurement for r in read(cpu_run).records if r.case.regime == "burst" and r.status == "ok")
    assert isinstance(raw, RawMeasurement)
    assert len(raw.loads) >= 3
    for before, after in zip(raw.loads, raw.loads[1:], strict=False):
        assert after.t_ns[0] - before.t_ns[-1] >= 2e9


def test_no_sensor_is_null_with_its_reason_and_never_zero(cpu_run: Path) -> None:
    table = load(cpu_run)
    ok = table[(table["status"] == "ok") & (table["regime"] == "sustained")]
    if (ok["energy_status"] == "ok").any():
        pytest.skip("this machine has readable energy counters")
    assert ok["power_w"].isna().all()
    assert ok["tflops_per_w"].isna().all()
    assert (ok["energy_reason"].str.len() > 20).all()


def test_settings_and_correctness_are_recorded(cpu_run: Path) -> None:
    record = next(r for r in read(cpu_run).records if r.status == "ok")
    assert record.correctness is not None
    assert record.correctness.relative_error is not None
    assert 0 < record.correctness.relative_error < record.correctness.bound < 1e-4
    assert record.settings["threads"].isdecimal()
    assert "ieee" in json.dumps(record.settings)
    assert record.input_audit["nan"] == record.input_audit["inf"] == 0


def good(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    torch.mm(a, b, out=out)


def drops_a_tile(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    torch.mm(a[:, :-32], b[:-32], out=out)


def test_a_users_kernel_is_timed_like_any_backend() -> None:
    table = flopwatt.measure(good, Problem(256, 256, 256, dtype="fp32"), device="cpu", regime="burst")
    assert table["status"].tolist() == ["ok"]
    assert table["backend"].tolist() == ["good"]
    assert table["tflops"][0] > 0


def test_a_users_wrong_kernel_has_no_tflops() -> None:
    table = flopwatt.measure(drops_a_tile, Problem(256, 256, 256, dtype="fp32"), device="cpu", regime="burst")
    assert table["status"].tolist() == ["failed"]
    assert table["reason"][0].startswith("wrong result: relative error 0.")
    assert table["tflops"].isna().all()


def test_a_kernel_of_another_shape_is_told_how() -> None:
    with pytest.raises(InputError, match=r"takes \(a, b, out\)"):
        flopwatt.measure(torch.mm, Problem(64, 64, 64, dtype="fp32"), device="cpu")  # type: ignore[arg-type]
