"""What only a real GPU can show. Skips itself where PyTorch sees none: `make test-gpu`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flopwatt.runs import gpus
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.store import read
from flopwatt.runs.tidy import load

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU"),
]


@pytest.fixture(scope="module")
def gpu_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gpu") / "run.jsonl"
    words = ["run", "--device", "cuda:0", "--shape", "8192x8192x8192", "--shape", "1024x1024x1024", "--effort", "fast"]
    words += ["--regime", "burst", "--regime", "sustained", "--backend", "torch", "--backend", "triton-tiled"]
    done = subprocess.run(
        [sys.executable, "-m", "flopwatt", *words, "-o", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def test_rates_are_below_the_peak_at_the_observed_clock(gpu_run: Path) -> None:
    spec = gpus.find(torch.cuda.get_device_name(0))
    if spec is None:
        pytest.skip("no peak is known of this GPU")
    table = load(gpu_run)
    large = table[(table["m"] == 8192) & (table["regime"] == "sustained")]
    for row in large.itertuples():
        peak = spec.peak_at_clock("bf16", row.clock_mhz * 1e6)
        assert peak is not None
        assert 0.3 * peak < row.tflops * 1e12 < peak


def test_graphs_were_captured_and_the_clocks_agree(gpu_run: Path) -> None:
    for record in read(gpu_run).records:
        raw = record.measurement
        assert isinstance(raw, RawMeasurement)
        assert raw.timer == "cuda-graph"
        assert raw.clock_map is not None
        assert raw.clock_map.first_half_width_ns < 200_000
        span = raw.loads[-1].t_ns[-1] - raw.loads[-1].t_ns[0]
        assert abs(raw.clock_map.drift_ns) < 400_000 + 200e-6 * span


def test_sustained_rows_have_watts_or_a_reason(gpu_run: Path) -> None:
    table = load(gpu_run)
    sustained = table[table["regime"] == "sustained"]
    for row in sustained.itertuples():
        if row.energy_status in ("ok", "disputed", "unsteady"):
            assert 50 < row.power_w < 1.05 * row.power_limit_w
        else:
            assert row.energy_reason


def test_a_burst_is_short_and_not_slower_than_sustained(gpu_run: Path) -> None:
    table = load(gpu_run).set_index(["m", "backend", "regime"])["tflops"]
    for backend in ("torch", "triton-tiled"):
        assert table[8192, backend, "burst"] > 0.97 * table[8192, backend, "sustained"]
    for record in read(gpu_run).records:
        if record.case.regime == "burst" and isinstance(record.measurement, RawMeasurement):
            for burst in record.measurement.loads:
                assert burst.t_ns[-1] - burst.t_ns[0] < 30_000_000


def test_doctor_finds_the_gpu() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flopwatt", "doctor", "--format", "json"], capture_output=True, text=True, check=False
    )
    states = {finding["topic"]: finding["state"] for finding in json.loads(done.stdout)}
    assert states["GPU"] == "ok"
    assert states["time on the GPU"] == "ok"
