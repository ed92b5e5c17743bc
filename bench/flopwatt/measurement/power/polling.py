"""Polls a power sensor: decides what is due when, and finds the instants at which the energy counter changes.

Knows no time but its clock's, so the same code polls a GPU in a process of its own and a simulated one in virtual time.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from flopwatt.measurement.clock import Clock
from flopwatt.measurement.power.collected import (
    SLOW_SPACING_NS,
    TOLERANCE,
    Collected,
    Edge,
    PowerSample,
    SlowSample,
)
from flopwatt.measurement.power.sampler import Samples
from flopwatt.measurement.power.sensor import PowerSensor, SensorLost
from flopwatt.runs.effort import MS, S

NEVER: Final = 1 << 62
"""Due time of a poll that need not come."""

DENSE_NS: Final = 1_500_000
"""Between two readings of the counter while its edge is hunted: the width of the bracket around the edge."""

TICKS: Final = 16
GAPS_NEEDED: Final = 3
SPACINGS_NEEDED: Final = 2
"""The tick period comes from the last edges: up to 16 of them, once they hold three gaps and two spacings' time. Short
ticks thus take more gaps, and a prediction several ticks ahead still falls on the right one."""

OFF_BEAT: Final = 0.25
"""An edge this share of a period away from its prediction refutes the period, which is then learnt anew."""

LEAD_LEAST_NS: Final = 4 * MS
LEAD_MOST_NS: Final = 15 * MS
"""How long before a predicted edge the hunt begins; between them, twice the jitter seen."""

WIDEST_UNKNOWN_NS: Final = 25 * MS
WIDEST_LEAST_NS: Final = 5 * MS
"""A change bracketed more widely than half a tick is no edge: ticks may hide in it. These: the bound while the tick is
unknown, and the least bound."""

PATIENCE_NS: Final = 2 * S
IDLE_NS: Final = 50 * MS
"""A counter that has not changed for this long is read only so often."""

STALLED_TICKS: Final = 5
STALLED_LEAST_NS: Final = 300 * MS
"""A counter has stopped that missed so many ticks, for so long: a stale tick or two is no stop."""

RETRY_LEAST_NS: Final = 10 * MS
RETRY_MOST_NS: Final = 1 * S
"""Until a counter that could not be read is asked again: doubles from the one to the other."""


class _Finder(Protocol):
    """Turns readings of the counter into edges and says when the next reading is worth taking."""

    value: int | None

    @property
    def period_ns(self) -> float:
        """The counter's tick, 0 while unknown."""
        ...

    def see(self, start_ns: int, end_ns: int, value: int, spacing_ns: int) -> Edge | None:
        """Takes a reading whose call lasted from start to end. spacing_ns: edges closer than this are not kept."""
        ...

    def due_ns(self) -> int:
        """When the counter is to be read next."""
        ...

    def hunts(self, now_ns: int) -> bool:
        """Whether an edge is expected about now, so that nothing else should hold up the counter."""
        ...


