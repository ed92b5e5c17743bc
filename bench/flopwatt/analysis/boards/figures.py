"""TFLOPS, watts and TFLOPS/W of each board over the same GEMMs, each weighted by how often a step runs it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from flopwatt.analysis.boards.reading import Board, Cases, Floats, Whole

METRICS: Final = ("tflops", "power_w", "tflops_per_w")

Chosen = npt.NDArray[np.bool_]

HELD_LEAST: Final = 0.5
"""A case counts where at least this share of the boards has it; a board that lacks one of them is left out, by name."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One metric of the boards that have it, a value a board: the mean over its processes.

    within: relative standard deviation between processes of one board, None where no board has two. processes: how
    many there are of each board on average. cases: how many GEMMs went in.
    """

    metric: str
    boards: tuple[Board, ...]
    values: Floats
    within: float | None
    processes: float
    cases: int


def figures(boards: Sequence[Board], cases: Cases, metric: str) -> Figures:
    """A metric of `METRICS` of the boards of one type; without values where no board has it."""
    needs_energy = metric != "tflops"
    rows = [np.isfinite(b.energy_j) if needs_energy else np.isfinite(b.time_s) for b in boards]
    weights = cases.weights
    chosen = _chosen(boards, rows, weights)
    found: list[tuple[Board, Floats]] = []
    for board, usable in zip(boards, rows, strict=True):
        values = _of_board(board, usable, chosen, weights[chosen], np.array(cases.flop, dtype=float)[chosen], metric)
        if len(values):
            found.append((board, values))
    squares = sum(float(((values / values.mean() - 1) ** 2).sum()) for _, values in found)
    degrees = sum(len(values) - 1 for _, values in found)
    return Figures(
        metric,
        tuple(board for board, _ in found),
        np.array([values.mean() for _, values in found]),
        float(np.sqrt(squares / degrees)) if degrees else None,
        float(np.mean([len(values) for _, values in found])) if found else 0.0,
        len(chosen),
    )


def _chosen(boards: Sequence[Board], rows: Sequence[Chosen], weights: Floats) -> Whole:
    """The cases that count: those with a weight that enough boards have."""
    held = np.zeros(len(weights), dtype=np.int64)
    for board, usable in zip(boards, rows, strict=True):
        held[np.unique(board.case[usable])] += 1
    return np.flatnonzero((held >= max(1, HELD_LEAST * len(boards))) & (weights > 0))


def _of_board(board: Board, usable: Chosen, chosen: Whole, weights: Floats, flop: Floats, metric: str) -> Floats:
    """One value of the metric for each process of the board that measured all chosen cases."""
    values = []
    for process in np.unique(board.process):
        mine = usable & (board.process == process) & np.isin(board.case, chosen)
        order = np.argsort(board.case[mine], kind="stable")
        if not len(chosen) or not np.array_equal(board.case[mine][order], chosen):
            continue
        time_s = float(board.time_s[mine][order] @ weights)
        energy_j = float(board.energy_j[mine][order] @ weights)
        tera_flop = float(flop @ weights) * 1e-12
        found = {"tflops": tera_flop / time_s, "power_w": energy_j / time_s, "tflops_per_w": tera_flop / energy_j}
        if math.isfinite(found[metric]):
            values.append(found[metric])
    return np.array(values)
