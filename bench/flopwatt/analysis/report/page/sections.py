"""The page's sections as HTML: banners, remarks, boards against each other, environment, methods."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from flopwatt.analysis.comparing.comparison import RunComparison
from flopwatt.analysis.comparing.totals import SuiteComparison
from flopwatt.analysis.report.comparison_words import interval, share
from flopwatt.analysis.report.page.between import Between, groups, nameplates, spread, without_watts
from flopwatt.analysis.report.page.content import Content, clean
from flopwatt.analysis.report.page.figure import Figure
from flopwatt.analysis.report.page.markup import Tag, join, tag
from flopwatt.analysis.report.page.methods import environments, paragraphs
from flopwatt.analysis.report.page.remarks import by_file, origin_banners, remarks
from flopwatt.analysis.report.page.traces import Trace
from flopwatt.analysis.report.quantities import DASH, significant

OPEN_MOST: Final = 4
"""Remarks of one file that are seen without opening the list."""

RATIOS: Final = {"tflops": "times as fast", "power": "times the watts", "tflops-per-w": "times the TFLOPS/W"}
"""What a reader is told of one side over another, by metric."""

TOTALS_MOST: Final = 6
"""Totals of suites with a card of their own."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page, to which its menu leads by name."""

    name: str
    title: str
    body: Tag


def section(name: str, title: str, *children: Tag | str | None) -> Section:
    """A section with its heading."""
    heading = tag("h2", title, id=f"{name}-title")
    return Section(name, title, tag("section", heading, *children, id=name, aria_labelledby=f"{name}-title"))


def banners(content: Content) -> Tag:
    """One line a foreign origin, which nobody can miss."""
    return join(*(tag("p", words, class_=f"banner {kind}", role="note") for kind, words in origin_banners(content)))


def remark_list(content: Content) -> Section:
    """What to know before believing, or that there is nothing."""
    found = remarks(content)
    files = [
        tag(
            "details",
            tag("summary", f"{name}: {len(told)} remark{'s' if len(told) > 1 else ''}"),
            _list(told),
            open=len(told) <= OPEN_MOST,
        )
        for name, told in by_file(content).items()
    ]
    body = _list(found) if found else None if files else tag("p", "Nothing stands out.")
    return section("remarks", "Before you believe it", body, *files)


def _list(sentences: Sequence[str]) -> Tag:
    return tag("ul", *(tag("li", words) for words in sentences))


def plot(figure: Figure) -> Tag:
    """The place of a figure, its caption, and a button that saves it."""
    return tag(
        "figure",
        tag("h3", figure.title),
        tag("div", class_="plot", id=f"plot-{figure.name}"),
        tag("figcaption", figure.caption, " ", tag("button", "Save PNG", type="button", data_save=figure.name)),
    )


def plots(name: str, title: str, found: Sequence[Figure | str]) -> Section:
    """A section of figures; in place of one that cannot be drawn stands why."""
    children = [plot(one) if isinstance(one, Figure) else tag("p", one, class_="absent") for one in found]
    return section(name, title, *children)


def trace_section(found: Sequence[Trace]) -> Section:
    """Raw readings of the chosen case."""
    if not found:
        why = "No file holds readings over time: only flopwatt's own runs on a device with a power sensor do."
        return section("over-time", "Power, clock and temperature over time", tag("p", why, class_="absent"))
    options = [tag("option", trace.name, value=str(place)) for place, trace in enumerate(found)]
    places = [tag("div", class_="plot trace") for _ in range(4)]
    caption = (
        "Readings as the driver gave them, one a poll. Dashed frame: the measured window. Shaded, and named in the "
        "strip at the bottom: what held the clock down. "
    )
    return section(
        "over-time",
        "Power, clock and temperature over time",
        tag("p", tag("label", "Case ", tag("select", *options, id="trace")), class_="choose"),
        tag("figure", tag("div", *places, id="traces"), tag("figcaption", caption, tag("span", id="trace-note"))),
    )


def against(content: Content, found: Sequence[Between], drawn: Sequence[Figure]) -> Section | None:
    """This GPU against that one; None where the files hold one board only."""
    if not found:
        return None
    children = [child for one in found for child in _pair(content, one)]
    return section("against", "This GPU against that one", *children, *(plot(figure) for figure in drawn))


