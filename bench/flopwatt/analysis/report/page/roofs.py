"""Every case under its roofline, as a share of the published peak, and per watt, over arithmetic intensity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from flopwatt.analysis.report.page.boards import Board
from flopwatt.analysis.report.page.content import Content
from flopwatt.analysis.report.page.figure import (
    Figure,
    Spec,
    both,
    colour,
    distinct,
    dots,
    ends,
    figure,
    filling,
    form,
    linear_axis,
    log_axis,
)
from flopwatt.analysis.report.page.table import intensity
from flopwatt.analysis.report.quantities import significant
from flopwatt.runs.tidy import Row

IDENTITY: Final = (
    "board", "m", "n", "k", "batch", "dtype", "out_dtype", "layout", "scaling", "backend", "config", "regime",
    "inputs", "cache",
)  # fmt: skip
"""Columns in which rows of several suites agree that are one case."""

INTENSITY: Final = "arithmetic intensity, FLOP/byte"


def figures(content: Content) -> Iterator[Figure | str]:
    """The three figures; of each that cannot be drawn, why."""
    if not _values(content.cases, "tflops"):
        yield "No case has a time: there is no roofline to draw."
        return
    yield _roofline(content)
    yield _peak(content)
    yield _per_watt(content)


def _values(cases: Sequence[Row], column: str) -> list[Spec]:
    """One value a GEMM that has the column: its place, intensity, figure, board, format, backend and regime."""
    found = [
        {
            "i": index, "x": intensity(row), "y": row[column], "board": row["board"], "dtype": row["dtype"],
            "backend": way(row), "r": row["regime"],
        }
        for index, row in enumerate(cases)
        if row["m"] is not None and row[column]
    ]  # fmt: skip
    return distinct(found, lambda value: tuple(cases[value["i"]][name] for name in IDENTITY))


def way(row: Row) -> str:
    """Backend and operands: GEMMs on zeros are faster and cheaper, and must not pass for others."""
    backend: str = row["backend"]
    return backend if row["inputs"] in ("normal", "unknown") else f"{backend} on {row['inputs']}"


def series(values: Sequence[Spec]) -> dict[str, Spec]:
    """Colour and form by what the values differ in: boards first, then formats, then backends."""
    fields = [("board", "board"), ("dtype", "format"), ("backend", "backend")]
    telling = [(field, title) for field, title in fields if len({value[field] for value in values}) > 1]
    first = telling[0] if telling else fields[0]
    second = telling[1] if len(telling) > 1 else first
    return {
        **both(colour(first[0], first[1], (value[first[0]] for value in values))),
        "shape": form(second[0], second[1], (value[second[0]] for value in values)),
        "fillOpacity": filling(),
    }


def told_by(values: Sequence[Spec]) -> str:
    """What the points are, where a legend would have one entry only."""
    names = {value["board"] for value in values}
    formats = {value["dtype"] for value in values}
    words = [next(iter(names))] if len(names) == 1 else []
    words += [next(iter(formats)) or ""] if len(formats) == 1 else []
    return f" {', '.join(words)}." if words else ""


def _roofline(content: Content) -> Figure:
    values = _values(content.cases, "tflops")
    roofs = _roofs(content.boards.values(), values)
    x = ends([value["x"] for value in values] + [roof["peak"] / roof["slope"] for roof in roofs], 1.6)
    lines = [point for roof in roofs for point in _line(roof, x)]
    y = ends([value["y"] for value in values] + [roof["peak"] for roof in roofs], 1.5)
    axes = {"x": log_axis("x", INTENSITY, x), "y": log_axis("y", "TFLOPS", y)}
    layers: list[Spec] = []
    if lines:
        layers = [
            {
                "data": {"values": lines},
                "mark": {"type": "line", "color": {"expr": "faint"}, "strokeWidth": 1.5, "clip": True},
                "encoding": {**axes, "detail": {"field": "name"}, "strokeDash": {"field": "name", "legend": None}},
            }
        ]
    layers.append(dots(values, **axes, **series(values)))
    if lines:
        layers.append(
            {
                "data": {"values": _labels(roofs, x)},
                "mark": {"type": "text", "align": "right", "dy": -8, "dx": -2, "fontWeight": "bold"},
                "encoding": {**axes, "text": {"field": "label"}},
            }
        )
    without = [board.label for board in content.boards.values() if board.spec is None]
    caption = (
        "Lines: published dense peak and memory bandwidth of the board. A point on the slope is bound by memory, one "
        "under the flat part by computing; filled points are sustained, hollow ones bursts." + told_by(values)
    )
    if without:
        caption += f" No published peak is known for {', '.join(without)}: drawn without a roof."
    return figure("roofline", "Roofline", caption, values, layers, height=400)


def _roofs(boards: Iterable[Board], values: Sequence[Spec]) -> list[Spec]:
    """One roof a published peak, formats of the same peak together."""
    formats: dict[str, set[str]] = defaultdict(set)
    for value in values:
        formats[value["board"]].add(value["dtype"])
    found: dict[tuple[str, float], Spec] = {}
    for board in boards:
        if board.spec is None:
            continue
        for dtype in sorted(formats[board.label]):
            peak = board.spec.peak_flop_per_s(dtype)
            if peak is None:
                continue
            roof = found.setdefault(
                (board.spec.name, peak),
                {"peak": peak * 1e-12, "slope": board.spec.mem_bytes_per_s * 1e-12, "of": board.spec.name, "in": []},
            )
            if dtype not in roof["in"]:
                roof["in"].append(dtype)
    for roof in found.values():
        roof["name"] = f"{roof['of']} {', '.join(roof.pop('in'))}"
        roof["label"] = f"{roof['name']}: {significant(roof['peak'])} TFLOPS"
    return list(found.values())


def _labels(roofs: Sequence[Spec], x: tuple[float, float]) -> list[Spec]:
    """The roofs' names at the right end, those of neighbours in height by turns further in."""
    ordered = sorted(roofs, key=lambda roof: float(roof["peak"]))
    inner = x[1] ** 0.66 * x[0] ** 0.34
    return [
        {"label": roof["label"], "x": inner if index % 2 else x[1], "y": roof["peak"]}
        for index, roof in enumerate(ordered)
    ]


