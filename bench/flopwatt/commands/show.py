"""`flopwatt show`: tables and headlines on a terminal, or tidy data for other programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console

from flopwatt.analysis.report import terminal
from flopwatt.errors import InputError
from flopwatt.runs.store import read

FORMATS: Final = ("table", "csv", "json", "parquet")


def show(files: Sequence[Path], format: str, output: Path | None, console: Console) -> int:
    """Shows run files; parquet, being binary, goes to a file. Raises InputError or RunFileError."""
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}: choose one of {', '.join(FORMATS)}")
    if format == "parquet" and output is None:
        raise InputError("parquet is binary: name a file with -o")
    if format == "table" and output is not None:
        raise InputError("-o goes with --format csv, json or parquet")
    runs = [read(path) for path in files]
    if format == "table":
        terminal.show(runs, console)
        return 0
    from flopwatt.runs.tidy import frame

    table = frame(runs)
    try:
        match format:
            case "csv":
                table.to_csv(output or sys.stdout, index=False)
            case "json":
                table.to_json(output or sys.stdout, orient="records", indent=1, double_precision=15)
            case "parquet":
                table.to_parquet(output, index=False)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise InputError(f"{output}: {(error.strerror or str(error)).lower()}: choose another -o") from None
    return 0
