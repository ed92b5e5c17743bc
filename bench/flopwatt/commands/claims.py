"""`flopwatt claims`: public claims held against published figures and the files at hand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from rich.console import Console

from flopwatt.analysis.calibrate.files import load_calibration
from flopwatt.analysis.calibrate.records import FORMAT
from flopwatt.analysis.claims.answering import answers
from flopwatt.analysis.claims.claim import Answer
from flopwatt.analysis.claims.evidence import Evidence
from flopwatt.analysis.report.claims import show
from flopwatt.commands.data import json_array, once
from flopwatt.commands.words import one_of
from flopwatt.runs.collector import paused_collector
from flopwatt.runs.store import read

FORMATS: Final = ("table", "json")
HEAD_BYTES: Final = 200
"""How far into a file its format stands."""


def claims(files: Sequence[Path], format: str, console: Console) -> int:
    """Prints every claim with its verdict and working. Raises InputError, RunFileError, CalibrationError."""
    one_of("format", format, FORMATS)
    with paused_collector():
        found = answers(gather(files))
    if format == "json":
        json_array(sys.stdout, map(as_data, found))
        sys.stdout.write("\n")
    else:
        show(found, console)
    return 0


def gather(files: Sequence[Path]) -> Evidence:
    """The run files and calibrations among these files, each told by its content; one given twice counts once."""
    calibrations, runs = [], []
    for path in once(files):
        if _is_calibration(path):
            calibrations.append(load_calibration(path))
        else:
            runs.append(read(path))
    return Evidence(runs, calibrations)


def _is_calibration(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return FORMAT.encode() in file.read(HEAD_BYTES)
    except OSError:
        return False  # reading it as a run file says what is wrong with it


def as_data(one: Answer) -> dict[str, Any]:
    """An answer as JSON holds it. ranges: lowest and highest of the findings in each unit."""
    return {
        "claim": one.claim.name,
        "says": one.claim.says,
        "source": one.claim.source,
        "implies": one.implies,
        "verdict": one.verdict.kind,
        "why": one.verdict.why,
        "unverified": one.unverified,
        "missing": one.missing,
        "ranges": [{"unit": unit, "low": low, "high": high} for unit, (low, high) in one.ranges.items()],
        "findings": [
            {"basis": found.basis, "counts": found.counts, **msgspec.to_builtins(found.line)} for found in one.findings
        ],
        "working": msgspec.to_builtins(one.working),
    }
