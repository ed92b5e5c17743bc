"""A fleet run as a page: how far boards of one type spread, which stand out, one type against another, every GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from flopwatt.analysis.boards.outliers import BOARDS_LEAST
from flopwatt.analysis.boards.reading import Board
from flopwatt.analysis.boards.spread import Kind
from flopwatt.analysis.comparing.comparison import CaseComparison, RunComparison
from flopwatt.analysis.report import fleet as words
from flopwatt.analysis.report.comparison_words import interval, share, times
from flopwatt.analysis.report.page.content import clean
from flopwatt.analysis.report.page.document import assembled, figure_data
from flopwatt.analysis.report.page.figure import (
    PALETTE,
    Figure,
    Spec,
    both,
    colour,
    dots,
    figure,
    form,
    linear_axis,
    rule,
)
from flopwatt.analysis.report.page.markup import Tag, join, tag
from flopwatt.analysis.report.page.sections import RATIOS, Section, plots, section, suite_card
from flopwatt.analysis.report.quantities import DASH, significant
from flopwatt.runs.account import Account

STRIP: Final = 46
"""Height of one type's row of points."""

OFF_LEAST: Final = 1.0
"""Percent that a strip shows to either side at the least: what boards hardly differ by shall not look like much."""

ODD: Final = ("as the others", "stands out")

CASES_MOST: Final = 30
"""GEMMs of a comparison that are listed one by one."""


@dataclass(frozen=True, slots=True)
class Against:
    """Two types of GPU over all their boards. result: None where nothing can be compared, and why says so."""

    base: str
    new: str
    result: RunComparison | None
    why: str = ""


def page(kinds: Sequence[Kind], against: Sequence[Against], account: Account | None, library: str, made: str) -> str:
    """The whole page as HTML. library: JavaScript that defines `vegaEmbed`; made: by what and when."""
    drawn = figures(kinds)
    body = [
        section("boards", "What a board gives", *(_spread_table(kind) for kind in kinds), _notes(kinds)),
        _against(against),
        section("outliers", "Boards that stand out", *_outliers(kinds)),
        plots("spread", "Board beside board", drawn),
        None if account is None else section("account", "What became of every GPU", *_account(account)),
    ]
    return assembled(
        title=title(kinds),
        banners=_banners(kinds),
        body=[part for part in body if part is not None],
        data=figure_data(drawn) | {"rows": 0, "columns": [], "traces": []},
        library=library,
        made=made,
    )


def title(kinds: Sequence[Kind]) -> str:
    """How many boards of which types."""
    counted = ", ".join(f"{len(kind.boards):,} × {clean(kind.name)}" for kind in kinds)
    return f"{counted}: boards of one type side by side"


def figures(kinds: Sequence[Kind]) -> list[Figure]:
    """Each metric as a strip of boards by type; then speed against watts."""
    strips = [_strip(metric, kinds) for metric in words.UNITS if any(metric in kind.spreads for kind in kinds)]
    both_known = [kind for kind in kinds if "power_w" in kind.spreads]
    return [*strips, *([_speed_by_watts(both_known)] if both_known else [])]


def _strip(metric: str, kinds: Sequence[Kind]) -> Figure:
    unit = words.UNITS[metric]
    values: list[Spec] = []
    for kind in kinds:
        spread = kind.spreads.get(metric)
        if spread is None:
            continue
        odd = {id(outlier.board) for outlier in kind.outliers}
        middle = float(np.median(spread.figures.values))
        for board, value in zip(spread.figures.boards, spread.figures.values.tolist(), strict=True):
            off = (value / middle - 1) * 100
            reached = f"{significant(value)} {unit}, {off:+.1f} % off the median"
            told = f"{clean(kind.name)}, board {clean(board.name)}: {reached}"
            values.append({"kind": clean(kind.name), "off": off, "odd": id(board) in odd, "t": told})
    kind_axis = {"field": "kind", "type": "nominal", "sort": None, "axis": {"title": None, "labelLimit": 260}}
    off_axis = _roomy(linear_axis("off", "% off the median", format="+.3~r"))
    if all(abs(value["off"]) < OFF_LEAST for value in values):
        off_axis["scale"] |= {"domain": [-OFF_LEAST, OFF_LEAST]}
    encoding = {"x": off_axis, "y": kind_axis}
    if any(value["odd"] for value in values):
        named = [value | {"odd": ODD[value["odd"]]} for value in values]
        values, encoding = named, encoding | both(colour("odd", None, ODD))
    else:
        encoding |= {name: {"value": PALETTE[0]} for name in ("stroke", "fill")}
    caption = f"Each point is one board's {unit} over the same GEMMs, against the median of its type."
    rows = len({value["kind"] for value in values})
    return figure(f"spread-{metric.replace('_', '-')}", f"{unit} of each board", caption, values,
                  [*rule("x", 0), dots(values, **encoding)], height=40 + STRIP * rows)  # fmt: skip


