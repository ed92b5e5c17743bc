"""A fleet run on a terminal: what became of every GPU, how far boards of one type spread, which stand out and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flopwatt.analysis.boards.outliers import Outlier
from flopwatt.analysis.boards.reading import Cases, read_boards
from flopwatt.analysis.boards.spread import Kind, Spread, kinds
from flopwatt.analysis.report.quantities import DASH, percent, significant
from flopwatt.runs.account import Account, Fate, run_files
from flopwatt.text import printable

UNITS: Final = {"tflops": "TFLOPS", "power_w": "W", "tflops_per_w": "TFLOPS/W"}
COLUMNS: Final = ("mean of boards", "±", "spread", "95 %", "of it between boards", "lowest", "highest")
ACCOUNT_COLUMNS: Final = ("type", "node", "GPU", "board", "became", "cases", "file", "why")
MODES: Final = {
    "alone": "One GPU at a time was measured on each node.",
    "together": "All GPUs of a node were measured at once, so that they shared its power, air and memory.",
}
COLOURS: Final = {"done": "green", "lost": "red", "failed": "red", "refused": "yellow", "waiting": "yellow"}


def account_view(account: Account) -> RenderableType:
    """Every GPU and what became of it, then how many of each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ACCOUNT_COLUMNS:
        table.add_column(name, justify="right" if name in ("node", "GPU", "cases") else "left")
    for gpu in account.gpus:
        style = {"became": COLOURS.get(gpu.became, "")}
        named = zip(ACCOUNT_COLUMNS, account_cells(gpu), strict=True)
        table.add_row(*(Text(printable(cell), style=style.get(name, "")) for name, cell in named))
    return Group(table, Text(f"{total(account)}\n"))


def account_cells(gpu: Fate) -> tuple[str, ...]:
    """One GPU under `ACCOUNT_COLUMNS`."""
    cases = f"{gpu.measured}/{gpu.planned}" if gpu.planned else DASH
    cases += f", {gpu.failed_cases} failed" if gpu.failed_cases else ""
    cases += f", {gpu.skipped_cases} skipped" if gpu.skipped_cases else ""
    place = (gpu.accelerator, f"{gpu.node}", f"{gpu.gpu}")
    return (*place, gpu.board_id or DASH, gpu.became, cases, gpu.file or DASH, gpu.reason)


def total(account: Account) -> str:
    """How many GPUs there were, and what became of how many."""
    counts = Counter(gpu.became for gpu in account.gpus)
    gpus = f"{len(account.gpus):,} GPU{'' if len(account.gpus) == 1 else 's'}"
    return f"{gpus}: " + ", ".join(f"{count:,} {became}" for became, count in counts.most_common())


def folder_view(folder: Path) -> RenderableType:
    """The spread over the boards of a folder's run files. Raises RunFileError."""
    cases = Cases()
    return spread_view(kinds(read_boards(run_files(folder), cases), cases))


def spread_view(found: Sequence[Kind]) -> RenderableType:
    """A table for each type of GPU, its outliers, and what its figures mean."""
    parts = [part for kind in found for part in _kind(kind)]
    return Group(*parts, *(Text(note, style="dim") for note in notes(found)))


def _kind(kind: Kind) -> Iterator[RenderableType]:
    origin = "" if kind.origin == "measured" else f" ({kind.origin})"
    table = Table(
        title=printable(f"{kind.name}{origin}, {len(kind.boards)} board{'s' if len(kind.boards) > 1 else ''}"),
        title_justify="left", box=None, pad_edge=False, header_style="bold",
    )  # fmt: skip
    for name in ("", *COLUMNS):
        table.add_column(name, justify="left" if not name else "right")
    for metric, spread in kind.spreads.items():
        table.add_row(UNITS[metric], *cells(spread))
    yield table
    for outlier in kind.outliers:
        yield Text(printable(outlier_words(outlier)), style="yellow")
    if kind.incomplete:
        names = ", ".join(board.name for board in kind.incomplete)
        yield Text(printable(f"not in the figures, since GEMMs that the others have are missing: {names}"))
    yield Text()


def cells(spread: Spread) -> tuple[str, ...]:
    """One spread under `COLUMNS`."""
    mean, seen = spread.mean, spread.deviation
    ends = DASH if seen.low is None or seen.high is None else f"{_share(seen.low)}–{_share(seen.high)}"
    return (
        significant(mean.value),
        percent(mean.value, mean.low, mean.high),
        _share(seen.value),
        ends,
        _share(spread.between),
        significant(spread.least),
        significant(spread.most),
    )


def outlier_words(outlier: Outlier) -> str:
    """Which board, by how much off its type's median, and why."""
    off = ", ".join(f"{_signed(value)} {UNITS[metric]}" for metric, value in outlier.off.items())
    why = "; ".join(outlier.causes)
    return f"board {outlier.board.name}: {off}: {why}" if off else f"board {outlier.board.name}: {why}"


def _share(value: float) -> str:
    return DASH if math.isnan(value) else f"{value * 100:.1f} %"


def _signed(value: float) -> str:
    return f"{value * 100:+.1f} %"


def notes(found: Sequence[Kind]) -> Iterator[str]:
    """What a reader must know of the figures."""
    spreads = [spread for kind in found for spread in kind.spreads.values()]
    if not spreads:
        yield "no board has a sustained result: there is nothing to spread"
        return
    yield (
        "±: 95 % interval of the mean, boards as the sample; spread: relative standard deviation, with its 95 %; of it "
        "between boards: without what runs of one board scatter by"
    )
    if any(spread.assumed for spread in spreads):
        yield "one process a board: 1 % of run-to-run spread is assumed and taken off; --processes measures it"
    gains = [kind.gain for kind in found if "power_w" in kind.spreads and kind.gain]
    if gains:
        yield (
            f"watts of two boards also differ by the gains of their sensors, up to {max(gains) * 100:.0f} % each, "
            "which is in their spread and cannot be told from a hungrier board"
        )
    if any(len(kind.boards) == 1 for kind in found):
        yield "one board alone says nothing of others of its type"
