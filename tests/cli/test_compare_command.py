"""`flopwatt compare` as a user and as a build starts it: exit codes, formats, one clear line for what cannot be."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from flopwatt_process import flopwatt

RUN = ("run", "--simulate", "h100", "--shape", "8192x8192x8192", "--processes", "3")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An H100 twice, and once by a slower backend as well."""
    folder = tmp_path_factory.mktemp("runs")
    words = {
        "base": ("--seed", "1"),
        "again": ("--seed", "2"),
        "both": ("--seed", "3", "--backend", "torch", "--backend", "triton-tiled"),
        "zeros": ("--seed", "4", "--inputs", "zeros"),
    }
    paths = {name: folder / f"{name}.jsonl" for name in words}
    for name, more in words.items():
        done = flopwatt(*RUN, *more, "-o", paths[name])
        assert done.returncode == 0, done.stderr
    return paths


def test_equal_runs_are_no_regression(runs: dict[str, Path]) -> None:
    done = flopwatt("compare", runs["base"], runs["again"], "--threshold", "5%")
    assert done.returncode == 0, done.stderr
    assert "the same within 5 %" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr


def test_a_slower_backend_is_a_regression_and_a_faster_one_is_not(runs: dict[str, Path]) -> None:
    names = ("--base-backend", "torch", "--new-backend", "triton-tiled")
    done = flopwatt("compare", runs["both"], runs["both"], *names)
    assert done.returncode == 1, done.stderr
    assert "torch → triton-tiled" in done.stdout
    assert "slower" in done.stdout
    assert flopwatt("compare", runs["both"], runs["both"], *names, "--fail-on", "never").returncode == 0
    back = flopwatt("compare", runs["both"], runs["both"], "--base-backend", "triton-tiled", "--new-backend", "torch")
    assert back.returncode == 0
    assert "faster" in back.stdout


def test_what_cannot_be_told_exits_with_three(runs: dict[str, Path]) -> None:
    done = flopwatt("compare", runs["base"], runs["again"], "--threshold", "0.01%")
    assert done.returncode == 3
    assert "inconclusive" in done.stdout


def test_csv_and_json_hold_the_same(runs: dict[str, Path], tmp_path: Path) -> None:
    words = ("compare", runs["base"], runs["again"], "--metric", "tflops-per-w", "--format")
    table = flopwatt(*words, "csv")
    (row,) = csv.DictReader(table.stdout.splitlines())
    path = tmp_path / "out.json"
    assert flopwatt(*words, "json", "-o", path).returncode == table.returncode
    document = json.loads(path.read_text())
    (case,) = document["cases"]
    assert float(row["tflops_per_w_ratio"]) == case["tflops_per_w_ratio"]
    assert row["tflops_per_w_verdict"] == case["tflops_per_w_verdict"]
    assert document["exit_code"] == table.returncode
    assert document["metric"] == "tflops-per-w"


def test_inputs_are_mixed_only_when_told(runs: dict[str, Path]) -> None:
    refused = flopwatt("compare", runs["base"], runs["zeros"])
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert len(refused.stderr.splitlines()) == 1
    assert "inputs is normal in BASE and zeros in NEW" in refused.stderr
    assert "--allow-mixed inputs" in refused.stderr
    done = flopwatt("compare", runs["base"], runs["zeros"], "--allow-mixed", "inputs", "--metric", "power")
    assert done.returncode == 0, done.stderr
    assert "normal → zeros inputs" in done.stdout
    assert "better" in done.stdout


def test_further_files_join_a_side(runs: dict[str, Path]) -> None:
    done = flopwatt("compare", runs["base"], runs["both"], "--also-base", runs["again"], "--format", "json")
    (case,) = json.loads(done.stdout)["cases"]
    assert (case["processes_base"], case["processes_new"]) == (6, 3)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("--metric", "joy"), "choose one of time"),
        (("--threshold", "1"), "such as 1% or 0.01"),
        (("--threshold", "soon"), "such as 1% or 0.01"),
        (("--allow-mixed", "layout"), "choose from origin"),
        (("--fail-on", "monday"), "choose one of any"),
        (("--format", "xml"), "choose one of table"),
        (("--base-backend", "torch"), "go together"),
        (("--best", "--base-backend", "a", "--new-backend", "b"), "--best chooses"),
        (("--base-backend", "nobody", "--new-backend", "torch"), "no record by 'nobody'"),
        (("-o", "x.csv"), "--format csv or json"),
    ],
)
def test_wrong_words_are_one_line_that_names_the_remedy(
    runs: dict[str, Path], words: tuple[str, ...], remedy: str
) -> None:
    done = flopwatt("compare", runs["base"], runs["again"], *words)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert remedy in done.stderr


def test_a_broken_file_is_one_line(runs: dict[str, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_bytes(runs["base"].read_bytes()[2000:])
    done = flopwatt("compare", runs["base"], broken)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
