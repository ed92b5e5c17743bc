"""The same case done in two ways: by another backend, in another regime, on other operands."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Final

from flopwatt.analysis.report.page.content import Content
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
    linear_axis,
    log_axis,
    rule,
)
from flopwatt.analysis.report.page.roofs import IDENTITY, series, told_by, way
from flopwatt.analysis.report.page.table import half, shape
from flopwatt.analysis.report.quantities import significant
from flopwatt.runs.tidy import Row
from gemmkernels.backend import baseline

NAMED_MOST: Final = 36
"""Shapes that a figure names one by one; more are laid out by their size."""

Way = tuple[str, ...]
"""Columns in which the two of a pair may differ."""

METRICS: Final = (("tflops", "TFLOPS"), ("power_w", "watts"), ("tflops_per_w", "TFLOPS/W"))


def figures(content: Content) -> Iterator[Figure | str]:
    """The figures, in the page's order; of each that has no pairs, why."""
    yield _library(content)
    yield _regimes(content)
    yield _inputs(content)


def _grouped(cases: Sequence[Row], but: Way) -> Iterator[dict[int, Row]]:
    """The timed GEMMs that are alike in everything but some columns, by their place, one row a case."""
    alike = [name for name in IDENTITY if name not in but]
    groups: dict[tuple[Any, ...], dict[tuple[Any, ...], tuple[int, Row]]] = defaultdict(dict)
    for index, row in enumerate(cases):
        if row["m"] is not None and row["tflops"]:
            key = tuple(row[name] for name in alike)
            groups[key].setdefault(tuple(row[name] for name in but), (index, row))
    for group in groups.values():
        if len(group) > 1:
            yield dict(group.values())


def _library(content: Content) -> Figure | str:
    values = []
    for group in _grouped(content.cases, ("backend", "config")):
        if next(iter(group.values()))["inputs"] not in ("normal", "unknown"):
            continue
        library = next((row for row in group.values() if row["backend"] == baseline(row["dtype"])), None)
        if library is not None:
            values += [_speed(i, row, library) for i, row in group.items() if row is not library]
    if not values:
        return (
            "Ratio to cuBLAS: it needs the same case by PyTorch and by another backend: "
            "flopwatt run --backend torch --backend triton-tiled."
        )
    caption = (
        "Rate of each backend over that of PyTorch's library (cuBLAS on an NVIDIA GPU) on the same case; above 1 it is "
        "faster. Normal operands; filled points are sustained, hollow ones bursts. Bars: 95 % intervals, those of both "
        "in quadrature." + told_by(values)
    )
    return _by_shape("cublas", "Ratio to cuBLAS by shape", caption, values, "rate ÷ library's")


def _speed(index: int, row: Row, other: Row) -> Spec:
    ratio = row["tflops"] / other["tflops"]
    halves = half(row, "time_s"), half(other, "time_s")
    spread = math.hypot(*(one or 0.0 for one in halves))
    return {
        "i": index, "y": ratio, "low": ratio / (1 + spread), "high": ratio * (1 + spread), "flop": row["flop"],
        "shape": f"{shape(row)} {row['layout']}", "backend": row["backend"], "board": row["board"],
        "dtype": row["dtype"], "r": row["regime"], "lane": f"{row['board']} {row['backend']} {row['regime']}",
        "t": f"{significant(ratio)}× the rate of {other['backend']}",
    }  # fmt: skip


def _by_shape(name: str, title: str, caption: str, values: Sequence[Spec], quantity: str) -> Figure:
    """Ratios by shape, named where there are few, else over the size of the GEMM."""
    first = "board" if _several_boards(values) else "backend"
    by = colour(first, first, (value[first] for value in values))
    marks = {**series(values), **both(by)}
    marks["shape"] = form("backend", "backend", (value["backend"] for value in values))
    shapes = [value["shape"] for value in sorted(values, key=lambda value: value["flop"])]
    named = list(dict.fromkeys(shapes))
    ratio = linear_axis("y", quantity)
    ratio["axis"]["tickCount"] = 8
    if len(named) > NAMED_MOST:
        layers = [
            *rule("y", 1.0),
            dots(
                values,
                x=log_axis("flop", "FLOPs of the GEMM", ends((value["flop"] for value in values), 1.3), "~s"),
                y=ratio,
                **marks,
            ),
        ]
        return figure(name, title, caption, values, layers)
    place = {"field": "shape", "type": "nominal", "scale": {"domain": named}, "axis": {"title": None, "grid": True}}
    lanes = sorted({value["lane"] for value in values})
    beside = {"field": "lane", "type": "nominal", "scale": {"domain": lanes}}
    bars: Spec = {
        "mark": {"type": "rule"},
        "encoding": {
            "y": place,
            "x": {**ratio, "field": "low"},
            "x2": {"field": "high"},
            "stroke": by,
            "yOffset": beside,
        },
    }
    layers = [*rule("x", 1.0), bars, dots(values, y=place, yOffset=beside, x=ratio, **marks)]
    return figure(name, title, caption, values, layers, height=max(160, 26 * len(named)))


