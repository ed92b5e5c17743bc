"""`flopwatt tune` end to end on a simulated GPU: real compilers, simulated figures, a store that `run` then uses."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

import pytest

import flopwatt_process
from flopwatt_process import flopwatt, start

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from flopwatt.measurement.simulation.loading import shipped
from flopwatt.measurement.tuned.store import load
from flopwatt.runs.store import read

SHAPE = "4095x4095x4095"
"""Rows that start anywhere: only seven configurations, none of them 256 wide, so that compiling takes seconds."""


@dataclass(frozen=True)
class Tuned:
    """What one `flopwatt tune` left: its process, folder, scenario and store."""

    done: CompletedProcess[str]
    folder: Path
    scenario: Path
    store: Path


def _scenario(folder: Path) -> Path:
    """An H100 on which tiles of 64 x 64 are the best, which the kernel's default is not."""
    sizes = ((128, 128, 0.7), (64, 64, 1.0), (64, 32, 0.6))
    listed = ", ".join(f"{{ m = {m}, n = {n}, efficiency = {efficiency} }}" for m, n, efficiency in sizes)
    text = shipped()["h100"]
    begin = text.index("tiles = [")
    end = text.index("]\n", begin) + 2
    path = folder / "small-tiles.toml"
    path.write_text(text[:begin] + f"tiles = [{listed}]\n" + text[end:])
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("tuning")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(flopwatt_process.ENVIRONMENT, "XDG_DATA_HOME", str(path / "data"))
        patch.setitem(flopwatt_process.ENVIRONMENT, "TRITON_CACHE_DIR", str(path / "triton"))
        yield path


@pytest.fixture(scope="module")
def tuned(folder: Path) -> Tuned:
    scenario = _scenario(folder)
    done = flopwatt(
        "tune", "--simulate", scenario, "--shape", SHAPE, "--backend", "triton-tiled", "--objective", "energy",
        "--candidates", "8", cwd=folder, timeout=280,
    )  # fmt: skip
    return Tuned(done, folder, scenario, folder / "data" / "flopwatt" / "tuning.json")


def test_the_best_configuration_is_found_stored_and_shown(tuned: Tuned) -> None:
    assert tuned.done.returncode == 0, tuned.done.stderr
    (entry,) = load(tuned.store)
    assert (entry.config["BLOCK_M"], entry.config["BLOCK_N"]) == (64, 64)
    assert (entry.objective, entry.backend, entry.bucket) == ("energy", "triton-tiled", "4096x4096x4096")
    evidence = entry.evidence
    assert evidence.origin == "simulated"
    assert evidence.default is not None
    assert evidence.default.config != entry.config
    assert evidence.winner.energy_j is not None
    assert evidence.default.energy_j is not None
    saved = 1 - evidence.winner.energy_j.value / evidence.default.energy_j.value
    assert 0.05 < saved < 0.3
    assert f"{saved * 100:.1f} %" in tuned.done.stdout
    assert (evidence.tried.candidates, evidence.tried.compiled, evidence.tried.failed) == (9, 9, 0)
    assert evidence.tried.measured == 8
    assert "9 of 9 candidates compiled; 8 to measure" in tuned.done.stderr
    assert tuned.done.stdout.rstrip().endswith(str(tuned.store))


def test_the_evidence_is_a_run_file_beside_the_store(tuned: Tuned) -> None:
    (entry,) = load(tuned.store)
    (path,) = tuned.store.parent.glob("tuning-simulated-*.jsonl")
    run = read(path)
    assert run.header.id == entry.evidence.run_id
    assert [record.case.regime for record in run.records] == ["sustained"] * 8
    assert {record.case.effort for record in run.records} == {"fast"}
    assert len({json.dumps(record.case.config) for record in run.records}) == 8
    assert any("9 of 9 candidates compiled" in event.message for event in run.events)
    assert not any(use.headline for record in run.records for use in record.uses)


def test_run_uses_the_store_and_says_why(tuned: Tuned) -> None:
    path = tuned.folder / "run.jsonl"
    words = ("--shape", SHAPE, "--shape", "6001x4095x4095", "--shape", "129x129x129", "--effort", "fast")
    done = flopwatt("run", "--simulate", tuned.scenario, *words, "--backend", "triton-tiled", "-o", path)
    assert done.returncode == 0, done.stderr
    (entry,) = load(tuned.store)
    found = {record.case.problem.m: record for record in read(path).records if record.case.problem}
    assert {m: record.settings["config_source"] for m, record in found.items()} == {
        4095: "tuned for energy: exact shape",
        6001: "tuned for energy: nearest bucket 4096x4096x4096, at 4095x4095x4095",
        129: "default: no entry near 128x128x128",
    }
    assert found[4095].case.config == entry.config
    assert found[6001].case.config is not None
    assert found[6001].case.config["BLOCK_N"] == 64
    assert "configuration of 1 × triton-tiled, tuned for energy: exact shape" in done.stdout


