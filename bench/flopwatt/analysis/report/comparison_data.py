"""A comparison for other programs: flat rows, and one JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, Final

from flopwatt.analysis.comparing.comparison import CaseComparison, RunComparison
from flopwatt.analysis.comparing.sides import CaseSide, Identity
from flopwatt.analysis.comparing.totals import SuiteComparison
from flopwatt.analysis.report.comparison_words import conclusion, notes
from flopwatt.runs.store import RunFile

METRIC_COLUMNS: Final = {
    "time": "time_s", "tflops": "tflops", "power": "power_w", "energy": "energy_j", "tflops-per-w": "tflops_per_w",
}  # fmt: skip
"""Tidy column of each metric; a comparison holds it as `_base` and `_new`."""

_SHARED: Final = tuple(name for name in Identity._fields if name != "backend")
KINDS: Final = {"suites": "suite", "cases": "case", "only_base": "only_base", "only_new": "only_new"}
"""Kind of a flat row by the name of its list in JSON."""

_SIDES: Final = ("backend", "config", "effort", "processes", "energy_status", "failure")


_SIDE_COLUMNS: Final = {side: tuple(f"{name}_{side}" for name in _SIDES) for side in ("base", "new")}

TEXT_COLUMNS: Final = (
    "suite", "dtype", "out_dtype", "layout", "scaling", "regime", "inputs", "cache", "origin",
    *(f"{name}_{side}" for name in _SIDES if name != "processes" for side in _SIDE_COLUMNS),
)  # fmt: skip
"""Columns of words, some of them whatever a file says."""


def _of_metric(metric: str, column: str) -> tuple[str, ...]:
    name = metric.replace("-", "_")
    ends = ("", "_low", "_high", "_systematic", "_total_low", "_total_high")
    return (f"{column}_base", f"{column}_new", *(f"{name}_ratio{end}" for end in ends), f"{name}_verdict")


_METRIC_COLUMNS: Final = {metric: _of_metric(metric, column) for metric, column in METRIC_COLUMNS.items()}

_BOTH_SIDES: Final = tuple(f"{name}_{side}" for name in _SIDES for side in _SIDE_COLUMNS)

COLUMNS: Final = (
    "kind", "suite", "cases", "left_out", "without_energy", *_SHARED, *_BOTH_SIDES, "speedup",
    *chain.from_iterable(_METRIC_COLUMNS.values()),
)  # fmt: skip
"""Columns of the flat rows. kind: `suite`, `case`, `only_base`, `only_new`. Ratios are NEW ÷ BASE: `_low`, `_high` are
statistical, `_total_*` with the sensors' gains; `_systematic` is the relative half-width that those add, null
where unknown."""


def rows(result: RunComparison) -> Iterator[dict[str, Any]]:
    """Totals, cases and the cases of one side only, each with the columns that it has of `COLUMNS`."""
    for name, found in rows_by_kind(result):
        kind = KINDS[name]
        for row in found:
            yield {"kind": kind, **row}


def rows_by_kind(result: RunComparison) -> Iterator[tuple[str, Iterator[dict[str, Any]]]]:
    """The same rows under the names that JSON has for their kinds, and made as they are asked for."""
    yield "suites", (_suite_row(result, suite) for suite in result.suites)
    yield "cases", (_case_row(result, case) for case in result.cases)
    yield "only_base", (_lone_row(side, "base") for side in result.only_base)
    yield "only_new", (_lone_row(side, "new") for side in result.only_new)


def facts(result: RunComparison, fail_on: str) -> dict[str, Any]:
    """What JSON says of the comparison besides its rows: both sides, options, notes, conclusion, exit code."""
    return {
        "base": [_run(run) for run in result.base],
        "new": [_run(run) for run in result.new],
        "metric": result.options.metric,
        "threshold": result.options.threshold,
        "mixed": list(result.options.mixed),
        "boards": result.boards,
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
        "suite": key.suite, "cases": suite.cases, "left_out": suite.left_out,
        "without_energy": suite.without_energy, "dtype": suite.dtype, "regime": key.regime, "inputs": key.inputs,
        "cache": key.cache, "origin": key.origin, "flop": suite.flop,
        "backend_base": suite.backends[0], "backend_new": suite.backends[1], **_metrics(result, suite),
    }  # fmt: skip


def _case_row(result: RunComparison, case: CaseComparison) -> dict[str, Any]:
    base, new = case.base.identity, case.new.identity
    shared = {
        name: one if one == other else f"{one} -> {other}"
        for name, one, other in zip(Identity._fields, base, new, strict=True)
        if name != "backend"
    }
    suites = sorted({use.suite for side in (case.base, case.new) for use in side.uses})
    return {
        "suite": " | ".join(suites) or None, **shared,
        **_side(case.base, "base"), **_side(case.new, "new"), **_metrics(result, case),
    }  # fmt: skip


def _lone_row(side: CaseSide, name: str) -> dict[str, Any]:
    shared = side.identity._asdict()
    del shared["backend"]
    return {**shared, **_side(side, name)}


def _side(side: CaseSide, name: str) -> dict[str, Any]:
    return dict(zip(_SIDE_COLUMNS[name], _side_values(side), strict=True))


def _side_values(side: CaseSide) -> tuple[Any, ...]:
    processes = len({sample.process for sample in side.timed})
    statuses = {sample.energy_status for sample in side.samples}
    energy_status = " | ".join(sorted(statuses)) if len(statuses) > 1 else next(iter(statuses))
    return side.identity.backend, side.config, side.effort, processes, energy_status, side.failure


def _metrics(result: RunComparison, of: CaseComparison | SuiteComparison) -> dict[str, Any]:
    found: dict[str, Any] = {"speedup": of.speedup}
    for metric, columns in _METRIC_COLUMNS.items():
        one = result.judged(of, metric)
        if one is not None:
            values = (
                one.base, one.new, one.ratio, one.interval.low, one.interval.high, one.systematic,
                one.total.low, one.total.high, one.verdict,
            )  # fmt: skip
            found.update(zip(columns, values, strict=True))
    return found