def _pair(content: Content, one: Between) -> Iterator[Tag]:
    yield tag("h3", f"{one.new.label} against {one.base.label}")
    if one.result is None:
        yield tag("p", f"Not compared: {one.why}.", class_="absent")
    else:
        # Tables of unknown regime hold a few of a suite's GEMMs: a total of those would pass for a step's.
        suites = [suite for suite in one.result.suites if suite.key.regime != "unknown"]
        yield from (suite_card(one.result, suite) for suite in suites[:TOTALS_MOST])
        if len(suites) > TOTALS_MOST:
            yield tag("p", f"{len(suites) - TOTALS_MOST} more totals: flopwatt compare prints all.", class_="note")
        yield _group_table(one.result)
    for words in without_watts(content, (one.base, one.new)):
        yield tag("p", words, class_="unmeasured")
    yield from _nameplate(one)


def suite_card(result: RunComparison, suite: SuiteComparison) -> Tag:
    """The ratios of a suite's totals."""
    facts = []
    for metric, title in RATIOS.items():
        found = result.judged(suite, metric)
        if found is None:
            facts.append(
                tag("div", tag("dt", title), tag("dd", tag("b", DASH), tag("small", "no energy on both sides")))
            )
            continue
        ends = interval(found.interval)
        detail = [] if ends == DASH else [f"95 %: {ends}"]
        if found.systematic:
            detail.append(f"gains of the two sensors: ± {share(found.systematic)}")
        elif found.systematic is None:
            detail.append("gain of a sensor unknown")
        if metric != "power":
            detail.append(found.verdict)
        facts.append(
            tag(
                "div",
                tag("dt", title),
                tag("dd", tag("b", f"{significant(found.ratio)}×"), tag("small", "; ".join(detail))),
            )
        )
    left = f"; {suite.left_out} more on one side only" if suite.left_out else ""
    backends = " against ".join(dict.fromkeys(reversed(suite.backends)))
    words = f"{suite.key.suite}, {suite.dtype}, {suite.key.regime}, {suite.key.inputs} operands, by {backends}"
    what = f"{words}: {suite.cases} GEMM{'s' if suite.cases > 1 else ''} of one step, each by its count{left}"
    return tag("article", tag("p", clean(what), class_="what"), tag("dl", *facts), class_="card wide")


def _group_table(result: RunComparison) -> Tag:
    head = ("dtype", "backend", "regime", "operands", "cases", "times as fast", "times the TFLOPS/W")
    rows = [
        tag("tr", *(tag("td", cell) for cell in (
            group.dtype, group.backend, group.regime, group.inputs, f"{len(group.speedups):,}",
            spread(group.speedups), spread(group.per_watt),
        )))
        for group in groups(result)
    ]  # fmt: skip
    caption = "Geometric mean over the cases on both boards; in brackets the middle 80 % of them."
    only = f" On one board only: {len(result.only_base):,} and {len(result.only_new):,} cases."
    if not (result.only_base or result.only_new):
        only = ""
    header = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    return tag("div", tag("table", tag("caption", caption + only), header, tag("tbody", *rows)), class_="scroll")


def _nameplate(one: Between) -> Iterator[Tag]:
    if one.base.spec is None or one.new.spec is None:
        return
    found = [
        f"{dtype}: {significant(speed)}× the TFLOPS, {significant(per_watt)}× the TFLOPS/W"
        for dtype, speed, per_watt in nameplates(one.base.spec, one.new.spec)
    ]
    unsure = [spec.name for spec in (one.base.spec, one.new.spec) if spec.confidence == "unverified"]
    doubt = f" The published figures of {' and '.join(unsure)} are unverified." if unsure else ""
    if found:
        yield tag(
            "p",
            tag("b", "At nameplate"),
            " (published dense peak and board power, no measurement of either): " + "; ".join(found) + "." + doubt,
            class_="nameplate",
        )


def environment_section(content: Content) -> Section:
    """Machine and software of every segment."""
    parts = [
        tag("article", tag("h3", title), tag("dl", *(_fact(*fact) for fact in facts), class_="facts"), class_="card")
        for title, facts in environments(content)
    ]
    return section("environment", "Environment", tag("div", *parts, class_="cards"))


def _fact(name: str, value: str) -> Tag:
    return tag("div", tag("dt", name), tag("dd", value))


def methods_section(content: Content) -> Section:
    """The paragraph to paste."""
    text = [tag("p", paragraph) for paragraph in paragraphs(content)]
    copy = tag("button", "Copy", type="button", id="copy-methods")
    status = tag("span", id="copied", role="status")
    return section(
        "methods",
        "Methods",
        tag("p", "To paste into a paper: ", copy, " ", status),
        tag("blockquote", *text, id="methods-text"),
    )
