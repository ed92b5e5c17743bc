"""`flopwatt report`: run files as one self-contained page, and its figures as PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from flopwatt import __version__
from flopwatt.analysis.report.page import plotting, prices
from flopwatt.analysis.report.page.content import Content, gather
from flopwatt.analysis.report.page.document import Drawn, draw, html
from flopwatt.analysis.report.page.traces import stacked
from flopwatt.errors import InputError
from flopwatt.runs.collector import paused_collector
from flopwatt.runs.store import read
from flopwatt.text import printable

PAGE_START = b"<!doctype html>"


def report(files: Sequence[Path], output: Path, png: Path | None, price: Sequence[str], console: Console) -> int:
    """Writes the page, and the figures where a folder is given. Raises InputError or RunFileError."""
    asked = prices.parse(price)
    _check(output)
    if png is not None:
        _make(png)
    with paused_collector():
        runs = [read(path) for path in _once(files)]
        if not any(run.records for run in runs):
            raise InputError(f"{files[0]}: no record in these files: give a run that measured something")
        content = gather(runs)
        by_board = prices.resolve(asked, list(content.boards.values()))
        made = f"flopwatt {__version__}, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        drawn = draw(content)
        page = html(content, drawn, by_board, plotting.library(), made)
        _write(output, page.encode())
        lines = [f"{output}: {len(content.cases):,} cases, {len(page.encode()) / 1e6:.1f} MB"]
        if png is not None:
            lines.append(f"{png}: {_figures(content, drawn, png)} figures")
    for line in lines:
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
    return 0


def _once(files: Sequence[Path]) -> list[Path]:
    """The files without repetition: one given twice would count twice."""
    return list({path.resolve(): path for path in files}.values())


def _check(output: Path) -> None:
    """Raises InputError where the output is something other than an earlier page: run files cannot be made again."""
    if output.is_dir():
        raise InputError(f"{output} is a folder: name a file with -o")
    try:
        with output.open("rb") as file:
            if file.read(len(PAGE_START)) not in (PAGE_START, b""):
                raise InputError(f"{output} exists and is not a report: choose another name for -o")
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(f"{output}: {(error.strerror or str(error)).lower()}: choose another -o") from None


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: {(error.strerror or str(error)).lower()}: choose another --png") from None


def _figures(content: Content, drawn: Drawn, folder: Path) -> int:
    origins = ", ".join(origin for origin in content.origins if origin != "measured")
    subtitle = f"flopwatt; {origins}, not measured by flopwatt" if origins else "flopwatt"
    figures = drawn.figures
    figures += [stacked(trace, place) for place, trace in enumerate(drawn.traces) if trace.figures]
    for one in figures:
        _write(folder / f"{one.name}.png", plotting.png(one, subtitle))
    return len(figures)


def _write(path: Path, data: bytes) -> None:
    """A whole file or none. Raises InputError where it cannot be written."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise InputError(f"{path}: {(error.strerror or str(error)).lower()}: choose another place") from None
    finally:
        part.unlink(missing_ok=True)
