"""Claims and their verdicts on a terminal: each with its working, and the sources of all its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from flopwatt.analysis.claims.amount import UNITS, span
from flopwatt.analysis.claims.claim import Answer, Kind
from flopwatt.analysis.claims.working import Line
from flopwatt.text import printable

STYLES: Final[dict[Kind, str]] = {
    "supported": "bold green",
    "not supported": "bold red",
    "depends": "bold yellow",
    "not measurable here": "bold",
}


def show(answers: Sequence[Answer], console: Console) -> None:
    """Prints all claims in one table, then each with its working and its sources."""
    console.print(_summary(answers))
    for position, one in enumerate(answers, start=1):
        console.print()
        for part in _parts(position, one):
            console.print(part)


def _summary(answers: Sequence[Answer]) -> Table:
    title = "Public claims held against published figures and the files given"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name, most in (("", None), ("claim", None), ("implies", 18), ("range found", 18), ("verdict", 14)):
        table.add_column(name, max_width=most)  # 20 columns are left for a claim where the terminal has 80
    for position, one in enumerate(answers, start=1):
        cells = (printable(one.claim.says), printable(one.implies), ranges(one))
        table.add_row(str(position), *map(Text, cells), Text(one.verdict.kind, style=STYLES[one.verdict.kind]))
    return table


def _parts(position: int, one: Answer) -> Iterator[RenderableType]:
    yield Text.assemble(f"{position}. ", (printable(one.claim.says), "bold"), f"  ({printable(one.claim.source)})")
    told = Table.grid(padding=(0, 2))
    told.add_row("implies", Text(printable(one.implies)))
    told.add_row("range", Text(ranges(one)))
    kind = one.verdict.kind
    told.add_row("verdict", Text.assemble((kind, STYLES[kind]), f": {printable(one.verdict.why)}"))
    if one.doubt is not None:
        told.add_row("but", Text(printable(one.doubt), style="yellow"))
    for missing in one.missing:
        told.add_row("measured", Text(printable(missing)))
    yield _indented(told)
    yield ""
    yield _indented(_working(one))
    yield ""
    for source, number in numbered(one).items():
        yield _indented(Text(f"[{number}] {printable(source)}", style="dim"))


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))


def _working(one: Answer) -> Table:
    """Inputs with the number of their source, steps with their arithmetic; findings stand out."""
    sources = numbered(one)
    findings = {finding.line: finding for finding in one.findings}
    table = Table.grid(padding=(0, 2))
    for line in one.working:
        found = findings.get(line)
        style = "bold" if found is not None and found.counts else ""
        table.add_row(
            Text(printable(line.name), style=style),
            Text(line.figure, style=style),
            Text(origin(line, sources)),
            Text(found.basis if found is not None else "", style="cyan"),
        )
    return table


def origin(line: Line, sources: Mapping[str, int]) -> str:
    """What a line of the working is from: the number of its source or its arithmetic, and whether that was checked."""
    how = line.expression if line.source is None else f"[{sources[line.source]}]"
    return f"{how}{'' if line.verified else ', unverified'}"


def ranges(one: Answer) -> str:
    """What the findings that count span, unit by unit."""
    return "; ".join(span(low * UNITS[unit], high * UNITS[unit], unit) for unit, (low, high) in one.ranges.items())


def numbered(one: Answer) -> dict[str, int]:
    """The sources of a working, numbered in the order in which they occur."""
    found = dict.fromkeys(line.source for line in one.working if line.source is not None)
    return {source: number for number, source in enumerate(found, start=1)}
