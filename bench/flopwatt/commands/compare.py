"""`flopwatt compare`: two runs held against each other, as a table or as data; its exit code gates a build."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec
from rich.console import Console

from flopwatt.analysis.comparing.comparison import FAIL_ON, Options, RunComparison
from flopwatt.analysis.comparing.comparison import compare as compare_runs
from flopwatt.analysis.comparing.matching import Backends
from flopwatt.commands.data import csv_rows, json_array
from flopwatt.commands.words import one_of
from flopwatt.commands.writing import refuse_input, whole
from flopwatt.errors import InputError
from flopwatt.runs.account import run_files
from flopwatt.runs.collector import paused_collector

FORMATS: Final = ("table", "csv", "json")

_THRESHOLD = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)")


@dataclass(frozen=True, slots=True)
class Request:
    """The words of the command line. base, new: run files of each side, or folders of them."""

    base: Sequence[Path]
    new: Sequence[Path]
    metric: str = "time"
    threshold: str = "1%"
    best: bool = False
    base_backend: str | None = None
    new_backend: str | None = None
    allow_mixed: str = ""
    fail_on: str = "any"
    base_gpu: str | None = None
    new_gpu: str | None = None


def compare(request: Request, format: str, output: Path | None, console: Console) -> int:
    """Compares and shows; 1 for a regression, 3 where it cannot be told. Raises InputError or RunFileError."""
    one_of("format", format, FORMATS)
    if format == "table" and output is not None:
        raise InputError("-o goes with --format csv or json")
    one_of("--fail-on", request.fail_on, FAIL_ON)
    if (request.base_backend is None) != (request.new_backend is None):
        raise InputError("--base-backend and --new-backend go together: name one for each side")
    if request.best and request.base_backend is not None:
        raise InputError("--best chooses the backends itself: give it, or --base-backend and --new-backend")
    options = Options(
        metric=request.metric,
        threshold=parse_threshold(request.threshold),
        backends=Backends(request.best, request.base_backend, request.new_backend),
        mixed=tuple(filter(None, (name.strip() for name in request.allow_mixed.split(",")))),
        gpus=(request.base_gpu, request.new_gpu),
    )
    base, new = _files(request.base), _files(request.new)
    refuse_input(output, (*base, *new))
    with paused_collector():
        result = compare_runs(base, new, options)
        code = result.exit_code(request.fail_on)
        if format == "table":
            from flopwatt.analysis.report.comparison import view

            console.print(view(result))
            return code
        if output is None:
            _write(result, format, request.fail_on, sys.stdout)
        else:
            with whole(output) as path, path.open("w", encoding="utf-8", newline="") as file:
                _write(result, format, request.fail_on, file)
    return code


def _files(paths: Sequence[Path]) -> list[Path]:
    """The run files meant; a folder means all in it."""
    return [file for path in paths for file in (run_files(path) if path.is_dir() else [path])]


def parse_threshold(text: str) -> float:
    """The share that `1%` or `0.01` says. Raises InputError, also for a bare `1`, which might mean either."""
    match = _THRESHOLD.fullmatch(text.strip())
    value = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0 < value < 1:
        raise InputError(f"threshold {text!r}: write a percentage or a share below 1, such as 1% or 0.01")
    return value


def _write(result: RunComparison, format: str, fail_on: str, file: IO[str]) -> None:
    from flopwatt.analysis.report.comparison_data import COLUMNS, TEXT_COLUMNS, facts, rows, rows_by_kind

    if format == "csv":
        csv_rows(file, rows(result), COLUMNS, TEXT_COLUMNS)
        return
    separator = "{"
    for name, value in facts(result, fail_on).items():
        file.write(f'{separator}\n"{name}": {msgspec.json.encode(value).decode()}')
        separator = ","
    for name, found in rows_by_kind(result):
        file.write(f',\n"{name}": ')
        json_array(file, found)
    file.write("\n}\n")
