"""Collecting rows into a run file: suites, duplicates, GPUs, counts."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import pytest

from flopwatt.analysis.formats.collect import REASONS_MOST, Collector, SuiteFilter
from flopwatt.analysis.formats.foreign import Entry, LeftOut, Machine, resolve_gpu
from flopwatt.errors import InputError, SuiteError
from flopwatt.runs.records import Case, Event, Record, Segment
from flopwatt.runs.samples import AggregateMeasurement
from gemmkernels.problem import Problem

NOW = "2026-11-22T09:00:00Z"


def entry(m: int = 64, gpu: str = "NVIDIA L4", time_s: float = 1e-5, **fields: object) -> Entry:
    problem = Problem(**{"m": m, "n": 4096, "k": 4096, "dtype": "bf16", "layout": "nt", **fields})  # type: ignore[arg-type]
    case = Case(problem=problem, backend="x", regime="unknown", inputs="unknown", cache="unknown")
    return Entry(Machine(gpu), case, measurement=AggregateMeasurement(time_s=time_s))


def collect(*found: Entry | LeftOut, gpu: str | None = None, suites: tuple[str, ...] = ()) -> tuple[Collector, list]:
    collector = Collector("ab" * 16, NOW, gpu, SuiteFilter(suites) if suites else None)
    return collector, list(collector.lines(found))


def test_a_case_is_kept_once_and_the_first_counts() -> None:
    collector, lines = collect(entry(), entry(time_s=2e-5), entry(m=65))
    records = [line for line in lines if isinstance(line, Record)]
    assert [record.measurement.time_s for record in records] == [1e-5, 1e-5]  # type: ignore[union-attr]
    assert collector.reasons() == ["1 row left out: the same case again"]
    assert len({record.id for record in records}) == 2
    assert all(record.origin == "imported" for record in records)


def test_a_suite_keeps_its_exact_gemms_and_says_how_many_it_has() -> None:
    qkv = entry(8192, n=6144)
    found = [qkv, entry(8192, n=6144, layout="nn"), entry(8191, n=6144), entry(8192, n=6144, dtype="fp16")]
    collector, lines = collect(*found, suites=("llama-3.1-8b",))
    records = [line for line in lines if isinstance(line, Record)]
    assert [record.case.problem for record in records] == [qkv.case.problem, found[3].case.problem]
    assert [(use.suite, use.dtype, use.role, use.phase, use.count) for use in records[0].uses] == [
        ("llama-3.1-8b", "bf16", "qkv", "forward", 32)
    ]
    assert collector.reasons() == ["2 rows left out: not a GEMM of the suites asked for"]
    coverage = collector.coverage()
    assert coverage[0].startswith("llama-3.1-8b in bf16: 1 of 15 distinct GEMMs; missing 4096x4096x8192 tn")
    assert [line.message for line in lines if isinstance(line, Event)] == [*collector.reasons(), *coverage]


def test_an_unknown_suite_is_refused_before_anything_is_read() -> None:
    with pytest.raises(SuiteError, match="unknown suite 'nonsense'"):
        SuiteFilter(["nonsense"])


def test_two_gpus_in_one_table_must_be_told_apart() -> None:
    with pytest.raises(InputError, match="rows of NVIDIA L4 and of NVIDIA H200 in one table: choose one with --gpu"):
        collect(entry(), entry(gpu="NVIDIA H200"))
    collector, lines = collect(entry(), entry(gpu="NVIDIA H200"), gpu="NVIDIA H200")
    assert collector.reasons() == ["1 row left out: of another GPU"]
    (segment,) = [line for line in lines if isinstance(line, Segment)]
    assert (segment.environment.gpu, segment.environment.spec) == ("NVIDIA H200", "H200-SXM5-141GB")


def test_nothing_to_import_says_why() -> None:
    with pytest.raises(InputError, match="nothing to import: 3 rows left out: m = 0"):
        collect(*[LeftOut("m = 0")] * 3)
    with pytest.raises(InputError, match="nothing to import: it has no rows"):
        collect()


def test_as_many_reasons_as_rows_do_not_fill_the_memory() -> None:
    collector, _ = collect(entry(), *(LeftOut(f"reason {number}") for number in range(1000)))
    assert len(collector.left_out) == REASONS_MOST + 1
    assert sum(collector.left_out.values()) == 1000
    odd = [replace(entry(m), energy_status="refused", energy_reason=f"{m}") for m in range(1, 200)]
    collector, _ = collect(*odd)
    assert len(collector.energy) == REASONS_MOST + 1


def test_a_million_rows_are_not_held_in_memory() -> None:
    """Only what tells duplicates apart grows, about a hundred bytes a row: 20,000 rows stand for a million here."""
    rows = 20_000

    def found() -> Iterator[Entry]:
        for number in range(rows):
            yield entry(1 + number)

    collector = Collector("ab" * 16, NOW, None, None)
    tracemalloc.start()
    try:
        for _ in collector.lines(found()):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert collector.records == rows
    assert peak / rows < 200


def test_a_gpu_goes_by_any_of_its_names() -> None:
    assert resolve_gpu("H100-SXM5-80GB") == "NVIDIA H100 80GB HBM3"
    assert resolve_gpu("a100-sxm4-80gb") == "NVIDIA A100-SXM4-80GB"
    assert resolve_gpu("h200") == "NVIDIA H200"
    assert resolve_gpu(" My Own GPU ") == "My Own GPU"
