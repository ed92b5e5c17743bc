"""The time that measuring is done in: CLOCK_MONOTONIC, or a virtual one in which waiting costs nothing."""

from __future__ import annotations

import time
from typing import Final, Protocol

LOOKS: Final = 5


class Clock(Protocol):
    """Nanoseconds on a clock that never steps, and waiting on it."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary origin."""
        ...

    def sleep_ns(self, duration_ns: int) -> None:
        """Waits; returns at once for a duration of 0 or less."""
        ...

    def suspended_ns(self) -> int:
        """How long the machine has been asleep so far, which `now_ns` does not count."""
        ...


class MonotonicClock:
    """CLOCK_MONOTONIC, which every process of one machine shares."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    def sleep_ns(self, duration_ns: int) -> None:
        if duration_ns > 0:
            time.sleep(duration_ns * 1e-9)

    def suspended_ns(self) -> int:
        # Two clocks cannot be read at once: of several looks, the one with the least in between.
        return min(_look() for _ in range(LOOKS))[1]


def _look() -> tuple[int, int]:
    """How long it took to look, and by how much CLOCK_BOOTTIME is ahead of CLOCK_MONOTONIC, in ns."""
    before_ns = time.monotonic_ns()
    uptime_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    took_ns = time.monotonic_ns() - before_ns
    return took_ns, uptime_ns - before_ns - took_ns // 2


class VirtualClock:
    """Time that moves only when somebody waits: a simulated 10 s window costs microseconds."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        return self._now_ns

    def sleep_ns(self, duration_ns: int) -> None:
        if duration_ns > 0:
            self._now_ns += duration_ns

    def suspended_ns(self) -> int:
        return 0
