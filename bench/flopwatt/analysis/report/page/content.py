"""What the page is made of, gathered from run files: boards, cases, headlines, and what a reader must be told."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from flopwatt.analysis.headline import Headline, headlines
from flopwatt.analysis.processes import merge
from flopwatt.analysis.report.page.boards import Board, BoardKey, boards, key_of
from flopwatt.runs.records import Record
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import Row, run_rows
from flopwatt.text import printable, shortened

CASES_MOST: Final = 10_000
"""Rows on the page. A browser stays quick with so many; of more, a sample even over formats, backends and sizes."""

TEXT_MOST: Final = 300
"""Characters of one field that the page holds."""


@dataclass(frozen=True, slots=True)
class Content:
    """All that the page shows. cases: tidy rows merged over processes, each with `board`, the label of its board.

    records: how many the files hold; left_out: how many of their cases are not among `cases`.
    """

    runs: tuple[RunFile, ...]
    boards: dict[BoardKey, Board]
    cases: list[Row]
    records: int
    left_out: int
    headlines: list[Headline]

    @property
    def names(self) -> list[str]:
        """A name for each file: its own, with its folder's where several are called the same."""
        several = Counter(run.path.name for run in self.runs)
        return [
            clean("/".join(run.path.parts[-2:]) if several[run.path.name] > 1 else run.path.name) for run in self.runs
        ]

    @property
    def origins(self) -> list[str]:
        """The origins of the files, measured first."""
        order = ("measured", "simulated", "imported")
        return sorted({run.header.origin for run in self.runs}, key=order.index)

    def board(self, headline: Headline) -> Board | None:
        """The board of a headline."""
        return self.boards.get(BoardKey(headline.origin, headline.gpu, headline.board_id))


def gather(runs: Sequence[RunFile], most: int = CASES_MOST) -> Content:
    """The content of several run files. most: rows at most, shared out among files by the records that they hold."""
    found = boards(runs)
    records = sum(len(run.records) for run in runs)
    cases: list[Row] = []
    left_out = 0
    for run in runs:
        kept = run.records if records <= most else _sampled(run.records, most * len(run.records) // records)
        left_out += len({r.case_id for r in run.records}) - len({r.case_id for r in kept})
        cases += (_told(row, found) for row in merge(run_rows(replace(run, records=tuple(kept)))))
    return Content(tuple(runs), found, cases, records, left_out, headlines(runs))


def _sampled(records: Sequence[Record], most: int) -> Sequence[Record]:
    """All records of at most so many cases, evenly over backend, format and size."""
    cases: dict[str, Record] = {}
    repeats: dict[str, int] = defaultdict(int)
    for record in records:
        cases.setdefault(record.case_id, record)
        repeats[record.case_id] += max(1, len(record.uses))
    rows = sum(repeats.values())
    if rows <= most:
        return records
    ordered = sorted(cases, key=lambda case_id: _size(cases[case_id]))
    step = rows / max(1, most)
    chosen = {ordered[int(index * step)] for index in range(int(len(ordered) / step))}
    return [record for record in records if record.case_id in chosen]


def _size(record: Record) -> tuple[str, str, str, int]:
    case = record.case
    return case.backend, case.problem.dtype if case.problem else "", case.regime, case.flop


def _told(row: Row, found: dict[BoardKey, Board]) -> Row:
    board = found.get(key_of(row))
    plain = {name: clean(value) if isinstance(value, str) else value for name, value in row.items()}
    return {**plain, "board": board.label if board else "unknown machine"}


def clean(text: str) -> str:
    """A file's text as the page may show it: nothing invisible, and no more of it than a reader would read."""
    return shortened(printable(text), TEXT_MOST)