def test_a_backend_without_entries_is_as_before(tuned: Tuned) -> None:
    path = tuned.folder / "torch.jsonl"
    flopwatt("run", "--simulate", tuned.scenario, "--shape", SHAPE, "--effort", "fast", "-o", path)
    (record,) = read(path).records
    assert (record.case.config, record.settings) == ({}, {})


def test_a_damaged_store_is_one_line_and_stops_tuning_but_no_run(tuned: Tuned) -> None:
    damaged = tuned.folder / "damaged.json"
    damaged.write_text('{"format": 1, "entries": [{}]}')
    words = ("--simulate", "h100", "--shape", SHAPE)
    done = flopwatt("tune", *words, "-o", damaged)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "not a tuning store of format 1" in done.stderr
    assert damaged.read_text() == '{"format": 1, "entries": [{}]}'
    whole = tuned.store.read_bytes()
    tuned.store.write_bytes(whole[:-9])
    try:
        run = flopwatt("run", *words, "--effort", "fast", "-o", tuned.folder / "beside-damage.jsonl")
    finally:
        tuned.store.write_bytes(whole)
    assert run.returncode == 0
    assert "no tuned configuration is used: …/tuning.json: not a tuning store" in run.stderr


@pytest.mark.slow
def test_a_budget_leaves_the_rest_untuned(tuned: Tuned) -> None:
    store = tuned.folder / "cut" / "tuning.json"
    words = ("--shape", SHAPE, "--candidates", "5", "--objective", "energy", "--budget", "10s")
    done = flopwatt("tune", "--simulate", tuned.scenario, *words, "--backend", "triton-tiled", "-o", store)
    assert done.returncode == 3, done.stderr
    assert "of 5 candidates were measured" in done.stdout
    assert load(store) == ()


def test_an_interrupted_tuning_stores_nothing_half_measured(tuned: Tuned) -> None:
    store = tuned.folder / "stopped" / "tuning.json"
    scenario = tuned.folder / "hangs.toml"
    scenario.write_text(tuned.scenario.read_text() + '\n[faults]\nhang_on = "triton-tiled"\n')
    process = start("tune", "--simulate", scenario, "--shape", SHAPE, "--backend", "triton-tiled", "-o", store)
    until = time.monotonic() + 120
    while time.monotonic() < until and not list(store.parent.glob("*.jsonl")):
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert "stopped by SIGTERM: 0 of 1 are tuned" in stderr
    assert load(store) == ()


def test_a_store_that_cannot_be_written_is_said_before_anything_is_compiled(tuned: Tuned) -> None:
    blocked = "/proc/flopwatt/tuning.json"
    done = flopwatt("tune", "--simulate", "h100", "--shape", SHAPE, "--backend", "triton-tiled", "-o", blocked)
    assert done.returncode == 2
    assert done.stderr.startswith(f"flopwatt: {blocked}: ")
    assert done.stderr.endswith(": choose a store that can be written with -o\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--objective", "luck"), "unknown objective 'luck': choose one of time, energy"),
        (
            ("--backend", "torch", "--simulate", "h100"),
            "backend 'torch' has nothing to tune here: choose one of triton",
        ),
        (("--target", "sm_90"), "--target and --format go with --compile-only"),
        (("--compile-only", "--target", "sm_70"), "unknown target 'sm_70': choose one of sm_80, sm_90, sm_100"),
        (("--device", "cpu"), "there is no GPU here; --compile-only needs none"),
    ],
)
def test_wrong_words_are_one_line(folder: Path, words: tuple[str, ...], message: str) -> None:
    done = flopwatt("tune", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_compile_only_shows_what_each_configuration_takes(tuned: Tuned) -> None:
    words = ("--compile-only", "--target", "sm_90", "--shape", SHAPE, "--backend", "triton-tiled")
    done = flopwatt("tune", *words, "--format", "json")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 7
    assert {row["target"] for row in rows} == {"sm_90"}
    assert all(row["error"] is None and 16 <= row["registers"] <= 255 for row in rows)
    assert all(row["stack_bytes"] <= 32 and 0 < row["shared_bytes"] <= 232_448 for row in rows)
    assert {name.partition(".")[0] for row in rows for name in row["multipliers"]} == {"HGMMA", "HMMA"}
    assert "7 configurations compiled, 0 of them not usable" in done.stderr
