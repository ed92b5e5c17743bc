"""results/README.md is what the files under results/ say, and says it rightly."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

import pytest
from synthetic import header, record, segment

from flopwatt.analysis.published_speed import nameplate_lines, speed_lines
from flopwatt.analysis.results_index import main, render
from flopwatt.errors import InputError
from flopwatt.runs.records import Case, Environment, Record, Use, case_id
from flopwatt.runs.samples import AggregateMeasurement
from flopwatt.runs.store import RunFile, read
from flopwatt.runs.whole_file import write_whole
from gemmkernels.problem import Problem

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"


def imported(gpu: str, times: dict[tuple[int, str], float], use: Use | None = None) -> RunFile:
    """An imported run of m×4096×4096 GEMMs: (m, dtype) → seconds."""
    records = []
    for index, ((m, dtype), time_s) in enumerate(times.items()):
        case = Case(problem=Problem(m, 4096, 4096, dtype=dtype, layout="nt"), backend="stack", regime="unknown")
        fields = {"case": case, "case_id": case_id(case), "uses": (use,) if use else ()}
        records.append(
            record(index, origin="imported", measurement=AggregateMeasurement(time_s=time_s), **fields)  # type: ignore[arg-type]
        )
    environment = Environment(kind="cuda", gpu=gpu, spec=gpu)
    return RunFile(
        Path("x"), header(origin="imported", source="s"), (segment(environment=environment),), tuple(records)
    )


def test_the_committed_readme_is_up_to_date() -> None:
    assert (RESULTS / "README.md").read_text(encoding="utf-8") == render(RESULTS), "run `make results`"


def test_what_is_imported_is_small_and_attributed() -> None:
    files = sorted((RESULTS / "imported").rglob("*.jsonl"))
    assert files
    assert max(path.stat().st_size for path in files) < 5e6
    assert sum(path.stat().st_size for path in files) < 12e6
    for path in files:
        run = read(path)
        assert run.header.origin == "imported"
        assert run.header.licence == "Apache-2.0"
        assert run.header.source is not None
        assert run.header.source.startswith("PyPI aiconfigurator-core ")


def test_a_committed_file_is_what_its_command_gives() -> None:
    """The records, not the ids and dates."""
    pytest.importorskip("aiconfigurator_core", reason="the extra `reference` is not installed")
    from flopwatt.analysis.formats import aiconfigurator
    from flopwatt.analysis.formats.collect import Collector, SuiteFilter

    kept = read(RESULTS / "imported" / "a100-sxm4-80gb" / "vllm.jsonl")
    suites = ("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "gpt-3-175b")
    chosen = SuiteFilter([str(RESULTS / "imported" / "grid.toml"), *suites])
    collector = Collector(kept.header.id, kept.header.created, None, chosen)
    rows = aiconfigurator.open_table(Path("a100_sxm/vllm/0.14.0")).rows
    again = [line for line in collector.lines(rows) if isinstance(line, Record)]
    assert tuple(again) == kept.records


def test_speed_is_the_geometric_mean_of_shared_shapes_by_size() -> None:
    old = imported("A100-SXM4-80GB", {(128, "bf16"): 4.0, (256, "bf16"): 9.0, (8192, "bf16"): 6.0, (64, "bf16"): 1.0})
    new = imported(
        "H100-SXM5-80GB", {(128, "bf16"): 1.0, (256, "bf16"): 1.0, (8192, "bf16"): 2.0, (128, "fp8_e4m3"): 0.5}
    )
    table = [line for line in speed_lines([old, new]) if line.startswith("| H100")]
    assert table == [
        "| H100-SXM5-80GB | bf16 | stack | 3 | 6.00 | – | – | 3.00 |",
        "| H100-SXM5-80GB | fp8 | stack | 1 | 8.00 | – | – | – |",
    ]


def test_the_suites_own_gemms_stand_by_themselves() -> None:
    use = Use(suite="llama", role="qkv", phase="forward", count=32)
    old = imported("A100-SXM4-80GB", {(128, "bf16"): 4e-6, (256, "bf16"): 9e-6}, use)
    new = imported("H100-SXM5-80GB", {(128, "bf16"): 1e-6}, use)
    rows = [line for line in speed_lines([old, new]) if line.startswith("| llama")]
    assert rows == [
        "| llama qkv | 128×4096×4096 | stack | 4 | 1 | 4.00 | – | – |",
        "| llama qkv | 256×4096×4096 | stack | 9 | – | – | – | – |",
    ]


def test_nothing_is_said_of_speed_without_the_base() -> None:
    assert list(speed_lines([imported("H100-SXM5-80GB", {(128, "bf16"): 1.0})])) == []


def test_the_nameplate_ratio_goes_by_that_name_until_watts_are_measured() -> None:
    unknown = "\n".join(nameplate_lines(base_measured=False))
    assert "Unknown: the tables above have no watts for the A100" in unknown
    assert "*nameplates*" in unknown
    assert "| H100-SXM5-80GB | 989 | 700 | 1.41 | 1.81 | 3.62 | checked |" in unknown
    assert "Unknown" not in "\n".join(nameplate_lines(base_measured=True))


def test_a_file_that_is_not_listed_or_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "index.toml").write_text('[[file]]\npath = "a.jsonl"\ncommand = "c"\nshows = "s"\n')
    with pytest.raises(InputError, match=r"a\.jsonl: listed, but not there"):
        render(tmp_path)
    write_whole(tmp_path / "a.jsonl", [header(), segment(), record()])
    write_whole(tmp_path / "b.jsonl", [header(), segment(), record()])
    assert main([str(tmp_path)]) == 2
    assert "b.jsonl: not listed" in capsys.readouterr().err
    (tmp_path / "b.jsonl").unlink()
    assert main([str(tmp_path)]) == 0
    assert "| [a.jsonl](a.jsonl) | NVIDIA H100 80GB HBM3 | measured | 2026-11-22 | 1 cases: s |" in (
        tmp_path / "README.md"
    ).read_text(encoding="utf-8")


def test_text_from_a_file_cannot_break_the_table(tmp_path: Path) -> None:
    environment = Environment(kind="cuda", gpu="a|b <img> [x](y)\n# c")
    write_whole(tmp_path / "a.jsonl", [header(), segment(environment=environment), record()])
    (tmp_path / "index.toml").write_text('[[file]]\npath = "a.jsonl"\ncommand = "c"\nshows = "s"\n')
    assert "| a\\|b \\<img> \\[x](y) # c |" in render(tmp_path)


@pytest.mark.parametrize("command", ["true\n```\n<script>", "echo `id`", "a\x1b[31m", ""])
def test_a_command_that_would_end_its_block_is_refused(tmp_path: Path, command: str) -> None:
    write_whole(tmp_path / "run.jsonl", [header()])
    listed = f'[[file]]\npath = "run.jsonl"\ncommand = {json.dumps(command)}\nshows = "x"\n'
    (tmp_path / "index.toml").write_text(listed)
    with pytest.raises(InputError, match=r"file\[0\]\.command"):
        render(tmp_path)
