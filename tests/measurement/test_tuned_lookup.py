"""Which tuned configuration a problem gets, and the reason that its record gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from tuned_entries import GPU, SMALL, SQUARE, VERSIONS, WIDE, entry, problem

from flopwatt.measurement.tuned import store as tuning_store
from flopwatt.measurement.tuned.lookup import Found, Tuned, Wanted, choose
from flopwatt.measurement.tuned.records import Entry, bucket_of, distance
from flopwatt.runs.records import Environment
from gemmkernels.problem import Problem

CANDIDATES = (WIDE, SQUARE, SMALL)
DEFAULT = WIDE


def wanted(about: Problem, regime: str = "sustained", **others: object) -> Wanted:
    fields = {"gpu": GPU, "backend": "triton-tiled", "versions": VERSIONS, "origin": "simulated", **others}
    return Wanted(problem=about, regime=regime, **fields)  # type: ignore[arg-type]


def looked_up(entries: list[Entry], about: Problem, **others: object) -> Found | str:
    return choose(entries, wanted(about, **others), CANDIDATES)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("shape", "bucket"),
    [
        ((4096, 4096, 4096), "4096x4096x4096"),
        ((6144, 4096, 5000), "8192x4096x4096"),
        ((5792, 5793, 1), "4096x8192x1"),
        ((1, 3, 28672), "1x4x32768"),
    ],
)
def test_a_bucket_is_each_size_rounded_to_an_octave(shape: tuple[int, int, int], bucket: str):
    assert bucket_of(problem(*shape)) == bucket


def test_a_batch_is_part_of_the_bucket():
    assert bucket_of(problem(128, 128, 64, batch=30)) == "32x128x128x64"
    assert distance(problem(batch=2), problem(batch=8)) == 2.0


def test_the_exact_shape_is_found_and_said():
    found = looked_up([entry(problem(), SQUARE), entry(problem(8192), SMALL)], problem())
    assert found == Found(SQUARE, "tuned for time: exact shape")


def test_another_shape_of_the_bucket_is_named():
    found = looked_up([entry(problem(6144), SQUARE)], problem(8192))
    assert found == Found(SQUARE, "tuned for time: bucket 8192x4096x4096, at 6144x4096x4096")


def test_the_nearest_bucket_is_named():
    found = looked_up([entry(problem(4096), SQUARE), entry(problem(512), SMALL)], problem(8192))
    assert found == Found(SQUARE, "tuned for time: nearest bucket 4096x4096x4096, at 4096x4096x4096")


def test_too_far_away_the_backend_chooses():
    assert isinstance(looked_up([entry(problem(4096), SQUARE)], problem(8192, 8192)), Found)
    assert looked_up([entry(problem(4096), SQUARE)], problem(8192, 8192, 8192)) == "no entry near 8192x8192x8192"


@pytest.mark.parametrize(
    "other",
    [
        {"gpu": "NVIDIA H200"},
        {"backend": "triton-persistent"},
        {"origin": "measured"},
    ],
)
def test_entries_of_another_gpu_backend_or_origin_do_not_count(other: dict[str, str]):
    found = looked_up([entry(problem(), SQUARE, **other)], problem())
    assert found == "no entry for this GPU, backend and format in layout nt"


@pytest.mark.parametrize(
    "about",
    [problem(layout="nn"), problem(dtype="fp16"), problem(out_dtype="fp32")],
)
def test_entries_of_another_layout_or_format_do_not_count(about: Problem):
    assert isinstance(looked_up([entry(about, SQUARE)], problem()), str)


def test_scaling_is_part_of_the_format():
    rows = problem(dtype="fp8_e4m3", scaling="row")
    tensor = problem(dtype="fp8_e4m3", scaling="tensor")
    assert isinstance(looked_up([entry(rows, SQUARE)], tensor), str)
    assert isinstance(looked_up([entry(rows, SQUARE)], rows), Found)


def test_simulated_entries_never_serve_a_measured_run():
    simulated, measured = entry(problem(), SQUARE), entry(problem(), SMALL, origin="measured")
    found = looked_up([simulated, measured], problem(), origin="measured")
    assert isinstance(found, Found)
    assert found.config == SMALL
    assert isinstance(looked_up([simulated], problem(), origin="measured"), str)


def test_another_triton_comes_last_and_is_said():
    old = VERSIONS | {"triton": "3.6.0"}
    found = looked_up([entry(problem(), SQUARE, versions=old)], problem())
    assert found == Found(SQUARE, "tuned for time: exact shape, by another triton (3.6.0)")
    both = [entry(problem(), SQUARE, versions=old), entry(problem(8192), SMALL)]
    assert looked_up(both, problem()) == Found(
        SMALL, "tuned for time: nearest bucket 8192x4096x4096, at 8192x4096x4096"
    )


def test_of_equals_the_same_driver_then_the_newest_count():
    driver = entry(problem(), SMALL, versions=VERSIONS | {"driver": "570.0"}, date="2026-12-01T00:00:00Z")
    older, newer = (entry(problem(), c, date=f"2026-11-0{d}T00:00:00Z") for c, d in ((WIDE, 1), (SQUARE, 2)))
    found = looked_up([driver, older, newer], problem())
    assert isinstance(found, Found)
    assert found.config == SQUARE


@pytest.mark.parametrize(("regime", "config"), [("burst", SQUARE), ("sustained", SMALL)])
def test_bursts_prefer_time_and_sustained_load_energy(regime: str, config: dict[str, int]):
    entries = [entry(problem(), SQUARE), entry(problem(), SMALL, objective="energy")]
    found = looked_up(entries, problem(), regime=regime)
    assert isinstance(found, Found)
    assert found.config == config


def test_the_other_objective_is_better_than_another_shape():
    entries = [entry(problem(), SQUARE), entry(problem(6000), SMALL, objective="energy")]
    assert looked_up(entries, problem()) == Found(SQUARE, "tuned for time: exact shape")


def test_what_is_no_candidate_here_is_passed_over():
    strange = WIDE | {"BLOCK_N": 512}
    near, far = entry(problem(), strange), entry(problem(8192), SMALL)
    found = looked_up([near, far], problem())
    assert isinstance(found, Found)
    assert found.config == SMALL
    assert looked_up([near], problem()) == "no entry near 4096x4096x4096 is a candidate for 4096x4096x4096"


def test_the_tile_order_is_kept_for_its_own_shape_only():
    ordered = SQUARE | {"GROUP_M": 64}
    same, other = (
        looked_up([entry(problem(), ordered)], problem()),
        looked_up([entry(problem(), ordered)], problem(8192)),
    )
    assert isinstance(same, Found)
    assert isinstance(other, Found)
    assert (same.config["GROUP_M"], other.config["GROUP_M"]) == (64, SQUARE["GROUP_M"])


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Environment:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    versions = {name: version for name, version in VERSIONS.items() if name != "driver"}
    return Environment(kind="cuda", gpu=GPU, driver=VERSIONS["driver"], versions={**versions, "numpy": "2"})


def test_a_process_reads_the_users_store_and_gets_the_reason(environment: Environment):
    tuning_store.add(tuning_store.user_path(), [entry(problem(), SQUARE)])
    tuned = Tuned(environment, "simulated")
    assert tuned.knows("triton-tiled")
    assert not tuned.knows("torch")
    assert tuned.config("triton-tiled", problem(), "burst", CANDIDATES).source == "tuned for time: exact shape"
    found = tuned.config("triton-tiled", problem(64, 64, 64), "burst", CANDIDATES)
    assert found == Found(DEFAULT, "default: no entry near 64x64x64")
    assert not Tuned(environment, "measured").knows("triton-tiled")


def test_without_a_store_the_default_runs(environment: Environment):
    found = Tuned(environment, "measured").config("triton-tiled", problem(), "burst", CANDIDATES)
    assert found == Found(DEFAULT, "default: no entry for this GPU, backend and format in layout nt")


def test_a_damaged_store_is_not_used_and_is_said(environment: Environment):
    path = tuning_store.user_path()
    tuning_store.add(path, [entry(problem(), SQUARE)])
    path.write_bytes(path.read_bytes()[:-20])
    found = Tuned(environment, "simulated").config("triton-tiled", problem(), "burst", CANDIDATES)
    assert found == Found(DEFAULT, "default: the tuning store is damaged")
