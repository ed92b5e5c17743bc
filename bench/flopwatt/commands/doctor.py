"""`flopwatt doctor`: what this machine can measure, what it cannot, why, and the remedy."""

from __future__ import annotations

from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flopwatt.commands.words import one_of
from flopwatt.measurement.doctor import Finding, can_measure, diagnose
from flopwatt.text import printable

FORMATS: Final = ("table", "json")
STYLE: Final = {"ok": "green", "warn": "yellow", "fail": "red", "absent": "dim"}


def doctor(format: str, console: Console) -> int:
    """Prints the findings; 1 where nothing can be measured here."""
    one_of("format", format, FORMATS)
    findings = diagnose()
    if format == "json":
        print(msgspec.json.format(msgspec.json.encode(findings)).decode())
    else:
        console.print(_view(findings))
    return 0 if can_measure(findings) else 1


def _view(findings: list[Finding]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        state = Text(finding.state, style=STYLE[finding.state])
        table.add_row(state, printable(finding.topic), printable(finding.detail))
        if finding.remedy:
            table.add_row("", "", Text(f"→ {printable(finding.remedy)}", style="bold"))
    return table
