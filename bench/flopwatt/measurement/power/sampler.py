"""What polls a power sensor beside a running kernel, whichever process it lives in."""

from __future__ import annotations

from typing import Protocol

import msgspec

from flopwatt.runs.samples import CounterTrace, PowerTrace, SlowTrace


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """Everything polled since `start`, times on CLOCK_MONOTONIC in nanoseconds (no origin subtracted).

    source: the sensor's. lost: why the sensor went away, None while it answers. call_ns: median duration of a call,
    measured by dense polling alone.
    """

    source: str
    counter: CounterTrace | None = None
    power: PowerTrace | None = None
    slow: SlowTrace | None = None
    unreadable: dict[str, str] = {}
    lost: str | None = None
    call_ns: int | None = None


class Sampler(Protocol):
    """Polls a sensor from `start` to `stop`, never on the thread that launches kernels."""

    source: str
    """The sensor's: `nvml`, `rapl`, `simulated`, or `none` where there is nothing to poll."""

    def start(self, *, dense: bool = False) -> None:
        """Begins polling afresh: nothing of an earlier stretch is kept. dense: as `dense.DensePoller` does."""
        ...

    def peek(self) -> Samples:
        """What has been polled so far, without stopping. Costs the caller microseconds, not a sensor's latency."""
        ...

    def stop(self) -> Samples:
        """Ends polling and returns all of it."""
        ...

    def close(self) -> None:
        """Ends the polling process and waits for it."""
        ...
