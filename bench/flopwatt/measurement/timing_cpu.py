"""Times launches on a CPU by CLOCK_MONOTONIC: a launch has completed when its call returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flopwatt.measurement.clock import Clock
from flopwatt.measurement.timing import TimedLoad
from flopwatt.runs.effort import MS
from flopwatt.runs.samples import Load

WARM_LAUNCHES: Final = 3
WARM_NS: Final = 50 * MS


class CpuTimer:
    """Calls `step(i)` for i = 0, 1, 2, … and stamps the clock after each mark's worth."""

    name = "monotonic"

    def __init__(self, step: Callable[[int], None], clock: Clock) -> None:
        self._step = step
        self._clock = clock
        self._count = 0
        self._launches_per_mark = 1
        self._start_count = 0
        self._t_ns: list[int] = []
        self._launches: list[int] = []

    def warm_up(self) -> int:
        """At least 3 launches and 50 ms; the fastest of them, in ns, is what a warm launch takes."""
        best = None
        begun = self._clock.now_ns()
        while self._count < WARM_LAUNCHES or self._clock.now_ns() - begun < WARM_NS:
            start = self._clock.now_ns()
            self._launch(1)
            took = self._clock.now_ns() - start
            best = took if best is None else min(best, took)
            if self._clock.now_ns() - begun > 20 * WARM_NS:
                break
        return max(1, best or 1)

    def run(self, marks: int, launches_per_mark: int) -> TimedLoad:
        self.begin(launches_per_mark)
        for _ in range(marks):
            self.pump()
        return self.end()

    def begin(self, launches_per_mark: int) -> None:
        self._launches_per_mark = launches_per_mark
        self._start_count = self._count
        self._t_ns = [self._clock.now_ns()]
        self._launches = [0]

    def pump(self) -> None:
        self._launch(self._launches_per_mark)
        self._t_ns.append(self._clock.now_ns())
        self._launches.append(self._count - self._start_count)

    def end(self) -> TimedLoad:
        return TimedLoad(Load(t_ns=tuple(self._t_ns), launches=tuple(self._launches)), None)

    def _launch(self, times: int) -> None:
        for _ in range(times):
            self._step(self._count)
            self._count += 1
