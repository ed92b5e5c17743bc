"""A short simulated run, and what to ask of one that was disturbed."""

from __future__ import annotations

from pathlib import Path

from flopwatt.analysis.check import check
from flopwatt.runs.store import RunFile, read
from flopwatt_process import flopwatt
from processes import wait_for

WORDS = ("run", "--simulate", "h100", "--model", "llama-3.1-8b", "--effort", "fast")
LONG = ("run", "--simulate", "h100", "--suite", "llama-3.1-405b", "--processes", "20")
"""Some twenty cases in about a second; hundreds of them in many fresh processes, for what must happen in the middle."""

SHORT_RESTS = """
from flopwatt.measurement import case
case.BURST_REST_S = 0.1
"""
"""A `sitecustomize`: bursts as ever, on a machine whose power and temperature no test looks at."""


def wait_for_records(path: Path, count: int) -> None:
    """Until a run file holds so many whole records."""
    wait_for(lambda: path.exists() and path.read_bytes().count(b'{"type":"record"') >= count)


def resume(path: Path) -> RunFile:
    """Continues a simulated run to its end, and asserts that every case is there once and that nothing is wrong."""
    resumed = flopwatt("run", "--simulate", "h100", "--resume", path)
    assert resumed.returncode == 0, resumed.stderr
    run = read(path)
    keys = [(record.case_id, record.process) for record in run.records]
    assert len(keys) == len(set(keys)), "none is there twice"
    assert set(keys) == {(planned.case_id, planned.process) for planned in run.header.plan}, "none is missing"
    assert check(run) == []
    return run
