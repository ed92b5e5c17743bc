"""Samples kept while polling: bounded in number, thinned where they are old, and turned into traces on request."""

from __future__ import annotations

from typing import Final, Generic, NamedTuple, TypeVar

from flopwatt.measurement.power.sampler import Samples
from flopwatt.measurement.power.sensor import PowerReading, SlowReading
from flopwatt.runs.effort import MS, S
from flopwatt.runs.samples import CounterTrace, PowerTrace, SlowTrace

KEPT: Final = 400
"""Entries of a kind that a stretch keeps at most: a record of its windows then stays within tens of kilobytes."""

KEPT_DENSE: Final = 20_000
"""The same for a stretch of dense polling, which identifies a sensor: every tick of two minutes, and more."""

RECENT_NS: Final = 25 * S
"""The end of a stretch, where its windows lie: thinned only where thinning all before it was not enough."""

COUNTER_SPACING_NS: Final = 45 * MS
POWER_SPACING_NS: Final = 50 * MS
SLOW_SPACING_NS: Final = 1 * S
TOLERANCE: Final = 0.9
"""An entry is kept that comes this much of a spacing after the last: polls never fall due to the nanosecond."""


class Edge(NamedTuple):
    """A change of the energy counter, to energy_mj, that happened in (before_ns, t_ns]."""

    before_ns: int
    t_ns: int
    energy_mj: int


class PowerSample(NamedTuple):
    """A reading of power and state, and the middle of the call that gave it."""

    t_ns: int
    reading: PowerReading


class SlowSample(NamedTuple):
    """A reading of the slow quantities, and the middle of the call that gave it."""

    t_ns: int
    reading: SlowReading


Entry = TypeVar("Entry", Edge, PowerSample, SlowSample)


class Thinned(Generic[Entry]):
    """At most `kept` entries: when full, every other old one goes, and if that is not enough, every other of all.

    The first and the last stay. Thinning depends on the entries alone, so two copies fed alike stay alike; energy
    between two kept counter edges stays exact. spacing_ns: the least time between two entries, doubled as they thin.
    """

    def __init__(self, spacing_ns: int, kept: int = KEPT) -> None:
        self.entries: list[Entry] = []
        self.spacing_ns = spacing_ns
        self._kept = kept

    def add(self, entry: Entry) -> bool:
        """Keeps the entry unless it comes too soon after the last; whether it was kept."""
        if self.entries and entry.t_ns - self.entries[-1].t_ns < TOLERANCE * self.spacing_ns:
            return False
        self.append(entry)
        return True

    def append(self, entry: Entry) -> None:
        """Keeps the entry however soon it comes."""
        if len(self.entries) >= self._kept:
            self._thin(entry.t_ns - RECENT_NS)
        self.entries.append(entry)

    def _thin(self, recent_from_ns: int) -> None:
        old = sum(entry.t_ns < recent_from_ns for entry in self.entries)
        self.entries[:old] = self.entries[:old:2]
        if len(self.entries) > self._kept * 7 // 8:
            self.entries[:] = self.entries[::2]
            self.spacing_ns *= 2


class Collected:
    """What one stretch of polling has gathered. Written by whoever polls; `samples` may be asked for at any time.

    dense: made to keep every change of a dense poller. call_ns: median duration of a call, where it was measured.
    """

    def __init__(self, source: str, *, dense: bool = False) -> None:
        self.source = source
        kept = KEPT_DENSE if dense else KEPT
        self.edges: Thinned[Edge] = Thinned(COUNTER_SPACING_NS, kept)
        self.power: Thinned[PowerSample] = Thinned(POWER_SPACING_NS, kept)
        self.slow: Thinned[SlowSample] = Thinned(SLOW_SPACING_NS)
        self.unreadable: dict[str, str] = {}
        self.counter_fault: str | None = None
        self.lost: str | None = None
        self.call_ns: int | None = None

    def samples(self) -> Samples:
        """The traces so far. A counter at fault is left out, and `unreadable` says why."""
        fault = {"counter": self.counter_fault} if self.counter_fault else {}
        return Samples(
            source=self.source,
            counter=None if fault else _counter_trace(self.edges.entries),
            power=_power_trace(self.power.entries),
            slow=_slow_trace(self.slow.entries),
            unreadable={**self.unreadable, **fault},
            lost=self.lost,
            call_ns=self.call_ns,
        )


def _counter_trace(edges: list[Edge]) -> CounterTrace | None:
    if not edges:
        return None
    before_ns, t_ns, energy_mj = zip(*edges, strict=True)
    return CounterTrace(before_ns=before_ns, t_ns=t_ns, energy_mj=energy_mj)


def _power_trace(samples: list[PowerSample]) -> PowerTrace | None:
    if not samples:
        return None
    columns = zip(*(sample.reading for sample in samples), strict=True)
    instant, average, clock, temperature, reasons, stamps = kept = [_unless_empty(column) for column in columns]
    if not any(kept):
        return None
    stamp_origin_us = next((stamp for stamp in stamps if stamp is not None), None)
    return PowerTrace(
        t_ns=tuple(sample.t_ns for sample in samples),
        instant_mw=instant,
        average_mw=average,
        clock_mhz=clock,
        temp_c=temperature,
        reasons=reasons,
        stamp_us=tuple(None if stamp is None else stamp - (stamp_origin_us or 0) for stamp in stamps),
        stamp_origin_us=stamp_origin_us,
    )


def _slow_trace(samples: list[SlowSample]) -> SlowTrace | None:
    if not samples:
        return None
    columns = zip(*(sample.reading for sample in samples), strict=True)
    limit, power, thermal, memory = kept = [_unless_empty(column) for column in columns]
    if not any(kept):
        return None
    return SlowTrace(
        t_ns=tuple(sample.t_ns for sample in samples),
        power_limit_mw=limit,
        power_violation_ns=power,
        thermal_violation_ns=thermal,
        memory_clock_mhz=memory,
    )


def _unless_empty(column: tuple[int | None, ...]) -> tuple[int | None, ...]:
    """A quantity that was never readable takes no room."""
    return column if any(value is not None for value in column) else ()
