"""Which board a result is of, under a name that says its origin wherever it is not measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from flopwatt.runs import gpus
from flopwatt.runs.gpus import GpuSpec
from flopwatt.runs.records import Segment
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import Row
from flopwatt.text import printable, shortened

LABEL_MOST = 60
"""Characters of a name from a file that a heading or a legend holds."""


class BoardKey(NamedTuple):
    """What must be equal for two results to be of one board. Results of several origins are never of one."""

    origin: str
    gpu: str | None
    board_id: str | None


@dataclass(frozen=True, slots=True)
class Board:
    """One GPU or CPU. name: of the published entry, else the driver's; label: name and origin, unique on the page."""

    key: BoardKey
    name: str
    label: str
    spec: GpuSpec | None

    @property
    def measured(self) -> bool:
        """Whether flopwatt measured it."""
        return self.key.origin == "measured"


def key_of(row: Row) -> BoardKey:
    """The board of a tidy row."""
    return BoardKey(row["origin"], row["gpu"], row["board_id"])


def boards(runs: Iterable[RunFile]) -> dict[BoardKey, Board]:
    """The boards of several runs, in the order of their first appearance."""
    found: dict[BoardKey, Segment] = {}
    for run in runs:
        for segment in run.segments:
            key = BoardKey(run.header.origin, segment.environment.gpu, segment.board_id)
            found.setdefault(key, segment)
    specs = {key: _spec(segment) for key, segment in found.items()}
    names = {key: _name(key, specs[key]) for key in found}
    alike = Counter((names[key], key.origin) for key in found)
    return {
        key: Board(key, names[key], _label(names[key], key, alike[names[key], key.origin] > 1), specs[key])
        for key in found
    }


def _spec(segment: Segment) -> GpuSpec | None:
    environment = segment.environment
    return gpus.find(environment.gpu, environment.memory_bytes, environment.sm_count)


def _name(key: BoardKey, spec: GpuSpec | None) -> str:
    if spec is not None:
        return spec.name
    return shortened(printable(key.gpu), LABEL_MOST) if key.gpu else "unknown machine"


def _label(name: str, key: BoardKey, ambiguous: bool) -> str:
    words = [name]
    if ambiguous:
        words.append(f"board {printable(key.board_id)[:6]}" if key.board_id else "board unknown")
    if key.origin != "measured":
        words.append(f"({key.origin})")
    return " ".join(words)