class EdgeFinder:
    """Finds the edges of a counter that ticks at a period to be learnt (100 ms on most GPUs, 10 ms seen).

    A call that still returned the old value read it after the call began; one that returned the new value read it
    before the call ended. So the change lies between the start of the last old reading and the end of the first new
    one, whatever either call's latency. Readings are dense until the period is learnt, then only around each predicted
    edge that is worth keeping, and dense again from a missed prediction to the next edge.
    """

    def __init__(self) -> None:
        self.value: int | None = None
        self._seen_ns = 0
        self._changed_ns = 0
        self._edges: deque[tuple[int, float]] = deque(maxlen=TICKS)  # number of the tick, its instant
        self._period_ns = 0.0  # while unknown
        self._jitter_ns = 0.0
        self._skips = False  # whether ticks are let pass on the way to the one hunted
        self._due_ns = 0
        self._hunt = (-1, -1)

    @property
    def period_ns(self) -> float:
        return self._period_ns

    def see(self, start_ns: int, end_ns: int, value: int, spacing_ns: int) -> Edge | None:
        edge = None
        dense_ns = DENSE_NS if end_ns - self._changed_ns < PATIENCE_NS else IDLE_NS
        self._due_ns = end_ns + dense_ns
        if self.value is None:
            edge = Edge(start_ns, end_ns, value)  # the reading that later ones are counted from
        elif value != self.value and end_ns - self._seen_ns <= self._widest_ns():
            edge = Edge(self._seen_ns, end_ns, value)
            self._learn((self._seen_ns + end_ns) / 2, spacing_ns)
            self._aim(end_ns, spacing_ns)
        elif value != self.value and not self._skips:
            self._forget()  # a change before the next tick was due, or while it was unknown: who knows how many went by
        if value != self.value:
            self._changed_ns = end_ns
        self.value, self._seen_ns = value, start_ns
        return edge

    def due_ns(self) -> int:
        return self._due_ns

    def hunts(self, now_ns: int) -> bool:
        return self._hunt[0] <= now_ns <= self._hunt[1]

    def _widest_ns(self) -> float:
        return max(WIDEST_LEAST_NS, self._period_ns / 2) if self._period_ns else WIDEST_UNKNOWN_NS

    def _learn(self, edge_ns: float, spacing_ns: int) -> None:
        number = 0
        if self._edges:
            last, last_ns = self._edges[-1]
            gap_ns = edge_ns - last_ns
            number = last + (max(1, round(gap_ns / self._period_ns)) if self._period_ns else 1)
            off_ns = abs(gap_ns - (number - last) * self._period_ns)
            if self._period_ns and off_ns > OFF_BEAT * self._period_ns:
                self._forget()
        self._edges.append((number, edge_ns))
        first, first_ns = self._edges[0]
        enough = number - first >= GAPS_NEEDED and edge_ns - first_ns >= SPACINGS_NEEDED * spacing_ns
        if self._period_ns or enough:
            period_ns = self._period_ns = (edge_ns - first_ns) / (number - first)
            self._jitter_ns = max(abs(t - first_ns - (n - first) * period_ns) for n, t in self._edges)

    def _forget(self) -> None:
        self._edges.clear()
        self._period_ns = 0.0
        self._skips = False

    def _aim(self, now_ns: int, spacing_ns: int) -> None:
        """Sets the hunt for the next edge that would be kept."""
        if not self._period_ns:
            return
        lead_ns = min(LEAD_MOST_NS, max(LEAD_LEAST_NS, DENSE_NS + 2 * self._jitter_ns))
        ticks = max(1, math.ceil(TOLERANCE * spacing_ns / self._period_ns))
        self._skips = ticks > 1
        expected_ns = self._edges[-1][1] + ticks * self._period_ns
        self._hunt = (round(expected_ns - lead_ns), round(expected_ns + lead_ns))
        self._due_ns = max(now_ns + DENSE_NS, self._hunt[0])


class StepReader:
    """Reads a counter that ticks faster than it can be polled (RAPL, about 1 ms) at a fixed spacing.

    The value read was reached within the last tick before the call, or during it.
    """

    def __init__(self, tick_ns: int) -> None:
        self.value: int | None = None
        self.period_ns: float = tick_ns
        self._due_ns = 0

    def see(self, start_ns: int, end_ns: int, value: int, spacing_ns: int) -> Edge | None:
        edge = Edge(start_ns - round(self.period_ns), end_ns, value) if value != self.value else None
        self.value = value
        self._due_ns = end_ns + spacing_ns
        return edge

    def due_ns(self) -> int:
        return self._due_ns

    def hunts(self, now_ns: int) -> bool:
        return False


