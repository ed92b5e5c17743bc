"""Totals of a training step: FLOPs over seconds and joules, weighted by count, with honest gaps."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest

from gemmkernels.problem import Problem

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

from synthetic import header, measurement, record, segment

from flopwatt.analysis.headline import headlines
from flopwatt.runs.records import Case, Record, SequenceItem, SuiteFact, Use, case_id
from flopwatt.runs.stats import RUN_TO_RUN
from flopwatt.runs.store import RunFile

SMALL, LARGE = Problem(1024, 1024, 1024, layout="nt"), Problem(4096, 4096, 4096, layout="nn")


def gemm(problem: Problem, count: int, *, launch_ms: float, watts: float, process: int = 0, **fields: object) -> Record:
    case = Case(problem=problem, backend="torch", effort="fast")
    return record(
        problem=problem,
        case_id=case_id(case),
        process=process,
        uses=(Use(suite="tiny", role="x", phase="forward", count=count),),
        measurement=measurement(launch_ms=launch_ms, watts=watts),
        **fields,
    )


def run_file(*records: Record) -> RunFile:
    return RunFile(Path("x"), header(records), (segment(),), records)


def test_totals_are_weighted_by_count() -> None:
    (headline,) = headlines(
        [run_file(gemm(SMALL, 30, launch_ms=1.0, watts=200.0), gemm(LARGE, 10, launch_ms=2.0, watts=600.0))]
    )
    seconds, joules = 30 * 1e-3 + 10 * 2e-3, 30 * 1e-3 * 200 + 10 * 2e-3 * 600
    flop = 30 * 2 * 1024**3 + 10 * 2 * 4096**3
    assert headline.flop == flop
    assert headline.time_s.value == pytest.approx(seconds, rel=1e-6)
    assert headline.tflops.value == pytest.approx(flop / seconds * 1e-12, rel=1e-6)
    assert headline.energy_j is not None
    assert headline.energy_j.value == pytest.approx(joules, rel=1e-6)
    assert headline.power_w is not None
    assert headline.power_w.value == pytest.approx(joules / seconds, rel=1e-6)
    assert headline.tflops_per_w is not None
    assert headline.tflops_per_w.value == pytest.approx(flop * 1e-12 / joules, rel=1e-6)
    assert headline.joules_per_token == pytest.approx(joules / 1000, rel=1e-6)
    assert headline.coverage == 1.0


def test_one_process_carries_the_assumed_run_to_run_spread() -> None:
    (headline,) = headlines([run_file(gemm(LARGE, 10, launch_ms=2.0, watts=600.0))])
    assert headline.time_s.relative_half_width == pytest.approx(1.96 * RUN_TO_RUN, rel=1e-3)


def test_several_processes_show_their_own_spread() -> None:
    records = [gemm(LARGE, 10, launch_ms=ms, watts=600.0, process=i) for i, ms in enumerate((2.0, 2.5, 2.0))]
    (headline,) = headlines([run_file(*records)])
    assert headline.processes == 3
    assert headline.time_s.value == pytest.approx(10 * (2.0 + 2.5 + 2.0) / 3 * 1e-3, rel=1e-3)
    assert headline.time_s.relative_half_width > 0.2


def test_a_gemm_without_energy_leaves_no_watts_rather_than_fewer() -> None:
    silent = gemm(SMALL, 30, launch_ms=1.0, watts=200.0, energy_status="unsupported", energy_reason="no sensor")
    (headline,) = headlines([run_file(silent, gemm(LARGE, 10, launch_ms=2.0, watts=600.0))])
    assert headline.tflops_per_w is None
    assert headline.joules_per_token is None
    assert headline.missing_energy == 1
    assert headline.tflops.value > 0


def test_a_failed_gemm_lowers_the_coverage() -> None:
    failed = gemm(LARGE, 10, launch_ms=2.0, watts=600.0, status="failed", reason="boom")
    (headline,) = headlines([run_file(failed, gemm(SMALL, 30, launch_ms=1.0, watts=200.0))])
    share = 30 * 2 * 1024**3 / (30 * 2 * 1024**3 + 10 * 2 * 4096**3)
    assert headline.coverage == pytest.approx(share)


def test_a_replayed_layer_is_held_against_the_sum_of_its_gemms() -> None:
    sequence = Case(
        sequence=(SequenceItem(problem=SMALL, role="a"), SequenceItem(problem=LARGE, role="b")),
        backend="torch",
        effort="fast",
    )
    replay = msgspec.structs.replace(
        gemm(SMALL, 1, launch_ms=3.3, watts=500.0),
        case=sequence,
        case_id=case_id(sequence),
        uses=(Use(suite="tiny", role="sequence", headline=False),),
    )
    parts = gemm(SMALL, 30, launch_ms=1.0, watts=200.0), gemm(LARGE, 10, launch_ms=2.0, watts=600.0)
    (headline,) = headlines([run_file(*parts, replay)])
    assert headline.gap is not None
    assert headline.gap.summed_s == pytest.approx(3e-3, rel=1e-6)
    assert headline.gap.relative.value == pytest.approx(0.1, rel=1e-2)


def test_attention_and_suites_without_tokens_make_no_headline() -> None:
    aside = msgspec.structs.replace(
        gemm(SMALL, 30, launch_ms=1.0, watts=200.0), uses=(Use(suite="tiny", role="attention_scores", headline=False),)
    )
    assert headlines([run_file(aside)]) == []
    plain = run_file(gemm(SMALL, 30, launch_ms=1.0, watts=200.0))
    no_tokens = msgspec.structs.replace(plain.header, suites=(SuiteFact(name="tiny"),))
    assert headlines([RunFile(Path("x"), no_tokens, plain.segments, plain.records)]) == []
