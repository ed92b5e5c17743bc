"""Prices of training runs as a page: what they take, figures against the number of GPUs, and what they rest on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from flopwatt.analysis.cost import validation
from flopwatt.analysis.cost.assumptions import Assumptions
from flopwatt.analysis.cost.pricing import Price
from flopwatt.analysis.report import cost
from flopwatt.analysis.report.page.document import assembled, figure_data
from flopwatt.analysis.report.page.figure import Figure, Spec, colour, ends, figure, linear_axis, log_axis
from flopwatt.analysis.report.page.markup import Tag, tag
from flopwatt.analysis.report.page.sections import plots, section

GROUPS: Final = {
    "GEMMs": ("gemm_forward", "gemm_input_grad", "gemm_weight_grad"),
    "attention": ("attention",),
    "recomputation, memory-bound, optimizer": ("recompute", "memory_bound", "optimizer"),
    "exposed communication": ("tensor_parallel", "pipeline_transfer", "data_parallel"),
    "pipeline bubble": ("pipeline_bubble",),
    "waiting and failures": ("host", "stragglers", "lost_to_failures"),
}
"""Parts of the GPU-hours as the figure groups them."""

DRAWN: Final = ("gpu_hours", "days", "facility_energy_mwh", "usd")
"""Quantities with a figure of their own."""


def page(prices: Sequence[Price], assumptions: Assumptions, library: str, made: str) -> str:
    """The whole page as HTML. library: JavaScript that defines `vegaEmbed`; made: by what and when."""
    first = prices[0]
    drawn = figures(prices)
    body = [
        section("price", "What it takes", *(tag("p", remark) for remark in cost.remarks(prices)), _totals(prices)),
        plots("figures", "Against the number of GPUs", drawn),
        section("assumptions", "What it rests on", _links(prices), _assumptions(prices, assumptions)),
        section("validation", "How far it was off where somebody measured", _validation()),
    ]
    return assembled(
        title=f"{first.model}: the price of training on {cost.tokens(first)}",
        banners=_banners(prices),
        body=body,
        data=figure_data(drawn) | {"rows": 0, "columns": [], "traces": []},
        library=library,
        made=made,
    )


def figures(prices: Sequence[Price]) -> list[Figure]:
    """One of each quantity that is known, with its range, and one of where the GPU-hours go."""
    return [
        *(_against(name, title, quantity, prices) for name, title, quantity in cost.QUANTITIES if name in DRAWN
          if any(quantity(price) for price in prices)),
        _parts(prices),
    ]  # fmt: skip


def _against(name: str, title: str, quantity: cost.Quantity, prices: Sequence[Price]) -> Figure:
    values: list[Spec] = []
    for price in prices:
        span = quantity(price)
        if span is not None:
            label = cost.gpu_name(price)
            words = f"{price.layout.gpus:,} × {label}: {cost.between(span)}; {price.layout.words()}"
            values.append(
                {"x": price.layout.gpus, "y": span.value, "low": span.low, "high": span.high, "gpu": label, "t": words}
            )
    x = log_axis("x", "GPUs", ends((one["x"] for one in values), 1.15), ",d")
    y = log_axis("y", title, ends((one[key] for one in values for key in ("low", "high")), 1.1), ",.3~s")
    by = colour("gpu", None, (one["gpu"] for one in values)) | {"legend": {"symbolOpacity": 1}}
    low, high = {"field": "low", "type": "quantitative"}, {"field": "high"}
    layers: list[Spec] = [
        {"mark": {"type": "area", "opacity": 0.15}, "encoding": {"x": x, "y": y | low, "y2": high, "color": by}},
        {"mark": {"type": "rule", "opacity": 0.5}, "encoding": {"x": x, "y": y | low, "y2": high, "color": by}},
        {"mark": {"type": "line"}, "encoding": {"x": x, "y": y, "color": by}},
        {
            "mark": {"type": "point", "filled": True, "size": 60, "tooltip": True},
            "encoding": {"x": x, "y": y, "color": by},
        },
    ]
    caption = (
        "Points and lines are what is expected; the bands, if every input stood at its good or its bad end at once."
    )
    return figure(name.replace("_", "-"), title[0].upper() + title[1:], caption, values, layers)


def _parts(prices: Sequence[Price]) -> Figure:
    values: list[Spec] = []
    for price in prices:
        whole = price.gpu_hours_total.value
        row = f"{price.layout.gpus:,} × {cost.gpu_name(price)}"
        for place, (group, names) in enumerate(GROUPS.items()):
            share = sum(price.gpu_hours[name].value for name in names) / whole
            values.append(
                {"run": row, "part": group, "share": share, "order": place, "t": f"{row}: {group} {share:.1%}"}
            )
    y = {"field": "run", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": 260}}
    layer: Spec = {
        "mark": {"type": "bar", "tooltip": True},
        "encoding": {
            "y": y,
            "x": linear_axis("share", "share of the GPU-hours", format="%")
            | {"stack": "zero", "scale": {"domain": [0, 1]}},
            "color": colour("part", None, GROUPS),
            "order": {"field": "order"},
        },
    }
    rows = len({one["run"] for one in values})
    caption = "Exposed communication is what no computation hides; failures hold restarts and checkpoints too."
    return figure("parts", "Where the GPU-hours go", caption, values, [layer], height=40 + 26 * rows)


def _totals(prices: Sequence[Price]) -> Tag:
    columns = [one for one in cost.QUANTITIES if any(one[2](price) for price in prices)]
    rows = (
        (
            f"{price.layout.gpus:,} × {cost.gpu_name(price)}",
            *(cost.between(quantity(price)) for _, _, quantity in columns),
            price.layout.words(),
        )
        for price in prices
    )
    return _table("Totals", ("GPUs", *(one[1] for one in columns), "layout"), rows)


def _assumptions(prices: Sequence[Price], assumptions: Assumptions) -> Tag:
    return _table("Assumptions", cost.ASSUMPTION_TITLES, cost.assumption_rows(prices, assumptions))


def _links(prices: Sequence[Price]) -> Tag:
    return _table("Links and servers", cost.LINK_TITLES, cost.link_rows(prices))


def _validation() -> Tag:
    rows = ((one.what, f"{one.rows}", f"{one.mape:.1f}", one.how) for one in validation.results())
    return _table("Validation", ("published steps", "rows", "mean error %", "predicted with"), rows)


def _table(label: str, titles: Iterable[str], rows: Iterable[Sequence[str]]) -> Tag:
    head = tag("tr", *(tag("th", title, scope="col") for title in titles))
    body = (tag("tr", tag("th", cells[0], scope="row"), *(tag("td", cell) for cell in cells[1:])) for cells in rows)
    return _scrolling(label, tag("table", tag("thead", head), tag("tbody", *body)))


def _scrolling(label: str, table: Tag) -> Tag:
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=f"{label}, scrolls sideways")


def _banners(prices: Sequence[Price]) -> Tag:
    names = dict.fromkeys(cost.gpu_name(price) for price in prices if price.unvalidated)
    words = "A model's prediction, not a measurement."
    if names:
        words += f" {', '.join(names)}: from the spec sheet, unvalidated."
    return tag("p", words, class_="banner imported", role="note")
