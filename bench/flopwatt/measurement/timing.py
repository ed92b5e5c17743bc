"""What times a load of launches, whatever runs them: a GPU by its events, a CPU by its clock, or a simulation."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from flopwatt.runs.samples import ClockMap, Load


class TimedLoad(NamedTuple):
    """A finished load, its marks in absolute CLOCK_MONOTONIC nanoseconds, and how device time was laid on them."""

    load: Load
    clock_map: ClockMap | None


class Timer(Protocol):
    """Runs one case's launches and says when they completed. Used by one thread.

    A mark is an instant at which a known number of launches had completed. Between marks the device never idles.
    """

    name: str
    """`cuda-graph`, `cuda-event`, `monotonic` or `simulated`: stored, and never mixed in a comparison."""

    def warm_up(self) -> int:
        """Launches until caches and clocks have woken; the nanoseconds of one launch, to size marks with."""
        ...

    def run(self, marks: int, launches_per_mark: int) -> TimedLoad:
        """Exactly `marks` × `launches_per_mark` launches back to back, then waits for them. For bursts."""
        ...

    def begin(self, launches_per_mark: int) -> None:
        """Starts an open-ended load. For sustained measuring, ended by `end`."""
        ...

    def pump(self) -> None:
        """Keeps the load going: call again within a few milliseconds. Returns after about one mark or 1 ms."""
        ...

    def end(self) -> TimedLoad:
        """Stops feeding the load, waits for what was launched, and returns all marks since `begin`."""
        ...
