"""Was a measurement interrupted: the process stopped (SIGSTOP, a frozen container) or the machine put to sleep.

A chip that idled in the middle of its load has cooled and clocked down: the case is measured again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flopwatt.measurement.timing import TimedLoad
from flopwatt.runs.effort import S

TASKS: Final = Path("/proc/self/task")

PAUSE_LEAST_S: Final = 0.25
"""A launch that an interrupt or a busy machine delays is noise, and widens the interval; this is longer than any."""

PAUSE_LEAST: Final = 3.0
"""A step between two marks with a pause in it takes so many times as long as usual: those of a slow kernel are seconds
apart by themselves, and a machine that becomes busy may take twice as long over each."""

SLEEP_LEAST_S: Final = 0.05
"""CLOCK_BOOTTIME and CLOCK_MONOTONIC are read one after the other, with anything in between."""

BRIEF: Final = 0.1
"""Share of the time under load: a pause within it, as on a busy machine, is noise, which the interval shows."""


class Interruption(NamedTuple):
    """What interrupted a measurement, in words. brief: its figures may stand, marked."""

    reason: str
    brief: bool


class Presence:
    """How much of the time since it was made this process wanted a core: one that is stopped or frozen wants none."""

    def __init__(self) -> None:
        self._begun_ns = time.monotonic_ns()
        self._before_ns = _wanted_ns()

    def absent_s(self) -> float | None:
        """Seconds in which its busiest thread neither ran nor waited for a core; None where that is not told."""
        after_ns = _wanted_ns()
        if not after_ns:
            return None
        wanted_ns = max(total_ns - self._before_ns.get(thread, 0) for thread, total_ns in after_ns.items())
        return (time.monotonic_ns() - self._begun_ns - wanted_ns) / S


def _wanted_ns() -> dict[str, int]:
    """Of each thread of this process, how long it has run or waited to; Linux, `schedstat`."""
    try:
        found = {task.name: (task / "schedstat").read_text().split() for task in TASKS.iterdir()}
    except OSError:  # a kernel without it, or a thread that has just ended
        return {}
    return {thread: int(ran_ns) + int(waited_ns) for thread, (ran_ns, waited_ns, _) in found.items()}


def interruption(loads: Sequence[TimedLoad], suspended_s: float, absent_s: float | None = None) -> Interruption | None:
    """What interrupted a measurement with these loads; None for nothing.

    suspended_s: how long the machine slept meanwhile. absent_s: where this process is itself the load, how long it was
    stopped at most, and not only waiting for its turn; None where that is not known.
    """
    if suspended_s >= SLEEP_LEAST_S:
        return Interruption(f"the machine slept for {suspended_s:.1f} s while the case was measured", False)
    usual_s, delay_s = _steps(loads)
    pauses_s = delay_s[(delay_s > PAUSE_LEAST_S) & (usual_s + delay_s > PAUSE_LEAST * usual_s)]
    if not pauses_s.size:
        return None
    longest_s = float(pauses_s.max())
    stopped_s = longest_s if absent_s is None else min(longest_s, absent_s)
    reason = f"the measuring process was stopped, or starved, for {longest_s:.1f} s under load"
    return Interruption(reason, stopped_s <= BRIEF * float((usual_s + delay_s).sum()))


def _steps(loads: Sequence[TimedLoad]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each step between two marks the seconds that its launches usually take, and by how much it exceeds them."""
    took_s = np.concatenate([[], *(np.diff(timed.load.t_ns) / S for timed in loads)])
    launches = np.concatenate([[], *(np.diff(timed.load.launches) for timed in loads)])
    took_s, launches = took_s[launches > 0], launches[launches > 0]
    usual_s = launches * np.median(took_s / launches) if took_s.size else took_s
    return usual_s, took_s - usual_s
