"""A board's results as a few arrays: all that the spread over a thousand boards needs of their run files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt

from flopwatt.runs import gpus
from flopwatt.runs.records import Record
from flopwatt.runs.store import RunFile, read
from flopwatt.runs.tidy import Row, record_row

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

STATE: Final = ("clock_mhz", "temp_c", "power_limit_w", "throttle_thermal", "throttle_power")
"""Tidy columns that say in what state a board worked."""


@dataclass(slots=True)
class Cases:
    """The cases of a fleet by number: their FLOPs, and how often a step runs each.

    headline: as headlines count them; times: as suites do. A sequence replays GEMMs that are counted singly.
    """

    numbers: dict[str, int] = field(default_factory=dict)
    flop: list[int] = field(default_factory=list)
    headline: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)

    def number(self, record: Record) -> int:
        """The number of a record's case; equal cases of two boards have one."""
        found = self.numbers.get(record.case_id)
        if found is None:
            found = self.numbers[record.case_id] = len(self.flop)
            self.flop.append(record.case.flop)
            single = not record.case.sequence
            self.headline.append(sum(use.count for use in record.uses if use.headline and single))
            self.times.append(max(1, sum(use.count for use in record.uses)) if single else 0)
        return found

    @property
    def weights(self) -> Floats:
        """How often each counts: in headlines where any does, else as its suite runs it."""
        return np.array(self.headline if any(self.headline) else self.times, dtype=float)


@dataclass(frozen=True, slots=True)
class Board:
    """One board's sustained results, a row a case and process. energy_j: of one launch, NaN where there is none.

    kind: of GPU, by its published name where that is known. state: the median over its cases of each of `STATE`, None
    where nothing told it. shared: other work was on the GPU. gain: relative uncertainty of its sensor's gain.
    """

    kind: str
    origin: str
    board_id: str | None
    file: str
    case: Whole
    process: Whole
    time_s: Floats
    energy_j: Floats
    state: dict[str, float | None]
    shared: bool
    gain: float | None

    @property
    def name(self) -> str:
        """What it is called: its id, or else its file."""
        return self.board_id or self.file


def read_boards(files: Iterable[Path], cases: Cases) -> list[Board]:
    """The boards of run files, one file after another in memory. Raises RunFileError."""
    found: list[Board] = []
    for file in files:
        board = board_of(read(file), cases)
        if board is not None:
            found.append(board)
    return found


def board_of(run: RunFile, cases: Cases) -> Board | None:
    """A run's board; None where it has no sustained result. A run is of one board: others are refused when resuming."""
    if not run.segments:
        return None
    segments = {segment.segment: segment for segment in run.segments}
    rows: list[tuple[int, Row]] = []
    for record in run.records:
        if record.status == "ok" and record.case.regime == "sustained":
            row = record_row(run.header.id, record, segments.get(record.segment))
            if row["time_s"]:
                rows.append((cases.number(record), row))
    if not rows:
        return None
    last = run.segments[-1]
    environment = last.environment
    spec = gpus.find(environment.gpu, environment.memory_bytes, environment.sm_count)
    limit_w = None if environment.power_limit_mw is None else environment.power_limit_mw * 1e-3
    state = {name: _median(row[name] for _, row in rows) for name in STATE}
    state["power_limit_w"] = state["power_limit_w"] or limit_w
    return Board(
        kind=spec.name if spec else environment.gpu,
        origin=run.header.origin,
        board_id=last.board_id,
        file=run.path.name,
        case=np.array([number for number, _ in rows]),
        process=np.array([row["process"] for _, row in rows]),
        time_s=np.array([row["time_s"] for _, row in rows]),
        energy_j=np.array([row["energy_j"] or np.nan for _, row in rows]),
        state=state,
        shared=run.header.policy.shared or bool(environment.shared_with),
        gain=last.sensor.gain_uncertainty if last.sensor else None,
    )


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
