"""`flopwatt check`: is a run file whole and physically sane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flopwatt.analysis.check import check
from flopwatt.errors import RunFileError
from flopwatt.runs.store import read
from flopwatt.text import printable


def check_files(files: Sequence[Path], console: Console) -> int:
    """Prints what is wrong with each file, or that nothing is; 1 where anything is.

    Raises RunFileError for one that is no run file, once the others are checked.
    """
    worst = 0
    unreadable: list[RunFileError] = []
    for path in files:
        try:
            run = read(path)
        except RunFileError as error:
            unreadable.append(error)
            continue
        faults = check(run)
        for fault in faults:
            where = f" (record {fault.record[:8]})" if fault.record else ""
            console.print(printable(f"{path}: {fault.what}{where}"), markup=False, soft_wrap=True)
        if not faults:
            console.print(f"{path}: whole and sane, {len(run.records)} records", markup=False, soft_wrap=True)
        worst = max(worst, 1 if faults else 0)
    for another in unreadable[1:]:
        console.print(printable(str(another)), markup=False, soft_wrap=True)
    if unreadable:
        raise unreadable[0]
    return worst
