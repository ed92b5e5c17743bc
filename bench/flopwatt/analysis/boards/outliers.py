"""Boards that stand out from the others of their type, and what their own readings say of the cause."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

from flopwatt.analysis.boards.figures import Figures
from flopwatt.analysis.boards.reading import STATE, Board

BOARDS_LEAST: Final = 3
"""Of two boards nobody can tell which one is odd."""

SCORE: Final = 3.5
"""Modified z-score of an outlier. Source: Iglewicz and Hoaglin, How to Detect and Handle Outliers, 1993."""

MAD_TO_SIGMA: Final = 1.4826
"""Standard deviation of a normal distribution over its median absolute deviation."""

LIMIT_SHARE, CLOCK_SHARE, HEAT_SHARE, HOT_C = 0.01, 0.01, 0.01, 8.0
"""What makes a power limit or clock lower than the others', a share of a window with heat more, a board hotter."""


@dataclass(frozen=True, slots=True)
class Outlier:
    """A board, by how much each metric it stands out in is off its type's median (relative), and the causes seen."""

    board: Board
    off: dict[str, float]
    causes: tuple[str, ...]


def outliers(boards: Sequence[Board], found: Mapping[str, Figures], noise: Mapping[str, float]) -> Iterator[Outlier]:
    """The boards far from the median of their type, and those with a lower limit or held down by heat.

    noise: relative, by which a metric of one board would scatter by itself: closer than that nothing stands out.
    """
    if len(boards) < BOARDS_LEAST:
        return
    usual = {name: _usual([board.state[name] for board in boards]) for name in STATE}
    off: dict[int, dict[str, float]] = {id(board): {} for board in boards}
    for metric, figures in found.items():
        if len(figures.values) < BOARDS_LEAST:
            continue
        middle = float(np.median(figures.values))
        relative = figures.values / middle - 1
        sigma = max(MAD_TO_SIGMA * float(np.median(np.abs(relative))), noise.get(metric, 0.0))
        for board, deviation in zip(figures.boards, relative, strict=True):
            if abs(deviation) > SCORE * sigma:
                off[id(board)][metric] = float(deviation)
    for board in boards:
        causes = tuple(_causes(board, usual))
        if off[id(board)] or causes:
            yield Outlier(board, off[id(board)], causes or tuple(_unexplained(board, off[id(board)], usual)))


def _usual(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _causes(board: Board, usual: Mapping[str, float | None]) -> Iterator[str]:
    """What in a board's own state would make it slower or hungrier than the others."""
    limit, others = board.state["power_limit_w"], usual["power_limit_w"]
    if limit is not None and others is not None and limit < others * (1 - LIMIT_SHARE):
        yield f"low power limit: {limit:.0f} W, the others {others:.0f} W"
    heat, others = board.state["throttle_thermal"], usual["throttle_thermal"]
    if heat is not None and heat > (others or 0.0) + HEAT_SHARE:
        yield f"throttled: heat held its clock down for {heat:.0%} of the time".replace("%", " %")
    warm, others = board.state["temp_c"], usual["temp_c"]
    if warm is not None and others is not None and warm > others + HOT_C:
        yield f"hot: {warm:.0f} °C, the others {others:.0f} °C"
    if board.shared:
        yield "shared: other work was on the GPU"


def _unexplained(board: Board, off: Mapping[str, float], usual: Mapping[str, float | None]) -> Iterator[str]:
    """What can be said of a board that stands out in nothing but its results."""
    clock, others = board.state["clock_mhz"], usual["clock_mhz"]
    speed = off.get("tflops", 0.0)
    if speed < 0:
        slower = clock is not None and others is not None and clock < others * (1 - CLOCK_SHARE)
        yield (
            f"slow board: {clock:.0f} MHz, the others {others:.0f} MHz, with neither heat nor limit to blame"
            if slower
            else "slow board: neither clock, heat nor limit explains it"
        )
    elif speed > 0:
        yield "fast board"
    elif off:
        yield "its watts differ alone: the board, or the gain of its sensor"
