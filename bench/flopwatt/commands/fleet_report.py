"""`flopwatt fleet report`: the spread over the boards of a folder of run files, on a terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flopwatt.analysis.boards.reading import Cases, read_boards
from flopwatt.analysis.boards.spread import Kind, kinds
from flopwatt.analysis.comparing.comparison import Options, compare
from flopwatt.analysis.report import fleet as shown
from flopwatt.analysis.report.page import fleet as fleet_page
from flopwatt.analysis.report.page import plotting
from flopwatt.commands import pages
from flopwatt.errors import InputError
from flopwatt.runs import account as accounts
from flopwatt.runs.account import Account, run_files
from flopwatt.text import printable


def report(folder: Path, output: Path | None, png: Path | None, console: Console) -> int:
    """Shows the spread, and writes the page and the figures where asked. Raises InputError or RunFileError."""
    if output is not None:
        pages.check(output)
    cases = Cases()
    found = kinds(read_boards(run_files(folder), cases), cases)
    if not found:
        raise InputError(f"{folder}: no sustained result in these files: nothing to spread")
    account = _account(folder)
    if account is not None:
        console.print(f"{shown.total(account)}. {shown.MODES[account.mode]}\n", highlight=False)
    console.print(shown.spread_view(found))
    if output is not None:
        page = fleet_page.page(found, against(folder, found), account, plotting.library(), pages.made())
        pages.write(output, page.encode())
        console.print(printable(f"{output}: {len(page.encode()) / 1e6:.1f} MB"), soft_wrap=True, highlight=False)
    if png is not None:
        pages.make_folder(png)
        simulated = any(kind.origin == "simulated" for kind in found)
        subtitle = "flopwatt; simulated, not measured" if simulated else "flopwatt"
        drawn = fleet_page.figures(found)
        pages.write_figures(png, drawn, subtitle)
        console.print(printable(f"{png}: {len(drawn)} figures"), soft_wrap=True, highlight=False)
    return 0


def against(folder: Path, found: Sequence[Kind]) -> list[fleet_page.Against]:
    """Every later type of GPU held against the first one, boards as the sample."""
    compared = []
    for kind in found[1:]:
        try:
            result = compare(_files(folder, found[0]), _files(folder, kind), Options(metric="tflops-per-w"))
            compared.append(fleet_page.Against(found[0].name, kind.name, result))
        except InputError as error:
            compared.append(fleet_page.Against(found[0].name, kind.name, None, str(error)))
    return compared


def _files(folder: Path, kind: Kind) -> list[Path]:
    return [folder / board.file for board in kind.boards]


def _account(folder: Path) -> Account | None:
    """The fleet run's account; None where the files came together in some other way."""
    return accounts.load(folder) if (folder / accounts.FILE).exists() else None
