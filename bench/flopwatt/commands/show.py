"""`flopwatt show`: tables and headlines on a terminal, or tidy data for other programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from rich.console import Console

from flopwatt.analysis.report import terminal
from flopwatt.commands.data import csv_rows, json_array
from flopwatt.commands.words import one_of
from flopwatt.commands.writing import refuse_input, whole
from flopwatt.errors import InputError
from flopwatt.runs.collector import paused_collector
from flopwatt.runs.store import RunFile, read
from flopwatt.runs.tidy import COLUMNS, each_row, frames

FORMATS: Final = ("table", "csv", "json", "parquet")


def show(files: Sequence[Path], format: str, output: Path | None, console: Console) -> int:
    """Shows run files; parquet, being binary, goes to a file. Raises InputError or RunFileError."""
    one_of("format", format, FORMATS)
    if format == "parquet" and output is None:
        raise InputError("parquet is binary: name a file with -o")
    if format == "table" and output is not None:
        raise InputError("-o goes with --format csv, json or parquet")
    refuse_input(output, files)
    runs = [read(path) for path in files]
    if format == "table":
        terminal.show(runs, console)
        return 0
    with paused_collector():
        if output is None:
            _write_text(runs, format, sys.stdout)
            return 0
        with whole(output) as path:
            if format == "parquet":
                _write_parquet(runs, path)
            else:
                with path.open("w", encoding="utf-8", newline="") as file:
                    _write_text(runs, format, file)
    return 0


def _write_text(runs: Sequence[RunFile], format: str, file: IO[str]) -> None:
    """The tidy table row by row: a large one is never held whole."""
    rows = ({name: row[name] for name in COLUMNS} for run in runs for row in each_row(run))
    if format == "csv":
        csv_rows(file, rows, tuple(COLUMNS), (name for name, kind in COLUMNS.items() if kind == "string"))
        return
    json_array(file, rows)
    file.write("\n")


def _write_parquet(runs: Sequence[RunFile], output: Path) -> None:
    """The tidy table as Parquet, one row group a part."""
    import pyarrow as pa
    from pyarrow import parquet

    parts = frames(runs)
    table = pa.Table.from_pandas(next(parts), preserve_index=False)
    # Columns of which a part knows nothing have their type all the same, as every part is made by `COLUMNS`.
    with parquet.ParquetWriter(output, table.schema) as writer:
        writer.write_table(table)
        for part in parts:
            writer.write_table(pa.Table.from_pandas(part, schema=table.schema, preserve_index=False))