def _several_boards(values: Sequence[Spec]) -> bool:
    return len({value["board"] for value in values}) > 1


def _regimes(content: Content) -> Figure | str:
    values = []
    for group in _grouped(content.cases, ("regime",)):
        regimes = {row["regime"]: (index, row) for index, row in group.items()}
        if "burst" in regimes and "sustained" in regimes:
            (index, row), (_, burst) = regimes["sustained"], regimes["burst"]
            kept = row["tflops"] / burst["tflops"]
            values.append(
                {
                    "i": index, "x": burst["tflops"], "y": row["tflops"], "board": row["board"], "dtype": row["dtype"],
                    "backend": way(row), "r": "sustained", "t": f"sustained is {kept:.1%} of burst",
                }
            )  # fmt: skip
    if not values:
        return "Burst against sustained: no case was measured in both regimes (--regime burst --regime sustained)."
    span = ends([value[axis] for value in values for axis in "xy"], 1.1)
    equal: Spec = {
        "data": {"values": [{"x": at, "y": at} for at in span]},
        "mark": {"type": "line", "strokeDash": [5, 4], "color": {"expr": "faint"}, "clip": True},
        "encoding": {"x": log_axis("x", "TFLOPS, burst", span), "y": log_axis("y", "TFLOPS, sustained", span)},
    }
    layers = [equal, dots(values, **equal["encoding"], **series(values))]
    caption = (
        "A burst is 25 ms of load after rest, an upper bound; sustained is what power and heat let the board keep up. "
        "On the dashed line they are equal." + told_by(values)
    )
    return figure("regimes", "Burst against sustained", caption, values, layers)


def _inputs(content: Content) -> Figure | str:
    values = []
    for group in _grouped(content.cases, ("inputs",)):
        normal = next((row for row in group.values() if row["inputs"] == "normal"), None)
        if normal is None or normal["regime"] == "burst":
            continue
        for index, row in group.items():
            if row is not normal:
                values += [
                    _price(index, row, normal, *metric) for metric in METRICS if row[metric[0]] and normal[metric[0]]
                ]
    if not values:
        return "Price of data: no case was measured on more than one kind of operands (--inputs normal --inputs zeros)."
    metrics = [title for _, title in METRICS]
    by, marks = colour("metric", "quantity", metrics), form("metric", "quantity", metrics)
    if _several_boards(values):
        marks = form("board", "board", (value["board"] for value in values))
    kinds = sorted({value["inputs"] for value in values})
    x: Spec = {"field": "inputs", "type": "nominal", "sort": kinds, "axis": {"title": "operands", "labelAngle": 0}}
    points = dots(
        values, x=x, y=linear_axis("y", "÷ the same on normal operands"), shape=marks,
        **both(by), fillOpacity=filling(0.6),
        xOffset={"field": "metric", "type": "nominal", "sort": metrics},
    )  # fmt: skip
    caption = (
        "Sustained. What a GEMM costs depends on the bits it moves: each point is one GEMM on other operands over the "
        "same on random normals." + told_by(values)
    )
    return figure("inputs", "Price of data", caption, values, [*rule("y", 1.0), points])


def _price(index: int, row: Row, normal: Row, column: str, title: str) -> Spec:
    ratio = row[column] / normal[column]
    return {
        "i": index, "inputs": row["inputs"], "metric": title, "y": ratio, "board": row["board"], "dtype": row["dtype"],
        "t": f"{title}: {significant(ratio)}× that on normal operands",
    }  # fmt: skip
