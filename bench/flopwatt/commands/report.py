"""`flopwatt report`: run files as one self-contained page, and its figures as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flopwatt.analysis.calibrate.files import load_calibration
from flopwatt.analysis.claims.answering import answers
from flopwatt.analysis.claims.evidence import Evidence
from flopwatt.analysis.report.page import plotting, prices
from flopwatt.analysis.report.page.content import Content, gather
from flopwatt.analysis.report.page.document import Drawn, draw, html
from flopwatt.analysis.report.page.figure import Figure
from flopwatt.analysis.report.page.traces import stacked
from flopwatt.commands import pages
from flopwatt.commands.data import once
from flopwatt.errors import InputError
from flopwatt.runs.collector import paused_collector
from flopwatt.runs.store import read
from flopwatt.text import printable


def report(
    files: Sequence[Path],
    output: Path,
    png: Path | None,
    price: Sequence[str],
    console: Console,
    claims: bool = False,
    calibrations: Sequence[Path] = (),
) -> int:
    """Writes the page, and the figures where a folder is given. claims: whether public claims are held against it.

    calibrations: files whose held-out errors it shows. Raises InputError, RunFileError or CalibrationError.
    """
    asked = prices.parse(price)
    pages.check(output)
    with paused_collector():
        runs = [read(path) for path in once(files)]
        if not any(run.records for run in runs):
            raise InputError(f"{files[0]}: no record in these files: give a run that measured something")
        content = gather(runs)
        by_board = prices.resolve(asked, list(content.boards.values()))
        drawn = draw(content, [load_calibration(path).file for path in once(calibrations)])
        answered = answers(Evidence(runs)) if claims else ()
        page = html(content, drawn, by_board, plotting.library(), pages.made(), answered)
        if png is not None:
            pages.make_folder(png)
        pages.write(output, page.encode())
        lines = [f"{output}: {len(content.cases):,} cases, {len(page.encode()) / 1e6:.1f} MB"]
        if png is not None:
            figures = _figures(drawn)
            pages.write_figures(png, figures, _subtitle(content))
            lines.append(f"{png}: {len(figures)} figures")
    for line in lines:
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
    return 0


def _figures(drawn: Drawn) -> list[Figure]:
    """All of the page, a trace's as one above the other."""
    return drawn.figures + [stacked(trace, place) for place, trace in enumerate(drawn.traces) if trace.figures]


def _subtitle(content: Content) -> str:
    origins = ", ".join(origin for origin in content.origins if origin != "measured")
    return f"flopwatt; {origins}, not measured by flopwatt" if origins else "flopwatt"
