"""A comparison for other programs: flat rows, and one JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flopwatt.analysis.compare import CaseComparison, RunComparison
from flopwatt.analysis.report.comparison_words import conclusion, notes
from flopwatt.analysis.sides import CaseSide, Identity
from flopwatt.analysis.totals import SuiteComparison
from flopwatt.runs.store import RunFile

METRIC_COLUMNS: Final = {
    "time": "time_s", "tflops": "tflops", "power": "power_w", "energy": "energy_j", "tflops-per-w": "tflops_per_w",
}  # fmt: skip
"""Tidy column of each metric; a comparison holds it as `_base` and `_new`."""

_SHARED: Final = tuple(name for name in Identity._fields if name != "backend")
_SIDES: Final = ("backend", "config", "effort", "processes", "energy_status", "failure")


def _columns() -> Iterator[str]:
    yield from ("kind", "suite", "cases", "left_out", "without_energy", *_SHARED)
    yield from (f"{name}_{side}" for name in _SIDES for side in ("base", "new"))
    yield "speedup"
    for metric, column in METRIC_COLUMNS.items():
        yield from (f"{column}_base", f"{column}_new")
        name = metric.replace("-", "_")
        yield from (f"{name}_ratio{end}" for end in ("", "_low", "_high", "_systematic", "_total_low", "_total_high"))
        yield f"{name}_verdict"


COLUMNS: Final = tuple(_columns())
"""Columns of the flat rows. kind: `suite`, `case`, `only_base`, `only_new`. Ratios are NEW ÷ BASE: `_low`, `_high` are
statistical, `_total_*` with the sensors' gains; `_systematic` is the relative half-width that those add, null
where unknown."""


def rows(result: RunComparison) -> Iterator[dict[str, Any]]:
    """Totals, cases and the cases of one side only, each with the columns that it has of `COLUMNS`."""
    for suite in result.suites:
        yield _suite_row(result, suite)
    for case in result.cases:
        yield _case_row(result, case)
    for kind, sides in (("only_base", result.only_base), ("only_new", result.only_new)):
        for side in sides:
            shared = {name: getattr(side.identity, name) for name in _SHARED}
            yield {"kind": kind, **shared, **_side(side, kind.removeprefix("only_"))}


def document(result: RunComparison, fail_on: str) -> dict[str, Any]:
    """The whole comparison as one object: both sides, rows by kind, notes, conclusion, exit code."""
    found: dict[str, list[dict[str, Any]]] = {"suite": [], "case": [], "only_base": [], "only_new": []}
    for row in rows(result):
        found[row.pop("kind")].append(row)
    return {
        "base": [_run(run) for run in result.base],
        "new": [_run(run) for run in result.new],
        "metric": result.options.metric,
        "threshold": result.options.threshold,
        "mixed": list(result.options.mixed),
        "suites": found["suite"],
        "cases": found["case"],
        "only_base": found["only_base"],
        "only_new": found["only_new"],
        "notes": list(notes(result)),
        "conclusion": conclusion(result),
        "exit_code": result.exit_code(fail_on),
    }


def _run(run: RunFile) -> dict[str, Any]:
    return {
        "file": str(run.path),
        "run_id": run.header.id,
        "origin": run.header.origin,
        "source": run.header.source,
        "licence": run.header.licence,
        "gpus": sorted({segment.environment.gpu for segment in run.segments}),
        "boards": sorted({segment.board_id for segment in run.segments if segment.board_id}),
        "versions": run.segments[-1].environment.versions if run.segments else {},
    }


def _suite_row(result: RunComparison, suite: SuiteComparison) -> dict[str, Any]:
    key = suite.key
    return {
        "kind": "suite", "suite": key.suite, "cases": suite.cases, "left_out": suite.left_out,
        "without_energy": suite.without_energy, "dtype": suite.dtype, "regime": key.regime, "inputs": key.inputs,
        "cache": key.cache, "origin": key.origin, "flop": suite.flop,
        "backend_base": suite.backends[0], "backend_new": suite.backends[1], **_metrics(result, suite),
    }  # fmt: skip


def _case_row(result: RunComparison, case: CaseComparison) -> dict[str, Any]:
    base, new = case.base.identity._asdict(), case.new.identity._asdict()
    shared = {name: base[name] if base[name] == new[name] else f"{base[name]} -> {new[name]}" for name in _SHARED}
    suites = sorted({use.suite for use in (*case.base.uses, *case.new.uses)})
    return {
        "kind": "case", "suite": " | ".join(suites) or None, **shared,
        **_side(case.base, "base"), **_side(case.new, "new"), **_metrics(result, case),
    }  # fmt: skip


def _side(side: CaseSide, name: str) -> dict[str, Any]:
    return {
        f"backend_{name}": side.identity.backend,
        f"config_{name}": side.config,
        f"effort_{name}": side.effort,
        f"processes_{name}": len({sample.process for sample in side.timed}),
        f"energy_status_{name}": " | ".join(sorted({sample.energy_status for sample in side.samples})),
        f"failure_{name}": side.failure,
    }


def _metrics(result: RunComparison, of: CaseComparison | SuiteComparison) -> dict[str, Any]:
    found: dict[str, Any] = {"speedup": of.speedup}
    for metric, column in METRIC_COLUMNS.items():
        one = result.judged(of, metric)
        if one is None:
            continue
        name = metric.replace("-", "_")
        found |= {
            f"{column}_base": one.base, f"{column}_new": one.new,
            f"{name}_ratio": one.ratio, f"{name}_ratio_low": one.interval.low, f"{name}_ratio_high": one.interval.high,
            f"{name}_ratio_systematic": one.systematic,
            f"{name}_ratio_total_low": one.total.low, f"{name}_ratio_total_high": one.total.high,
            f"{name}_verdict": one.verdict,
        }  # fmt: skip
    return found
