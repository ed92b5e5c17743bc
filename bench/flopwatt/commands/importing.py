"""`flopwatt import`: somebody else's table becomes a run file of origin `imported`, with what was left out counted."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console

from flopwatt import __version__
from flopwatt.analysis.formats import aiconfigurator, cutlass_profiler, tidy_csv
from flopwatt.analysis.formats.collect import Collector, SuiteFilter
from flopwatt.analysis.formats.foreign import TEXT_MOST, Table, resolve_gpu
from flopwatt.commands.words import one_of
from flopwatt.commands.writing import check_output
from flopwatt.errors import InputError
from flopwatt.runs.records import SCHEMA_VERSION, End, Line, RunHeader
from flopwatt.runs.whole_file import write_whole
from flopwatt.text import printable

FORMATS: Final = ("aiconfigurator", "cutlass-profiler", "csv")
SOURCE_MOST: Final = 2000


@dataclass(frozen=True, slots=True)
class Request:
    """What to import. gpu: None takes the table's. shapes: suites to keep the GEMMs of; none keeps every row."""

    format: str
    path: Path
    output: Path
    gpu: str | None = None
    shapes: Sequence[str] = ()
    source: str | None = None
    licence: str | None = None


def import_table(request: Request, console: Console) -> int:
    """Writes the run file and prints what is in it. Raises InputError, SuiteError or RunFileError, writing nothing."""
    one_of("format", request.format, FORMATS)
    check_output(request.output)
    for name, text, most in (("--source", request.source, SOURCE_MOST), ("--gpu", request.gpu, TEXT_MOST)):
        if text is not None and not 0 < len(text.strip()) <= most:
            raise InputError(f"{name}: give 1 to {most} characters")
    gpu = None if request.gpu is None else resolve_gpu(request.gpu)
    suites = SuiteFilter(request.shapes) if request.shapes else None
    table = _open(request, gpu)
    header = RunHeader(
        schema=SCHEMA_VERSION,
        id=uuid.uuid4().hex,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        origin="imported",
        flopwatt=__version__,
        source=printable(f"{request.source.strip()} ({table.source})" if request.source else table.source),
        licence=printable(request.licence) if request.licence else table.licence,
    )
    collector = Collector(header.id, header.created, gpu, suites)
    write_whole(request.output, _lines(header, collector, table))
    _summarise(request, header, collector, console)
    return 0


def _open(request: Request, gpu: str | None) -> Table:
    match request.format:
        case "aiconfigurator":
            return aiconfigurator.open_table(request.path)
        case "cutlass-profiler":
            return cutlass_profiler.open_table(request.path, gpu)
    return tidy_csv.open_table(request.path, gpu)


def _lines(header: RunHeader, collector: Collector, table: Table) -> Iterator[Line]:
    yield header
    yield from collector.lines(table.rows)
    yield End(at=header.created, reason="done")


def _summarise(request: Request, header: RunHeader, collector: Collector, console: Console) -> None:
    lines = [f"{collector.records} cases from {collector.rows} rows, on {collector.gpu}: {request.output}"]
    lines.append(f"  source: {header.source}; licence: {header.licence or 'not stated, --licence says it'}")
    lines += [f"  {reason}" for reason in collector.reasons()]
    lines += [f"  {coverage}" for coverage in collector.coverage()]
    lines += [f"  energy of {count}: {reason}" for reason, count in collector.energy.most_common(5)]
    for line in lines:
        console.print(printable(line), soft_wrap=True, markup=False, highlight=False)
