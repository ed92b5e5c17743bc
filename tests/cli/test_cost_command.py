"""`flopwatt cost` as a user starts it."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flopwatt.commands.cost import Request, cost
from flopwatt.errors import InputError
from flopwatt_process import flopwatt

WORDS = ("cost", "--calibration", "H100-SXM5-80GB", "--model", "llama-3.1-8b", "--tokens", "1e12")


def test_table() -> None:
    done = flopwatt(*WORDS, "--gpus", "64", "--calibration", "A100-SXM4-80GB", "--price", "A100=1.5")
    assert done.returncode == 0, done.stderr
    for words in (
        "llama-3.1-8b, 1 trillion tokens, bf16", "64 × H100 80GB HBM3", "64 × A100-SXM4-80GB", "GPU-hours", "MFU",
        "unvalidated", "GEMMs, weight gradient", "failures, restarts, checkpoints", "t CO2", "--assume NAME=VALUE",
        "mtbf_gpu_hours", "judgement", "450 GB/s", "rent of an hour, where none is given", "dollars", "facility energy",
    ):  # fmt: skip
        assert words in done.stdout, words


def test_json_adds_up_and_states_all() -> None:
    done = flopwatt(*WORDS, "--gpus", "64", "--format", "json", "--pue", "1.3:1.2:1.4", "--assume", "stragglers=0")
    found = json.loads(done.stdout)
    assert found["kind"] == "end_to_end"
    (one,) = found["prices"]
    assert sum(part["value"] for part in one["gpu_hour_parts"].values()) == pytest.approx(one["gpu_hours"], rel=1e-5)
    assert sum(part["high"] for part in one["step_parts_s"].values()) == pytest.approx(one["step_s_high"], rel=1e-5)
    for end in ("", "_low", "_high"):
        parts = ("gpu_energy_tdp", "server_energy", "overhead_energy")
        energy = sum(one[f"{part}_mwh{end}"] for part in parts)
        assert energy == pytest.approx(one[f"facility_energy_mwh{end}"], rel=1e-5)
    assert one["usd"] == pytest.approx(2 * one["gpu_hours"], rel=1e-5)
    assert one["step_parts_s"]["stragglers"]["value"] == 0
    assert one["unvalidated"] is True
    assert one["energy_basis"] == "tdp"
    assert one["gpu_energy_measured_mwh"] is None
    assert found["assumptions"]["pue"] == found["assumptions"]["pue"] | {
        "value": 1.3, "low": 1.2, "high": 1.4, "confidence": "stated",
    }  # fmt: skip


def test_a_stated_link_is_taken_and_shown() -> None:
    words = (*WORDS, "--gpus", "64", "--format", "json", "--parallel", "tp=8,pp=1")
    usual, slow = (json.loads(flopwatt(*words, *more).stdout) for more in ((), ("--assume", "network_bytes_per_s=5e9")))
    parts = [found["prices"][0]["step_parts_s"]["data_parallel"]["value"] for found in (usual, slow)]
    assert parts[1] > 5 * parts[0]
    link = slow["links"]["NVIDIA H100 80GB HBM3"]
    assert (link["network_bytes_per_s"], link["sources"]["network"]) == (5e9, "stated")
    assert "DGX H100" in usual["links"]["NVIDIA H100 80GB HBM3"]["sources"]["network"]


def test_a_sweep_as_csv_passes_over_what_cannot_be() -> None:
    done = flopwatt(
        *WORDS, "--sweep", "gpus=64:65536:x4", "--global-batch", "256", "--format", "csv", "--parallel", "tp=8,pp=1"
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [int(row["gpus"]) for row in rows] == [64, 256, 1024]
    assert [int(row["dp"]) for row in rows] == [8, 32, 128]
    assert done.stderr.count("more GPUs than batch") == 3
    hours = [float(row["gpu_hours"]) for row in rows]
    assert hours == sorted(hours), "more GPUs are never cheaper"
    assert all(float(row["mfu_low"]) < float(row["mfu"]) < float(row["mfu_high"]) for row in rows)


def test_a_page_with_figures(tmp_path: Path) -> None:
    page = tmp_path / "cost.html"
    done = flopwatt(*WORDS, "--sweep", "gpus=64:1024:x4", "-o", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    assert text.startswith("<!doctype html>")
    for name in ("days", "gpu-hours", "facility-energy-mwh", "usd", "parts"):
        assert f'id="plot-{name}"' in text, name
    assert "prediction, not a measurement" in text
    page.write_text("mine")
    done = flopwatt(*WORDS, "--gpus", "64", "-o", page)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "is not a report" in done.stderr
    assert page.read_text() == "mine"


@pytest.mark.parametrize("words", [{"gpus": 2048}, {"sweep": ["gpus=1024:65536:x2"]}])
def test_nothing_is_cut_off_on_a_narrow_terminal(words: dict[str, Any]) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    asked = Request(["H100-SXM5-80GB", "B200-SXM6-180GB"], "llama-3.1-405b", "15.6e12", price=["2.5"], **words)
    assert cost(asked, "table", None, console, Console(quiet=True)) == 0
    told = console.export_text()
    assert "…" not in told
    assert all(len(line.rstrip()) <= 80 for line in told.splitlines())
    for whole in ("GPU-hours", "t CO2", "network_bytes_per_s", "flash_backward_sm_90", "judgement"):
        assert whole in told, whole


def refused(**words: Any) -> str:
    usual: dict[str, Any] = {"calibrations": ["H100-SXM5-80GB"], "model": "llama-3.1-8b", "tokens": "1e12"}
    format = words.pop("format", "json")
    with pytest.raises(InputError) as error:
        cost(Request(**(usual | words)), format, None, Console(quiet=True), Console(quiet=True))
    return str(error.value)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({}, "give --gpus N"),
        ({"gpus": 0}, "--gpus 0: give a whole number"),
        ({"gpus": 8, "tokens": "many"}, "--tokens: 'many' is no positive number"),
        ({"gpus": 8, "calibrations": []}, "cost needs a calibration"),
        ({"gpus": 8, "parallel": "tp=x"}, "write tp=8,pp=16,dp=128"),
        ({"gpus": 8, "precision": "int4"}, "--precision 'int4': choose one of bf16, fp16, fp8"),
        ({"gpus": 8, "recompute": "some"}, "choose one of none, selective, full"),
        ({"gpus": 8, "pue": "0.9"}, "pue (facility over IT energy): give 1 to 10"),
        ({"gpus": 8, "goodput": "0"}, "a share of the time from 0.01 to 1"),
        ({"gpus": 8, "price": ["1e300"]}, "write VALUE, or VALUE:LOW:HIGH"),
        ({"gpus": 8, "assume": ["memory_fraction=0"]}, "memory_fraction (of DRAM bandwidth): give 0.01 to 1"),
        ({"gpus": 8, "assume": ["tensor_overlap=3"]}, "tensor_overlap (of the time): give 0 to 1"),
        ({"gpus": 8, "assume": ["other_goodput=0.9:0:1"]}, "other_goodput (of the time): give 0.01 to 1"),
        ({"gpus": 8, "assume": ["mtbf_gpu_hours=0"]}, "mtbf_gpu_hours (GPU-hours): give 1 to"),
        ({"gpus": 8, "goodput": "1.2"}, "a share of the time from 0.01 to 1"),
        ({"gpus": 8, "assume": ["luck=1"]}, "no assumption is called 'luck'"),
        ({"gpus": 8, "assume": ["node_bytes_per_s=1e9:1e8:1e10"]}, "a link has one speed"),
        ({"gpus": 8, "price": ["B200=3"]}, "no such GPU here, but NVIDIA H100 80GB HBM3"),
        ({"gpus": 8, "sweep": ["gpus=1:2"]}, "write gpus or tokens"),
        ({"gpus": 8, "sweep": ["gpus=8:64:x1"]}, "gets nowhere"),
        ({"gpus": 8, "sweep": ["gpus=64:8:x2"]}, "there is nothing from 64 to 8"),
        ({"gpus": 8, "sweep": ["gpus=1:9999999:+1"]}, "points: at most 100,000"),
        ({"gpus": 8, "sweep": ["seq=1024:2048:x2"] * 2}, "seq is swept twice"),
        ({"gpus": 8, "format": "xml"}, "unknown format 'xml'"),
        ({"gpus": 8, "calibrations": ["RTX 9090"]}, "no published figures"),
        ({"gpus": 8, "calibrations": ["A100-SXM4-80GB"], "precision": "fp8"}, "has no fp8"),
        ({"gpus": 4, "parallel": "tp=8"}, "tp=8 does not make 4 GPUs; the nearest that works is"),
    ],
)
def test_what_cannot_be_is_one_line(words: dict[str, Any], reason: str) -> None:
    told = refused(**words)
    assert reason in told
    assert "\n" not in told


def test_an_unknown_model_is_told_of_the_mixtures_too() -> None:
    done = flopwatt("cost", "--calibration", "H100-SXM5-80GB", "--model", "nonesuch", "--tokens", "1e12", "--gpus", "8")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "choose one of bloom-176b, " in done.stderr
    assert "or a mixture of experts: deepseek-v3" in done.stderr


def test_only_what_the_priced_gpus_rest_on_is_printed() -> None:
    told = flopwatt(*WORDS, "--gpus", "64").stdout
    assert "gemm_speed_sm_90" in told
    assert "gemm_speed_sm_80" not in told
    assert "gemm_speed_other" not in told


def test_links_that_nobody_checked_are_told() -> None:
    words = ("cost", "--model", "llama-3.1-8b", "--tokens", "1e12", "--gpus", "64", "--calibration")
    assert "unverified: link speeds and server power of B200" in flopwatt(*words, "B200-SXM6-180GB").stdout
    assert "unverified: " not in flopwatt(*words, "H100-SXM5-80GB").stdout
