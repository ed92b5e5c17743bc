"""How far boards of one type spread in each metric, and what a board of that type gives on average.

Boards are the sample: the mean's interval is Student's over boards, the standard deviation's the chi-square one. What
runs of one board scatter by is taken off the variance between boards. The watts of two boards also differ by the gains
of their sensors, which nothing here can tell from a hungrier board.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from flopwatt.analysis.boards.figures import METRICS, Figures, figures
from flopwatt.analysis.boards.outliers import Outlier, outliers
from flopwatt.analysis.boards.reading import Board, Cases
from flopwatt.runs.stats import RUN_TO_RUN, Interval, chi_square, mean_interval


@dataclass(frozen=True, slots=True)
class Spread:
    """One metric over the boards of a type, in its unit; deviations are relative to the mean.

    mean: with its 95 % interval, boards as the sample. deviation: standard deviation as seen. between: of it without
    what runs of one board scatter by, which is `within`, assumed where `assumed`. least, most: the extreme boards.
    """

    figures: Figures
    mean: Interval
    deviation: Interval
    between: float
    within: float
    assumed: bool
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Kind:
    """All boards of one type and origin. incomplete: those that lack GEMMs which the others have."""

    name: str
    origin: str
    boards: tuple[Board, ...]
    spreads: dict[str, Spread]
    outliers: tuple[Outlier, ...]
    incomplete: tuple[Board, ...]

    @property
    def gain(self) -> float | None:
        """The largest relative uncertainty of a sensor's gain among them; None where one is not known."""
        gains = [board.gain for board in self.boards]
        known = [gain for gain in gains if gain is not None]
        return max(known) if known and len(known) == len(gains) else None


def kinds(boards: Iterable[Board], cases: Cases) -> list[Kind]:
    """The boards by type and origin, in the order of their first."""
    groups: dict[tuple[str, str], list[Board]] = defaultdict(list)
    for board in boards:
        groups[board.kind, board.origin].append(board)
    return [_kind(name, origin, tuple(group), cases) for (name, origin), group in groups.items()]


def _kind(name: str, origin: str, boards: tuple[Board, ...], cases: Cases) -> Kind:
    found = {metric: figures(boards, cases, metric) for metric in METRICS}
    spreads = {metric: spread(one) for metric, one in found.items() if len(one.values)}
    complete = {id(board) for board in found["tflops"].boards}
    incomplete = tuple(board for board in boards if id(board) not in complete)
    noise = {metric: one.within / math.sqrt(one.figures.processes) for metric, one in spreads.items()}
    return Kind(name, origin, boards, spreads, tuple(outliers(boards, found, noise)), incomplete)


def spread(found: Figures) -> Spread:
    """The spread of one metric over at least one board; one board alone has no interval."""
    values = found.values
    mean = mean_interval(values)
    within = found.within if found.within is not None else RUN_TO_RUN
    seen = float(values.std(ddof=1)) / mean.value if len(values) > 1 else math.nan
    deviation = Interval(seen)
    if len(values) > 1:
        degrees = len(values) - 1
        ends = [math.sqrt(degrees / chi_square(p, degrees)) for p in (0.975, 0.025)]
        deviation = Interval(seen, seen * ends[0], seen * ends[1])
    between = math.sqrt(max(0.0, seen**2 - within**2 / found.processes)) if len(values) > 1 else math.nan
    return Spread(
        found, mean, deviation, between, within, found.within is None, float(np.min(values)), float(np.max(values))
    )
