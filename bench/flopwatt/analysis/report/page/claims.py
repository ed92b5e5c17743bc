"""Public claims on the page: each with its verdict, the working folded away."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from flopwatt.analysis.claims.claim import Answer
from flopwatt.analysis.report.claims import numbered, origin, ranges
from flopwatt.analysis.report.page.content import clean
from flopwatt.analysis.report.page.markup import Tag, tag
from flopwatt.analysis.report.page.sections import Section, section

INTRODUCTION: Final = "What has been said in public, held against published figures and the files of this page."


def claims_section(answers: Sequence[Answer]) -> Section | None:
    """The section; None where no claims were asked for."""
    if not answers:
        return None
    return section(
        "claims",
        "Public claims",
        tag("p", INTRODUCTION, class_="note"),
        tag("div", _summary(answers), class_="scroll"),
        *(tag("article", *_card(one), class_="card wide", id=_anchor(one)) for one in answers),
    )


def _anchor(one: Answer) -> str:
    return f"claim-{one.claim.name}"


def _summary(answers: Sequence[Answer]) -> Tag:
    """Every claim in one line, each leading to its card."""
    rows = (
        tag(
            "tr",
            tag("td", tag("a", clean(one.claim.says), href=f"#{_anchor(one)}")),
            tag("td", one.implies),
            tag("td", ranges(one)),
            tag("td", tag("b", one.verdict.kind)),
        )
        for one in answers
    )
    return _table(("claim", "implies", "range found", "verdict"), rows)


def _table(heads: Iterable[str], rows: Iterable[Tag]) -> Tag:
    head = tag("tr", *(tag("th", one, scope="col") for one in heads))
    return tag("table", tag("thead", head), tag("tbody", *rows))


def _card(one: Answer) -> Iterator[Tag]:
    yield tag("h3", clean(one.claim.says))
    yield tag("p", f"{one.claim.source}; implies {one.implies}; range {ranges(one)}", class_="what")
    yield tag("p", tag("b", f"{one.verdict.kind}: "), clean(one.verdict.why), ".")
    if one.doubt is not None:
        yield tag("p", clean(f"But it {one.doubt}."), class_="note")
    for missing in one.missing:
        yield tag("p", clean(f"Measured: {missing}."), class_="note")
    yield tag("details", tag("summary", "Working"), tag("div", _working(one), class_="scroll"), _sources(one))


def _working(one: Answer) -> Tag:
    sources = numbered(one)
    findings = {finding.line: finding for finding in one.findings}
    rows = []
    for line in one.working:
        found = findings.get(line)
        name = clean(line.name)
        rows.append(
            tag(
                "tr",
                tag("td", tag("b", name) if found is not None and found.counts else name),
                tag("td", line.figure, class_="number"),
                tag("td", origin(line, sources)),
                tag("td", found.basis if found is not None else ""),
            )
        )
    return _table(("what", "figure", "from", "basis"), rows)


def _sources(one: Answer) -> Tag:
    return tag("ol", *(tag("li", clean(source)) for source in numbered(one)), class_="note")
