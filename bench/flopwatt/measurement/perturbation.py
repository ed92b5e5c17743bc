"""Whether reading power changes what is measured: throughput with the sampler on against off, in one gap-free load."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np

from flopwatt.measurement.case import hold
from flopwatt.measurement.rig import Prepared, Rig
from flopwatt.runs.effort import S
from flopwatt.runs.stats import Interval, launches_at, student_t

STRETCH_S: Final = 0.4
PAIRS: Final = 12
"""Twelve pairs of 0.4 s: ten seconds of load."""

MARK_S: Final = 0.004
SETTLE_S: Final = 1.0
TARGET: Final = 0.002
"""A sampler that changes throughput by more than this is part of what is measured."""


class _Stretch(NamedTuple):
    start_ns: int
    end_ns: int
    sampling: bool


def measure_perturbation(rig: Rig, prepared: Prepared, *, pairs: int = PAIRS, stretch_s: float = STRETCH_S) -> Interval:
    """Throughput with the sampler on over that with it off, minus 1, with its 95 % interval over pairs of stretches.

    Which of a pair comes first alternates, so that a load which slows down steadily favours neither.
    """
    timer, clock = prepared.timer, rig.clock
    launch_ns = timer.warm_up()
    timer.begin(max(1, round(MARK_S * S / launch_ns)))
    hold(timer, clock, SETTLE_S)
    stretches = []
    for pair in range(pairs):
        for sampling in (True, False) if pair % 2 else (False, True):
            if sampling:
                rig.sampler.start()
            start = clock.now_ns()
            hold(timer, clock, stretch_s)
            stretches.append(_Stretch(start, clock.now_ns(), sampling))
            if sampling:
                rig.sampler.stop()
    load = timer.end().load
    rates = [_rate(launches_at(load, np.array([s.start_ns, s.end_ns], dtype=float)), s) for s in stretches]
    logs = []
    for first in range(0, len(stretches), 2):
        on, off = (first, first + 1) if stretches[first].sampling else (first + 1, first)
        logs.append(math.log(rates[on] / rates[off]))
    # Of logarithms: the mean of ratios themselves is above 1 where both rates merely scatter.
    middle = float(np.mean(logs))
    half = student_t(pairs - 1) * float(np.std(logs, ddof=1)) / math.sqrt(pairs)
    return Interval(math.expm1(middle), math.expm1(middle - half), math.expm1(middle + half))


def _rate(launches: np.ndarray[tuple[int, ...], np.dtype[np.float64]], stretch: _Stretch) -> float:
    return float(launches[1] - launches[0]) / (stretch.end_ns - stretch.start_ns)
