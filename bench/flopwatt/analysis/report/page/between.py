"""This GPU against that one: the comparison of every later board with the first, and what nameplates promise."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import geometric_mean, quantiles
from typing import Final

from flopwatt.analysis.comparing.comparison import CaseComparison, RunComparison, compare
from flopwatt.analysis.comparing.sides import Identity, part_of
from flopwatt.analysis.report.page.boards import Board, BoardKey
from flopwatt.analysis.report.page.content import Content, clean
from flopwatt.analysis.report.page.figure import (
    Figure,
    Spec,
    both,
    colour,
    dots,
    ends,
    figure,
    filling,
    form,
    log_axis,
    rule,
)
from flopwatt.analysis.report.quantities import significant
from flopwatt.errors import InputError
from flopwatt.runs.gpus import GpuSpec
from flopwatt.runs.store import RunFile

POINTS_MOST: Final = 4000
"""Pairs that the figure holds; of more, every second, third, …"""

SPREAD_LEAST: Final = 10
"""Cases from which on the middle 80 % of their ratios are told."""

DTYPES: Final = ("fp32", "tf32", "bf16", "fp16", "fp8_e4m3", "int8")


@dataclass(frozen=True, slots=True)
class Between:
    """Two boards of one origin. result: None where nothing can be compared, and why says so."""

    base: Board
    new: Board
    result: RunComparison | None
    why: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """The pairs of one format, backend, regime and inputs: base time ÷ new time, new TFLOPS/W ÷ base TFLOPS/W."""

    dtype: str
    backend: str
    regime: str
    inputs: str
    speedups: tuple[float, ...]
    per_watt: tuple[float, ...]


def betweens(content: Content) -> list[Between]:
    """Every board held against the first one of its origin; boards of two origins are not compared."""
    first: dict[str, Board] = {}
    found = []
    for board in content.boards.values():
        base = first.setdefault(board.key.origin, board)
        if board is not base:
            found.append(_between(content, base, board))
    if len(first) > 1:
        boards = list(first.values())
        why = "their results differ in origin, and results of two origins are not held against each other here"
        found += [Between(boards[0], board, None, why) for board in boards[1:]]
    return found


def _between(content: Content, base: Board, new: Board) -> Between:
    try:
        return Between(base, new, compare(_on(content, base), _on(content, new)), None)
    except InputError as error:
        return Between(base, new, None, clean(str(error)))


def _on(content: Content, board: Board) -> list[RunFile]:
    return [part for run in content.runs if (part := _of(run, board.key)) is not None]


def _of(run: RunFile, key: BoardKey) -> RunFile | None:
    """The part of a run that was done on a board; None where there is none."""
    if run.header.origin != key.origin:
        return None
    return part_of(run, lambda segment: (segment.environment.gpu, segment.board_id) == key[1:], lambda _: True)


def groups(result: RunComparison) -> list[Group]:
    """The compared cases by what must not be averaged over."""
    speed: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    watts: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for case in result.cases:
        key = _group(case.base.identity)
        if case.speedup:
            speed[key].append(case.speedup)
        if per_watt := case.ratio("tflops-per-w"):
            watts[key].append(per_watt.value)
    return [Group(*key, tuple(speed[key]), tuple(watts[key])) for key in speed]


def _group(one: Identity) -> tuple[str, str, str, str]:
    return one.dtype or "mixed", clean(one.backend), one.regime, clean(one.inputs)


def spread(ratios: Sequence[float]) -> str:
    """The geometric mean of ratios, and the middle 80 % of them in brackets where there are enough."""
    if not ratios:
        return "–"
    mean = f"{significant(geometric_mean(ratios))}×"
    if len(ratios) < SPREAD_LEAST:
        return mean
    tenths = quantiles(ratios, n=10, method="inclusive")
    return f"{mean} ({significant(tenths[0])}–{significant(tenths[-1])})"


def without_watts(content: Content, boards: Sequence[Board]) -> list[str]:
    """One sentence for each board whose watts nobody has measured, in the files at hand."""
    with_watts = {row["board"] for row in content.cases if row["power_w"] is not None}
    told = []
    for board in boards:
        if board.label not in with_watts:
            told.append(f"{board.name} watts unmeasured: these files hold no watts of it that could be believed.")
        elif not board.measured:
            told.append(f"{board.name} watts unmeasured: those shown are {board.key.origin}.")
    return told


def nameplates(base: GpuSpec, new: GpuSpec) -> Iterator[tuple[str, float, float]]:
    """Formats both makers publish: ratio of dense peaks, and of dense peak ÷ board power. No measurement of either."""
    alike: dict[float, list[str]] = defaultdict(list)
    for dtype in DTYPES:
        old, peak = base.peak_flop_per_s(dtype), new.peak_flop_per_s(dtype)
        if old and peak:
            alike[round(peak / old, 6)].append(dtype)
    for speed, dtypes in alike.items():
        yield ", ".join(dtypes), speed, speed * base.tdp_w / new.tdp_w


def figures(found: Sequence[Between]) -> Iterator[Figure]:
    """Speed and, where both sides have watts, TFLOPS/W of each board over the first, by the size of the GEMM."""
    values = [value for one in found if one.result is not None for value in _values(one, one.result)]
    for name, title, field in (
        ("speedup", "Times as fast, by size of the GEMM", "speed"),
        ("watt-gain", "Times the TFLOPS per watt, by size of the GEMM", "watt"),
    ):
        shown = [value for value in values if value[field]]
        if shown:
            yield _figure(name, title, field, shown)


def _figure(name: str, title: str, field: str, values: Sequence[Spec]) -> Figure:
    shown = values[:: -(-len(values) // POINTS_MOST)]
    by = colour("pair", "boards", (value["pair"] for value in values))
    encoding = {
        "x": log_axis("flop", "FLOPs of the GEMM", ends((value["flop"] for value in values), 1.3), "~s"),
        "y": log_axis(field, "new ÷ base", ends([1.0, *(value[field] for value in values)], 1.1)),
        **both(by), "shape": form("series", "format, backend", (value["series"] for value in values)),
        "fillOpacity": filling(0.5),
    }  # fmt: skip
    left = f" {len(shown):,} of {len(values):,} pairs are drawn." if len(shown) < len(values) else ""
    caption = f"Each point is one GEMM on both boards; above 1 the newer one does better.{left}"
    return figure(name, title, caption, shown, [*rule("y", 1.0), dots(shown, **encoding)], height=260)


def _values(one: Between, result: RunComparison) -> Iterator[Spec]:
    for case in result.cases:
        if case.speedup and math.isfinite(case.speedup):
            per_watt = case.ratio("tflops-per-w")
            yield {
                "flop": case.base.identity.flop, "speed": case.speedup, "watt": per_watt.value if per_watt else None,
                "r": case.base.identity.regime,
                "pair": f"{one.new.label} ÷ {one.base.label}", "series": _series(case),
                "t": f"{clean(case.base.identity.label)}: {significant(case.speedup)}× as fast"
                + (f", {significant(per_watt.value)}× the TFLOPS/W" if per_watt else ""),
            }  # fmt: skip


def _series(case: CaseComparison) -> str:
    dtype, backend, regime, _ = _group(case.base.identity)
    return f"{dtype} {backend}" + ("" if regime in ("sustained", "unknown") else f" {regime}")
