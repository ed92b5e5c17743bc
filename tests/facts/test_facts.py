"""Facts as data: every row is whole, typed and sourced, names GPUs that there are, and travels in a wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import msgspec
import pytest

from flopwatt.analysis import facts
from flopwatt.analysis.facts.loading import parse
from flopwatt.runs import gpus

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "bench/flopwatt/analysis/facts"
TABLES = sorted(path.stem for path in FOLDER.glob("*.csv"))
GPUS = [spec.name for spec in gpus.specs()]


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_typed_and_sourced(name: str) -> None:
    rows = facts.read(name)  # type: ignore[call-overload]
    assert len(rows) == len((FOLDER / f"{name}.csv").read_text(encoding="utf-8").splitlines()) - 1
    for row in rows:
        assert len(row.source) > 5
        assert row.confidence in ("checked", "unverified")


def test_figures_are_those_of_their_sources() -> None:
    runs = {run.model: run for run in facts.read("training_runs")}
    llama = runs["Llama-3.1-405B"]
    assert (llama.gpu_hours, llama.gpu_count, llama.mfu_low, llama.mfu_high) == (30_840_000, 16_384, 0.38, 0.43)
    assert runs["GPT-3"].confidence == "unverified"
    assert runs["MT-NLG-530B"].gpu_hours is None
    assert {row.tflops_per_gpu for row in facts.read("throughput") if row.model_b == 530} == {126, 121, 113}
    assert facts.quantity("home_electricity_per_year").value == 10_715
    assert {row.model: row.published for row in facts.read("training_compute")}["GPT-3"] == date(2020, 5, 28)


def test_gpus_are_entries_of_the_one_table_of_gpus() -> None:
    exact = {row.gpu for name in ("training_runs", "throughput", "rents") for row in facts.read(name)}
    assert exact <= set(GPUS)
    for row in facts.read("published_gemm"):
        assert any(name.startswith(row.gpu) for name in GPUS), row.gpu
        limits = {spec.tdp_w for spec in gpus.specs() if spec.name.startswith(row.gpu)}
        assert row.power_limit_w in limits, row


def test_a_rent_is_of_the_memory_that_the_instance_has() -> None:
    """p3.16xlarge and p4d.24xlarge rent the smaller V100 and A100."""
    named = {row.gpu: row.source for row in facts.read("rents") if "Amazon" in row.source}
    instances = {gpu: source.split()[2] for gpu, source in named.items()}
    assert instances == {
        "V100-SXM2-32GB": "p3dn.24xlarge", "A100-SXM4-80GB": "p4de.24xlarge", "H100-SXM5-80GB": "p5.48xlarge",
    }  # fmt: skip
    for row in facts.read("rents"):
        if "for eight" in row.source:
            assert float(row.source.split("$")[1].split()[0]) / 8 == pytest.approx(row.usd_per_hour, abs=0.005)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,value,unit,source,confidence\na,1,W,b,sure\n", "Invalid enum value 'sure'"),
        ("name,value,unit,source,confidence\na,many,W,b,checked\n", "Expected `float`"),
        ("name,value,unit,source,confidence\na,1,W,,checked\n", "missing required field `source`"),
        ("name,value,unit,source,confidence,colour\na,1,W,b,checked,red\n", "unknown field `colour`"),
    ],
)
def test_a_row_of_the_wrong_shape_is_refused(text: str, message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        parse(text, facts.Quantity)


def test_an_unknown_quantity_is_a_fault() -> None:
    with pytest.raises(KeyError):
        facts.quantity("horsepower")


def test_a_wheel_holds_them(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="needs hatchling, which builds the wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"flopwatt/analysis/facts/{name}.csv" for name in TABLES} <= set(names)
