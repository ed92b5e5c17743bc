"""`flopwatt check`: is a run file whole and physically sane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flopwatt.analysis.check import check
from flopwatt.runs.store import read
from flopwatt.text import printable


def check_files(files: Sequence[Path], console: Console) -> int:
    """Prints what is wrong with each file, or that nothing is; 1 where anything is. Raises RunFileError."""
    worst = 0
    for path in files:
        run = read(path)
        faults = check(run)
        for fault in faults:
            where = f" (record {fault.record[:8]})" if fault.record else ""
            console.print(printable(f"{path}: {fault.what}{where}"), markup=False, soft_wrap=True)
        if not faults:
            console.print(f"{path}: whole and sane, {len(run.records)} records", markup=False, soft_wrap=True)
        worst = max(worst, 1 if faults else 0)
    return worst
