"""`flopwatt import` as a user meets it: what it writes, what it says, and what it leaves behind when it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from flopwatt.runs.store import read
from flopwatt.runs.tidy import load
from flopwatt_process import COMMAND, ENVIRONMENT, flopwatt

sys.path.insert(0, str(Path(__file__).parents[1] / "formats"))

from tables import A100, H100, aiconfigurator, cutlass_row
from tables import CUTLASS_HEADER as HEADER

HOSTILE = "\x1b[31m<script>alert(1)</script>[bold]x[/bold]\u202e\r\n=cmd|' /C calc'!A0"


def test_a_table_becomes_a_run_file_with_source_licence_and_counts(tmp_path: Path) -> None:
    aiconfigurator(
        tmp_path / "gemm_perf.parquet",
        [{"power": 400.0}, {"m": 8192, "power": 500.0}, {"m": 0, "power": 1.0}, {"gemm_dtype": "nvfp4", "power": 1.0}],
    )
    words = ("import", "aiconfigurator", "gemm_perf.parquet", "--source", "my lab", "--licence", "MIT", "-o", "x.jsonl")
    done = flopwatt(*words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"2 cases from 4 rows, on {H100}: x.jsonl",
        "  source: my lab (aiconfigurator: gemm_perf.parquet); licence: MIT",
        "  1 row left out: m = 0",
        "  1 row left out: nvfp4: a run file has no name for 4-bit floats",
        "  energy of 2: refused: the window over which the watts were averaged is unknown",
    ]
    run = read(tmp_path / "x.jsonl")
    assert (run.header.origin, run.header.licence) == ("imported", "MIT")
    assert run.header.source == "my lab (aiconfigurator: gemm_perf.parquet)"
    table = load(tmp_path / "x.jsonl")
    assert table["tflops"].tolist() == pytest.approx([549.755813888, 1099.511627776])
    assert table["peak_fraction"].tolist() == pytest.approx([0.5556457, 1.1112914], rel=1e-4)
    for column in ("power_w", "energy_j", "tflops_per_w", "time_s_low", "effort", "window_s"):
        assert table[column].isna().all(), column
    shown = flopwatt("show", "x.jsonl", cwd=tmp_path).stdout
    assert "imported, measured by others: my lab (aiconfigurator: gemm_perf.parquet), MIT" in shown
    assert "0 of 2 imported measurements have energy" in shown
    assert "2 × refused: the window over which the watts were averaged is unknown" in shown
    assert "1 row left out: m = 0" in shown
    assert flopwatt("check", "x.jsonl", cwd=tmp_path).stdout.startswith(
        "x.jsonl: 1100 TFLOPS is over the dense bf16 peak"
    )


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    evil = {"device": HOSTILE, "framework": HOSTILE, "kernel_source": HOSTILE, "version": HOSTILE}
    aiconfigurator(tmp_path / "t.parquet", [{**evil}, {**evil, "gemm_dtype": HOSTILE}])
    done = flopwatt("import", "aiconfigurator", "t.parquet", "--source", HOSTILE, "-o", "x.jsonl", cwd=tmp_path)
    shown = flopwatt("show", "x.jsonl", cwd=tmp_path)
    for text in (done.stdout, shown.stdout):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\r" not in text
        assert "<script>alert(1)</script>[bold]x[/bold]" in text
    assert load(tmp_path / "x.jsonl")["gpu"].tolist() == [HOSTILE]
    csv = flopwatt("show", "x.jsonl", "--format", "csv", "-o", "x.csv", cwd=tmp_path)
    assert csv.returncode == 0
    again = flopwatt("import", "csv", "x.csv", "-o", "y.jsonl", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert load(tmp_path / "y.jsonl")["gpu"].tolist() == [HOSTILE]


REFUSED: dict[str, tuple[tuple[str, ...], str]] = {
    "format": (("import", "calculon", "good.parquet", "-o", "x.jsonl"), "unknown format 'calculon': choose one of"),
    "no such file": (("import", "csv", "none.csv", "-o", "x.jsonl"), "none.csv: no such file or directory"),
    "a folder": (("import", "csv", ".", "-o", "x.jsonl"), ".: not a regular file"),
    "a device": (("import", "csv", "/dev/zero", "-o", "x.jsonl"), "/dev/zero: not a regular file"),
    "foreign": (("import", "aiconfigurator", "p.csv", "-o", "x.jsonl"), "p.csv: not a whole Parquet file"),
    "binary": (("import", "csv", "good.parquet", "-o", "x.jsonl", "--gpu", "x"), "good.parquet: not UTF-8 text"),
    "no GPU": (("import", "cutlass-profiler", "p.csv", "-o", "x.jsonl"), "cutlass_profiler names no GPU"),
    "cut off": (("import", "cutlass-profiler", "cut.csv", "--gpu", "x", "-o", "x.jsonl"), "cut.csv: line 3 has"),
    "nothing left": (
        ("import", "aiconfigurator", "good.parquet", "--shapes", "gpt-3-175b", "-o", "x.jsonl"),
        "nothing to import: 1 row left out: not a GEMM of the suites asked for",
    ),
    "another GPU": (
        ("import", "aiconfigurator", "good.parquet", "--gpu", "A100-SXM4-80GB", "-o", "x.jsonl"),
        "nothing to import: 1 row left out: of another GPU",
    ),
    "unknown suite": (
        ("import", "aiconfigurator", "good.parquet", "--shapes", "nonsense", "-o", "x.jsonl"),
        "unknown suite 'nonsense'",
    ),
    "no folder": (("import", "csv", "p.csv", "-o", "nowhere/x.jsonl"), "does not exist: create it"),
    "exists": (("import", "csv", "p.csv", "-o", "cut.csv"), "cut.csv exists: choose another name"),
    "no output": (("import", "csv", "p.csv"), "Missing option '--output'"),
    "empty source": (("import", "csv", "p.csv", "--source", " ", "-o", "x.jsonl"), "--source: give 1 to 2000"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_line_and_writes_nothing(tmp_path: Path, name: str) -> None:
    aiconfigurator(tmp_path / "good.parquet", [{}])
    (tmp_path / "p.csv").write_text(f"{HEADER}\n{cutlass_row()}\n")
    (tmp_path / "cut.csv").write_text(f"{HEADER}\n{cutlass_row()}\n{cutlass_row()[:40]}")
    before = sorted(path.name for path in tmp_path.iterdir())
    words, expected = REFUSED[name]
    done = flopwatt(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_cutlass_profiler_rows_of_one_problem_are_told_apart_by_their_kernels(tmp_path: Path) -> None:
    rows = [cutlass_row(cta_m=m, Runtime=r) for m, r in ((64, 2.0), (128, 1.0), (128, 1.0))]
    (tmp_path / "p.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    done = flopwatt("import", "cutlass-profiler", "p.csv", "--gpu", "a100-sxm4-80gb", "-o", "x.jsonl", cwd=tmp_path)
    assert done.stdout.splitlines()[0] == f"2 cases from 3 rows, on {A100}: x.jsonl"
    assert "1 row left out: the same case again" in done.stdout
    assert load(tmp_path / "x.jsonl")["time_s"].tolist() == [2e-3, 1e-3]


ROWS = 140_000
CPU_S, MEMORY_KB = 10.0, 10**6


@pytest.mark.slow
def test_a_large_table_is_imported_and_shown_in_seconds_and_under_a_gigabyte(tmp_path: Path) -> None:
    """CPU seconds of each process, which other work on the machine does not lengthen much, and its peak memory."""
    shapes = [(16 * (1 + i % 200), 64 * (1 + i // 200 % 70), 64 * (1 + i // 14_000)) for i in range(ROWS)]
    m, n, k = (pa.array(sizes) for sizes in zip(*shapes, strict=True))
    names = {"framework": "VLLM", "version": "1", "device": H100, "op_name": "gemm", "kernel_source": "x"}
    columns = {name: pa.array([text] * ROWS) for name, text in names.items()}
    columns |= {"gemm_dtype": pa.array(["bfloat16"] * ROWS), "m": m, "n": n, "k": k}
    columns["latency"] = pa.array([0.01 + a * b * c * 1e-11 for a, b, c in shapes])
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    for words in (
        ("import", "aiconfigurator", "t.parquet", "-o", "x.jsonl"),
        ("show", "x.jsonl"),
        ("show", "x.jsonl", "--format", "csv", "-o", "x.csv"),
        ("import", "csv", "x.csv", "-o", "y.jsonl"),
    ):
        cpu_s, memory_kb, shown = _measured(words, tmp_path)
        assert cpu_s < CPU_S, (words, cpu_s)
        assert memory_kb < MEMORY_KB, (words, memory_kb)
        if words == ("show", "x.jsonl"):
            assert len(shown.splitlines()) < 520
            assert f"… and {ROWS - 500:,} more cases: --format csv or parquet gives all" in shown
    assert len(read(tmp_path / "y.jsonl").records) == ROWS


def _measured(words: tuple[str, ...], folder: Path) -> tuple[float, int, str]:
    """CPU seconds, peak kilobytes and output of one command, in a process whose only child it is."""
    probe = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], capture_output=True, text=True, check=True)\n"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "print(used.ru_utime + used.ru_stime, used.ru_maxrss)\n"
        "print(done.stdout)\n"
    )
    command = [sys.executable, "-c", probe, *COMMAND, *words]
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    first, _, rest = done.stdout.partition("\n")
    cpu_s, memory_kb = first.split()
    return float(cpu_s), int(memory_kb), rest
