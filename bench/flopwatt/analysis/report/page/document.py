"""The page as one HTML text: template, style, scripts, data and the drawing library inside it, nothing outside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from flopwatt.analysis.calibrate.records import CalibrationFile
from flopwatt.analysis.claims.claim import Answer
from flopwatt.analysis.report.page import between, pairs, roofs, sections, tiles
from flopwatt.analysis.report.page.calibrated import Calibrated, calibrated, calibration_section
from flopwatt.analysis.report.page.claims import claims_section
from flopwatt.analysis.report.page.content import Content
from flopwatt.analysis.report.page.figure import CONFIG, INK, Figure
from flopwatt.analysis.report.page.markup import Tag, embedded, join, tag
from flopwatt.analysis.report.page.table import packed
from flopwatt.analysis.report.page.traces import Trace, traces

TEMPLATES: Final = "flopwatt.analysis.report.page"
SCRIPTS: Final = ("table.js", "charts.js", "page.js")


@dataclass(frozen=True, slots=True)
class Drawn:
    """All figures of a page; in place of one that cannot be drawn stands why."""

    compared: list[between.Between]
    against: list[Figure]
    limits: list[Figure | str]
    two_ways: list[Figure | str]
    traces: list[Trace]
    calibrated: list[Calibrated]

    @property
    def figures(self) -> list[Figure]:
        """Those that could be drawn, without the traces."""
        residuals = [figure for one in self.calibrated for figure in one.figures]
        every = (*self.against, *self.limits, *self.two_ways, *residuals)
        return [one for one in every if isinstance(one, Figure)]


def draw(content: Content, calibrations: Sequence[CalibrationFile] = ()) -> Drawn:
    """The figures of a page's content, and of calibrations to be shown beside it."""
    compared = between.betweens(content)
    return Drawn(
        compared=compared,
        against=list(between.figures(compared)),
        limits=list(roofs.figures(content)),
        two_ways=list(pairs.figures(content)),
        traces=traces(content),
        calibrated=calibrated(calibrations),
    )


def html(
    content: Content, drawn: Drawn, prices: tiles.Prices, library: str, made: str, claims: Sequence[Answer] = ()
) -> str:
    """The whole page. library: JavaScript that defines `vegaEmbed`; made: by what and when; claims: their answers."""
    parts = [
        sections.section("headline", "Headline", tiles.cards(content, prices)),
        sections.remark_list(content),
        sections.against(content, drawn.compared, drawn.against),
        sections.plots("limits", "Against the hardware's limits", drawn.limits),
        sections.plots("two-ways", "The same GEMM in two ways", drawn.two_ways),
        calibration_section(drawn.calibrated),
        sections.trace_section(drawn.traces),
        sections.section("cases", "All cases", Tag(_template("table.html"))),
        sections.environment_section(content),
        sections.methods_section(content),
        claims_section(claims),
    ]
    return assembled(
        title=_title(content),
        banners=sections.banners(content),
        body=[part for part in parts if part is not None],
        data=_data(content, drawn),
        library=library,
        made=made,
    )


def assembled(
    *, title: str, banners: Tag, body: Sequence[sections.Section], data: dict[str, Any], library: str, made: str
) -> str:
    """A page of sections. data: what its scripts read; library: JavaScript that defines `vegaEmbed`."""
    own = "\n".join(_template(name) for name in SCRIPTS)
    scripts = [_scoped(library), _scoped(own)]
    style = _template("page.css")
    return _filled(
        _template("page.html"),
        {
            "policy": Tag(_policy(scripts, style)),
            "title": title,
            "style": Tag(style),
            "banners": banners,
            "menu": tag("ul", *(tag("li", tag("a", one.title, href=f"#{one.name}")) for one in body)),
            "body": join(*(one.body for one in body)),
            "made": made,
            "data": Tag(embedded(data)),
            "library": Tag(scripts[0]),
            "scripts": Tag(scripts[1]),
        },
    )


def figure_data(figures: Sequence[Figure]) -> dict[str, Any]:
    """What the scripts need to draw figures."""
    return {"config": CONFIG, "light": INK, "figures": [{"name": one.name, "spec": one.spec} for one in figures]}


def _data(content: Content, drawn: Drawn) -> dict[str, Any]:
    return figure_data(drawn.figures) | {
        "rows": len(content.cases),
        "columns": packed(content.cases),
        "traces": [
            {"stride": trace.stride, "figures": [{"name": one.name, "spec": one.spec} for one in trace.figures]}
            for trace in drawn.traces
        ],
    }


def _title(content: Content) -> str:
    names = list(dict.fromkeys(board.label for board in content.boards.values()))
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}: GEMM speed and energy"


def _policy(scripts: Sequence[str], style: str) -> str:
    """Nothing may be fetched, and only these very scripts and this style may act."""
    allowed = " ".join(_digest(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_digest(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _scoped(script: str) -> str:
    """The script in a scope of its own, which cannot end its element early."""
    return f'"use strict";(() => {{{script}\n}})();'.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _template(name: str) -> str:
    return (files(TEMPLATES) / "template" / name).read_text(encoding="utf-8")


def _filled(template: str, parts: dict[str, str]) -> str:
    """The template with each {{name}} replaced once; what is put in is never searched again."""
    pieces = template.split("{{")
    out = [pieces[0]]
    for piece in pieces[1:]:
        name, rest = piece.split("}}", 1)
        out += [join(parts[name]), rest]
    return "".join(out)