def _speed_by_watts(kinds: Sequence[Kind]) -> Figure:
    values: list[Spec] = []
    for kind in kinds:
        speeds = _by_board(kind, "tflops")
        odd = {id(outlier.board) for outlier in kind.outliers}
        for name, (board, watts) in _by_board(kind, "power_w").items():
            if name in speeds:
                speed = speeds[name][1]
                told = f"{clean(kind.name)}, board {clean(board.name)}: {significant(speed)} TFLOPS at {watts:.0f} W"
                values.append({
                    "w": watts, "y": speed, "kind": clean(kind.name), "odd": ODD[id(board) in odd], "t": told,
                })  # fmt: skip
    encoding = {
        "x": _roomy(linear_axis("w", "W", format=",.4~r")),
        "y": _roomy(linear_axis("y", "TFLOPS", format=",.4~r")),
        **both(colour("kind", None, (value["kind"] for value in values))),
        "shape": form("odd", None, ODD),
    }
    caption = "Each point is one board over the same GEMMs; the higher and the further left, the more TFLOPS per watt."
    return figure("speed-by-watts", "Speed by watts", caption, values, [dots(values, **encoding)])


def _roomy(axis: Spec) -> Spec:
    """The axis with room for a point at either end."""
    return axis | {"scale": axis["scale"] | {"padding": 14}}


def _by_board(kind: Kind, metric: str) -> dict[int, tuple[Board, float]]:
    found = kind.spreads[metric].figures if metric in kind.spreads else None
    if found is None:
        return {}
    return {id(board): (board, value) for board, value in zip(found.boards, found.values.tolist(), strict=True)}


def _spread_table(kind: Kind) -> Tag:
    rows = [
        tag("tr", tag("th", words.UNITS[metric], scope="row"), *(tag("td", cell) for cell in words.cells(spread)))
        for metric, spread in kind.spreads.items()
    ]
    missing = f", {len(kind.incomplete)} of them incomplete and not in it" if kind.incomplete else ""
    cases = max((spread.figures.cases for spread in kind.spreads.values()), default=0)
    what = f"{clean(kind.name)}, {len(kind.boards):,} boards{missing}: {cases} GEMMs, each by its count"
    return _table(("", *words.COLUMNS), rows, what)


def _table(head: Sequence[str], rows: Sequence[Tag], caption: str) -> Tag:
    header = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    table = tag("table", tag("caption", caption), header, tag("tbody", *rows))
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=f"{caption}, scrolls sideways")


def _notes(kinds: Sequence[Kind]) -> Tag:
    return tag("ul", *(tag("li", note) for note in words.notes(kinds)), class_="note")


def _outliers(kinds: Sequence[Kind]) -> Iterator[Tag]:
    found = [(kind, outlier) for kind in kinds for outlier in kind.outliers]
    few = [kind.name for kind in kinds if len(kind.boards) < BOARDS_LEAST]
    if few:
        yield tag(
            "p", clean(f"{', '.join(few)}: of fewer than {BOARDS_LEAST} boards nobody can tell which one is odd.")
        )
    if not found:
        if len(few) < len(kinds):
            yield tag("p", "None: every board is within the spread of its type.")
        return
    yield tag("ul", *(
        tag("li", clean(f"{kind.name}, {words.outlier_words(outlier)}.")) for kind, outlier in found
    ))  # fmt: skip


def _against(found: Sequence[Against]) -> Section | None:
    if not found:
        return None
    parts: list[Tag] = []
    for one in found:
        parts.append(tag("h3", f"{clean(one.new)} against {clean(one.base)}"))
        if one.result is None:
            parts.append(tag("p", f"Not compared: {clean(one.why)}.", class_="absent"))
            continue
        parts += [suite_card(one.result, suite) for suite in one.result.suites]
        if not one.result.suites:
            parts.append(_case_table(one.result))
        if one.result.boards is not None:
            base, new = one.result.boards
            sampled = (
                f"Boards are the sample: {base} of {one.base}, {new} of {one.new}. The 95 % hold what boards differ by."
            )
            parts.append(tag("p", clean(sampled), class_="note"))
    return section("against", "One type against another", *parts)


def _case_table(result: RunComparison) -> Tag:
    """The ratios of each GEMM, where no suite adds them up."""
    rows = [
        tag("tr", tag("th", clean(case.base.identity.label), scope="row"),
            *(tag("td", clean(_ratio(result, case, metric))) for metric in RATIOS))
        for case in result.cases[:CASES_MOST]
    ]  # fmt: skip
    left = len(result.cases) - len(rows)
    more = f"; {left:,} more: flopwatt compare lists them" if left else ""
    judged = [result.judged(case, "tflops-per-w") for case in result.cases]
    gains = max((found.systematic for found in judged if found is not None and found.systematic), default=None)
    besides = f"; the gains of their sensors add ± {share(gains)} to those of watts" if gains else ""
    return _table(("GEMM", *RATIOS.values()), rows, f"Every GEMM, with its 95 %{besides}{more}")


def _ratio(result: RunComparison, case: CaseComparison, metric: str) -> str:
    """A ratio with its interval."""
    found = result.judged(case, metric)
    if found is None:
        return DASH
    ends = interval(found.interval)
    return times(found.ratio) if ends == DASH else f"{times(found.ratio)} ({ends})"


def _account(account: Account) -> Iterator[Tag]:
    rows = [tag("tr", *(tag("td", clean(cell)) for cell in words.account_cells(gpu))) for gpu in account.gpus]
    yield tag("p", f"{words.total(account)}. {words.MODES[account.mode]}")
    yield _table(words.ACCOUNT_COLUMNS, rows, "Every GPU of the fleet run")


def _banners(kinds: Sequence[Kind]) -> Tag:
    names = dict.fromkeys(clean(kind.name) for kind in kinds if kind.origin == "simulated")
    if not names:
        return join()
    told = f"SIMULATED: no figure of {', '.join(names)} on this page was measured on a real GPU."
    return tag("p", told, class_="banner simulated", role="note")
