"""The time that measuring is done in: CLOCK_MONOTONIC, or a virtual one in which waiting costs nothing."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Nanoseconds on a clock that never steps, and waiting on it."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary origin."""
        ...

    def sleep_ns(self, duration_ns: int) -> None:
        """Waits; returns at once for a duration of 0 or less."""
        ...


class MonotonicClock:
    """CLOCK_MONOTONIC, which every process of one machine shares."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_ns(self, duration_ns: int) -> None:
        if duration_ns > 0:
            time.sleep(duration_ns * 1e-9)


class VirtualClock:
    """Time that moves only when somebody waits: a simulated 10 s window costs microseconds."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_ns(self, duration_ns: int) -> None:
        if duration_ns > 0:
            self._now_ns += duration_ns
