"""A figure: its words and its Vega-Lite specification, in colours and shapes that all readers can tell apart.

Vega-Lite, because one specification serves both outputs. vl-convert (a compiled wheel) carries the JavaScript that the
page needs to draw by itself, and writes PNG without a browser; drawing on canvas stays quick with ten thousand points;
and its expressions run in an interpreter, so that the page's content security policy allows no eval. Plotly's bundle is
five times as large, and its PNG needs a browser. Colours: Okabe and Ito, https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Spec: TypeAlias = dict[str, Any]

PALETTE: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, without the black and the yellow that vanish on a dark or a white page."""

SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")

INK: Final = {"ink": "#1c2024", "faint": "#6b7280", "grid": "#e3e5e8"}
"""The values of the parameters that the page changes for its dark theme."""

HEIGHT: Final = 340

CONFIG: Final[Spec] = {
    "background": None,
    "font": "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": {"expr": "ink"},
        "titleColor": {"expr": "ink"},
        "domainColor": {"expr": "faint"},
        "tickColor": {"expr": "faint"},
        "gridColor": {"expr": "grid"},
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelOverlap": True,
        "labelLimit": 260,
    },
    "legend": {
        "labelColor": {"expr": "ink"},
        "titleColor": {"expr": "ink"},
        "symbolBaseFillColor": {"expr": "ink"},
        "symbolBaseStrokeColor": {"expr": "ink"},
        "orient": "top",
        "direction": "horizontal",
        "columns": 3,
        "labelFontSize": 12,
        "labelLimit": 420,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "symbolLimit": 24,
        "layout": {"top": {"anchor": "start", "direction": "horizontal", "margin": 28}},
    },
    "title": {"color": {"expr": "ink"}, "subtitleColor": {"expr": "faint"}, "anchor": "start"},
    "text": {"color": {"expr": "ink"}},
}


@dataclass(frozen=True, slots=True)
class Figure:
    """name: of its file and its anchor; caption: what a reader sees in it; spec: Vega-Lite, its data inside.

    A point's datum holds `i`, the place of its case among the page's, and may hold `t`, words that come before it.
    """

    name: str
    title: str
    caption: str
    spec: Spec


def figure(
    name: str, title: str, caption: str, values: Sequence[Spec], layers: Sequence[Spec], height: int = HEIGHT
) -> Figure:
    """A figure of layers over one set of values."""
    spec = {
        "data": {"values": list(values)},
        "width": "container",
        "height": height,
        "description": f"{title}. {caption}",
        "params": [{"name": key, "value": colour} for key, colour in INK.items()],
        "layer": list(layers),
    }
    return Figure(name, title, caption, spec)


def log_axis(field: str, title: str, ends: tuple[float, float], format: str = "~g") -> Spec:
    """A logarithmic quantity. ends: of its domain."""
    scale: Spec = {"type": "log", "domain": list(ends), "nice": False}
    return {"field": field, "type": "quantitative", "scale": scale, "axis": {"title": title, "format": format}}


def linear_axis(field: str, title: str, zero: bool = False, format: str = "~g") -> Spec:
    """A linear quantity."""
    axis = {"title": title, "format": format}
    return {"field": field, "type": "quantitative", "scale": {"zero": zero}, "axis": axis}


def colour(field: str, title: str | None, names: Iterable[str]) -> Spec:
    """A nominal field in colour; its legend keeps the order of `names`."""
    domain = list(dict.fromkeys(names))
    chosen = [PALETTE[index % len(PALETTE)] for index in range(len(domain))]
    return {"field": field, "type": "nominal", "title": title, "scale": {"domain": domain, "range": chosen}}


def form(field: str, title: str | None, names: Iterable[str]) -> Spec:
    """A nominal field in the form of its points."""
    domain = list(dict.fromkeys(names))
    chosen = [SHAPES[index % len(SHAPES)] for index in range(len(domain))]
    return {"field": field, "type": "nominal", "title": title, "scale": {"domain": domain, "range": chosen}}


def filling(opacity: float = 0.8) -> Spec:
    """The regime `r` as filled points, or hollow ones for bursts."""
    return {"condition": {"test": "datum.r === 'burst'", "value": 0}, "value": opacity}


def both(by: Spec) -> dict[str, Spec]:
    """A colour for the edge of points and their inside, in one legend."""
    return {"stroke": by, "fill": by}


def dots(values: Sequence[Spec], **encoding: Spec) -> Spec:
    """Points with a hover. Smaller and fainter where there are many."""
    many = len(values) > 1500
    mark = {
        "type": "point", "size": 16 if many else 60, "strokeWidth": 1 if many else 1.5,
        "opacity": 0.55 if many else 0.95, "tooltip": True, "clip": True,
    }  # fmt: skip
    return {"mark": mark, "encoding": encoding}


def rule(axis: str, at: float, label: str | None = None) -> list[Spec]:
    """A dashed line across the figure at one value of an axis, with words beside it."""
    line: Spec = {
        "data": {"values": [{"at": at}]},
        "mark": {"type": "rule", "strokeDash": [5, 4], "color": {"expr": "faint"}},
        "encoding": {axis: {"field": "at", "type": "quantitative"}},
    }
    if label is None:
        return [line]
    text: Spec = {
        "data": {"values": [{"at": at, "label": label}]},
        "mark": {"type": "text", "align": "left", "dx": 4, "dy": -7, "color": {"expr": "faint"}},
        "encoding": {
            axis: {"field": "at", "type": "quantitative"},
            "x" if axis == "y" else "y": {"value": 0},
            "text": {"field": "label"},
        },
    }
    return [line, text]


def ends(numbers: Iterable[float], margin: float) -> tuple[float, float]:
    """The least and the largest of positive numbers, with room beyond them."""
    found = [number for number in numbers if number > 0 and math.isfinite(number)]
    return min(found) / margin, max(found) * margin


def distinct(values: Iterable[Spec], key: Callable[[Spec], object]) -> list[Spec]:
    """The first value of each key: a case that several suites use is one point."""
    found: dict[object, Spec] = {}
    for value in values:
        found.setdefault(key(value), value)
    return list(found.values())
