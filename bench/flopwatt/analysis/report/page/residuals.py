"""How far a calibration's predictions of shapes held out are off: over size, by format, and by (N, K) site."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flopwatt.analysis.calibrate.core import Array
from flopwatt.analysis.calibrate.points import make_shapes
from flopwatt.analysis.calibrate.records import CalibrationFile, Fitted
from flopwatt.analysis.calibrate.validation import SIZES_GFLOP, size_class
from flopwatt.analysis.report.calibration_words import name_of
from flopwatt.analysis.report.page.figure import Figure, Spec, both, colour, dots, ends, figure, linear_axis, log_axis
from flopwatt.analysis.report.page.figure import rule as line
from flopwatt.analysis.report.quantities import seconds, significant

POINTS_MOST: Final = 6000
"""Points of one figure; of more, a sample even over size."""

FRAME: Final = 0.995
"""Share of the residuals that the frame holds: a few far ones would flatten all others."""

FRAME_LEAST: Final = 0.10
QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """One quantity of one format: shapes in FLOP, and predicted over measured less one [points].

    words: of each point, for its hover.
    """

    dtype: str
    flop: Array
    size: Array
    off: Array
    words: Sequence[str]


def figures(file: CalibrationFile, number: int) -> Iterator[Figure]:
    """The figures of one calibration. number: of it on the page, which keeps their names apart."""
    for quantity, unit in (("time", "s"), ("power", "W")):
        found = [one for fitted in file.fitted if (one := _held_out(fitted, unit)) is not None]
        if found:
            yield _over_size(file, found, quantity, number)
            yield _by_format(file, found, quantity, number)
    if any(fitted.errors_time is not None for fitted in file.fitted):
        yield _by_site(file, number)


def size_name(least_gflop: float) -> str:
    """A size class of validation in words, from its lower end."""
    place = SIZES_GFLOP.index(least_gflop)
    if place == 0:
        return f"< {SIZES_GFLOP[1]:g}"
    if place == len(SIZES_GFLOP) - 1:
        return f"≥ {SIZES_GFLOP[place]:g}"
    return f"{SIZES_GFLOP[place]:g}–{SIZES_GFLOP[place + 1]:g}"


def _held_out(one: Fitted, unit: str) -> HeldOut | None:
    measured, predicted = (one.measured_s, one.held_out_s) if unit == "s" else (one.measured_w, one.held_out_w)
    known = [
        (shape, layout, was, said)
        for shape, layout, was, said in zip(one.shapes, one.layouts, measured, predicted, strict=True)
        if was is not None and said is not None
    ] if measured else []  # fmt: skip
    if not known or one.errors_time is None:
        return None
    batch, m, n, k = (np.array(size, dtype=float) for size in zip(*(row[0] for row in known), strict=True))
    shapes = make_shapes(m, n, k, batch, one.dtype)
    off = np.array([said / was - 1 for _, _, was, said in known])
    words = [
        f"{_shape(shape)} {one.dtype} {layout}: predicted {_written(said, unit)}, measured {_written(was, unit)} "
        f"({said / was - 1:+.1%})"
        for shape, layout, was, said in known
    ]
    return HeldOut(one.dtype, shapes.flop, size_class(shapes), off, words)


def _shape(shape: tuple[int, int, int, int]) -> str:
    batch, *sizes = shape
    return ("" if batch == 1 else f"{batch}× ") + "×".join(map(str, sizes))


def _written(value: float, unit: str) -> str:
    return seconds(value) if unit == "s" else f"{significant(value)} W"


def _over_size(file: CalibrationFile, found: Sequence[HeldOut], quantity: str, number: int) -> Figure:
    every = np.concatenate([one.off for one in found])
    frame = max(float(np.quantile(np.abs(every), FRAME)), FRAME_LEAST) * 1.05
    step = max(1, -(-len(every) // POINTS_MOST))
    values = []
    for one in found:
        rows = np.argsort(one.flop, kind="stable")[::step].tolist()
        values += [
            {"x": one.flop[row] * 1e-9, "y": round(float(one.off[row]), 5), "dtype": one.dtype, "t": one.words[row]}
            for row in rows
        ]
    y = linear_axis("y", f"predicted ÷ measured {quantity} − 1", format="+.0%")
    y["scale"] |= {"domain": [-frame, frame], "nice": False}
    by = colour("dtype", "format", (one.dtype for one in found))
    layers = [
        *line("y", 0.0),
        dots(values, x=log_axis("x", "GFLOP", ends((value["x"] for value in values), 1.5)), y=y, **both(by)),
    ]
    outside = int((np.abs(every) > frame).sum())
    caption = (
        f"{name_of(file)}: each shape as predicted by a fit that had seen none of its (N, K) site, against what was "
        "measured."
    )
    if step > 1:
        caption += f" {len(values):,} of {len(every):,} shapes, evenly over size."
    if outside:
        caption += f" {outside:,} lie beyond the frame."
    return figure(f"residuals-{quantity}-{number}", f"Residuals of {quantity} over size", caption, values, layers)


def _by_format(file: CalibrationFile, found: Sequence[HeldOut], quantity: str, number: int) -> Figure:
    values = []
    for one in found:
        for place in np.unique(one.size).tolist():
            part = one.off[one.size == place]
            low, lower, middle, upper, high = (round(float(q), 5) for q in np.quantile(part, QUANTILES))
            words = (
                f"{one.dtype}, {size_name(SIZES_GFLOP[place])} GFLOP, {len(part):,} shapes: median {middle:+.1%}, half "
                f"of them within {lower:+.1%} to {upper:+.1%}, nine tenths within {low:+.1%} to {high:+.1%}"
            )
            values.append(
                {
                    "size": size_name(SIZES_GFLOP[place]), "dtype": one.dtype, "low": low, "lower": lower,
                    "middle": middle, "upper": upper, "high": high, "t": words,
                }
            )  # fmt: skip
    sizes = [size_name(least) for least in SIZES_GFLOP]
    x: Spec = {
        "field": "size", "type": "ordinal", "axis": {"title": "GFLOP", "labelAngle": 0},
        "scale": {"domain": [size for size in sizes if any(value["size"] == size for value in values)]},
    }  # fmt: skip
    beside: Spec = {"field": "dtype", "type": "nominal", "scale": {"domain": [one.dtype for one in found]}}
    by = colour("dtype", "format", (one.dtype for one in found))
    title = f"predicted ÷ measured {quantity} − 1"

    def mark(kind: str, start: str, end: str | None, **how: object) -> Spec:
        y = linear_axis(start, title, format="+.0%")
        encoding = {"x": x, "xOffset": beside, "y": y, "color": by}
        if end is not None:
            encoding["y2"] = {"field": end}
        return {"mark": {"type": kind, "tooltip": True, **how}, "encoding": encoding}

    width: Spec = {"band": 0.6}
    layers = [
        mark("bar", "lower", "upper", opacity=0.45, width=width),
        mark("rule", "low", "high", strokeWidth=1.5),
        mark("tick", "middle", None, thickness=3, width=width, orient="horizontal"),
        *line("y", 0.0),
    ]
    caption = f"{name_of(file)}: median, half and nine tenths of the residuals of each size and format."
    return figure(
        f"residual-spread-{quantity}-{number}", f"Residuals of {quantity} by size and format", caption, values, layers
    )


def _by_site(file: CalibrationFile, number: int) -> Figure:
    validated = [(one.dtype, one.errors_time.by_site) for one in file.fitted if one.errors_time is not None]
    sites = [(site, dtype) for dtype, found in validated for site in found]
    values: list[Spec] = [
        {
            "x": site.n, "y": site.k, "mape": site.mape / 100, "dtype": dtype,
            "t": f"N = {site.n}, K = {site.k}, {dtype}: {site.mape:.1f} % off in the mean of {site.count:,} shapes, "
                 f"{site.coverage:.0%} inside their 95 % interval",
        }
        for site, dtype in sites
    ]  # fmt: skip
    area: Spec = {
        "field": "mape", "type": "quantitative", "title": "mean absolute error",
        "scale": {"type": "linear", "range": [8, 500], "zero": True}, "legend": {"format": ".0%", "columns": 6},
    }  # fmt: skip
    axes = {
        "x": log_axis("x", "N", ends((value["x"] for value in values), 1.3), "~s"),
        "y": log_axis("y", "K", ends((value["y"] for value in values), 1.3), "~s"),
    }
    caption = (
        f"{name_of(file)}: each dot is one (N, K), the larger the further off its shapes were, predicted by a fit "
        "that had seen none of them."
    )
    by = colour("dtype", "format", (dtype for dtype, _ in validated))
    layers = [dots(values, **axes, **both(by), size=area, fillOpacity={"value": 0.35})]
    return figure(f"residual-sites-{number}", "Error of time by (N, K) site", caption, values, layers, height=400)