def _line(roof: Spec, x: tuple[float, float]) -> list[Spec]:
    ridge = roof["peak"] / roof["slope"]
    places = [x[0], *([ridge] if x[0] < ridge < x[1] else []), x[1]]
    return [{"name": roof["name"], "x": at, "y": min(roof["peak"], roof["slope"] * at)} for at in places]


def _peak(content: Content) -> Figure | str:
    values = _values(content.cases, "peak_fraction")
    if not values:
        return "Share of peak: no published dense peak is known for these boards and formats."
    x = log_axis("x", INTENSITY, ends((value["x"] for value in values), 1.3))
    layers = [dots(values, x=x, y=_percent("y", "share of the dense peak"), **series(values))]
    caption = "Achieved rate over the board's published dense peak." + told_by(values)
    return figure("efficiency", "Share of peak by arithmetic intensity", caption, values, layers)


def _percent(field: str, title: str) -> Spec:
    return linear_axis(field, title, zero=True, format=".0%")


def _per_watt(content: Content) -> Figure | str:
    values = _values(content.cases, "tflops_per_w")
    if not values:
        return "TFLOPS per watt: no case has energy that could be believed; the remarks above say why."
    x = log_axis("x", INTENSITY, ends((value["x"] for value in values), 1.3))
    layers = [dots(values, x=x, y=linear_axis("y", "TFLOPS/W", zero=True), **series(values))]
    caption = "Sustained, whole-board watts, idle included. Bursts carry no watts." + told_by(values)
    return figure("per-watt", "TFLOPS per watt by arithmetic intensity", caption, values, layers)