class Poller:
    """Polls one stretch: the counter around its edges, power and state at 20 Hz, slow quantities at 1 Hz.

    counter_tick_ns: the counter's tick where it is known and too short to find edges of; None to find them.
    """

    def __init__(self, sensor: PowerSensor, clock: Clock, *, counter_tick_ns: int | None = None) -> None:
        self.collected = Collected(sensor.source)
        self._sensor = sensor
        self._clock = clock
        self._finder: _Finder = EdgeFinder() if counter_tick_ns is None else StepReader(counter_tick_ns)
        self._ticks = False
        self._changed_ns = 0
        self._retry_ns = RETRY_LEAST_NS
        self._counter_due_ns = self._power_due_ns = self._slow_due_ns = clock.now_ns()

    def poll(self) -> int:
        """Takes the readings that are due now; when the next one is (absolute ns), NEVER once the sensor is lost."""
        return self._guarded(self._poll_due)

    def finish(self) -> None:
        """Reads power and slow quantities once more, so that throttling up to the end of the stretch is seen."""
        self._guarded(self._poll_last)

    def samples(self) -> Samples:
        """Everything polled so far."""
        return self.collected.samples()

    def _guarded(self, readings: Callable[[], int]) -> int:
        if self.collected.lost is not None:
            return NEVER
        try:
            due_ns = readings()
        except SensorLost as lost:
            self.collected.lost = str(lost) or "the sensor is lost"
            due_ns = NEVER
        self.collected.unreadable = dict(self._sensor.unreadable)
        return due_ns

    def _poll_due(self) -> int:
        now = self._clock.now_ns()
        if now >= self._counter_due_ns:
            self._read_counter()
            now = self._clock.now_ns()
        if self._finder.hunts(now) and self._finder.hunts(self._counter_due_ns):
            return self._counter_due_ns
        if now >= self._power_due_ns:
            self._read_power()
        if now >= self._slow_due_ns:
            self._read_slow()
        return min(self._counter_due_ns, self._power_due_ns, self._slow_due_ns)

    def _poll_last(self) -> int:
        if self.collected.counter_fault is None:
            self.collected.counter_fault = self._stopped(self._clock.now_ns())
        self.collected.power.append(PowerSample(self._clock.now_ns(), self._sensor.read_power()))
        self.collected.slow.append(SlowSample(self._clock.now_ns(), self._sensor.read_slow()))
        return NEVER

    def _read_counter(self) -> None:
        start = self._clock.now_ns()
        value = self._sensor.read_counter()
        end = self._clock.now_ns()
        if value is None:
            self._counter_due_ns = end + self._retry_ns
            self._retry_ns = min(RETRY_MOST_NS, 2 * self._retry_ns)
            return
        self._retry_ns = RETRY_LEAST_NS
        last = self._finder.value
        if last is not None and value < last:
            self.collected.counter_fault = ran_backwards(last, value)
            self._counter_due_ns = NEVER
            return
        if value != last:
            self._ticks = last is not None
            self._changed_ns = end
        edges = self.collected.edges
        edge = self._finder.see(start, end, value, edges.spacing_ns)
        if edge:
            edges.add(edge)
        self.collected.counter_fault = self._stopped(end)
        self._counter_due_ns = self._finder.due_ns()

    def _stopped(self, now_ns: int) -> str | None:
        """Why the counter is no counter by now: it never ticked, or has ceased to; None where it goes on."""
        value, period_ns = self._finder.value, self._finder.period_ns
        if value is None:
            return None
        quiet_ns = now_ns - self._changed_ns
        if not self._ticks:
            return f"does not count: {value} mJ throughout" if quiet_ns > PATIENCE_NS else None
        if quiet_ns <= (max(STALLED_LEAST_NS, STALLED_TICKS * period_ns) if period_ns else PATIENCE_NS):
            return None
        # Asked again since, and refused: then that is why.
        code = self._sensor.unreadable.get("counter") if self._retry_ns > RETRY_LEAST_NS else None
        return f"stopped {quiet_ns / S:.1f} s before the end" + (f": {code}" if code else "")

    def _read_power(self) -> None:
        start = self._clock.now_ns()
        reading = self._sensor.read_power()
        end = self._clock.now_ns()
        self.collected.power.add(PowerSample((start + end) // 2, reading))
        spacing_ns = self.collected.power.spacing_ns
        # Not before a whole spacing, where this reading came late: some parts answer zero if asked within 50 ms.
        self._power_due_ns = max(_next(self._power_due_ns, spacing_ns, end), start + spacing_ns)

    def _read_slow(self) -> None:
        start = self._clock.now_ns()
        reading = self._sensor.read_slow()
        end = self._clock.now_ns()
        self.collected.slow.add(SlowSample((start + end) // 2, reading))
        self._slow_due_ns = _next(self._slow_due_ns, SLOW_SPACING_NS, end)


def ran_backwards(last_mj: int, now_mj: int) -> str:
    """The fault of a counter that fell."""
    return f"fell from {last_mj} to {now_mj} mJ: it was reset, or wrapped"


def _next(due_ns: int, period_ns: int, now_ns: int) -> int:
    """The next due time of a fixed rhythm that lies in the future."""
    return due_ns + (max(0, now_ns - due_ns) // period_ns + 1) * period_ns
