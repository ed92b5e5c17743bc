"""Polls counter and power as fast as makes sense, keeping changes alone: for identifying a sensor, never for a run.

Clocks, temperature and reasons are left out, slow quantities are read once a second: a call more is a bracket wider.
Knows no time but its clock's, as `polling` does.
"""

from __future__ import annotations

from typing import Final

from flopwatt.measurement.clock import Clock
from flopwatt.measurement.power.collected import SLOW_SPACING_NS, Collected, Edge, PowerSample, SlowSample
from flopwatt.measurement.power.polling import NEVER, ran_backwards
from flopwatt.measurement.power.sampler import Samples
from flopwatt.measurement.power.sensor import PowerReading, PowerSensor, SensorLost
from flopwatt.runs.effort import MS

SPACING_NS: Final = 3 * MS // 2
"""Between two readings: instants of updates are then known to ±0.75 ms, which costs a window of 25 ms about 1 %."""

ZEROS_IN_A_ROW: Final = 20
"""So many readings of 0 W in a row are no chance (one reading in two would have to be zero at random)."""

SLOW_NS: Final = 60 * MS
SLOWEST_NS: Final = 1000 * MS
"""Some parts answer 0 W when asked more often than every 50 ms: power is then read so seldom, and doubly so again."""

CALLS_KEPT: Final = 400
"""Calls whose duration enters the latency."""


class DensePoller:
    """Polls one stretch densely. Of power readings in a row that are alike only the first and the last are kept.

    So two neighbours in the trace that differ bracket an update.
    """

    def __init__(self, sensor: PowerSensor, clock: Clock) -> None:
        self.collected = Collected(sensor.source, dense=True)
        self._sensor = sensor
        self._clock = clock
        self._counter: tuple[int, int] | None = None  # start of the last reading, its value
        self._power_due_ns = 0
        self._slow_due_ns = 0
        self._spacing_ns = SPACING_NS
        self._zeros = 0
        self._calls: list[int] = []

    def poll(self) -> int:
        """Reads what is due; when the next reading is (absolute ns), NEVER once the sensor is lost."""
        if self.collected.lost is not None:
            return NEVER
        begun_ns = self._clock.now_ns()
        try:
            self._read_counter()
            if begun_ns >= self._power_due_ns:
                self._power_due_ns = begun_ns + self._spacing_ns
                self._read_power()
            if begun_ns >= self._slow_due_ns:
                self._slow_due_ns = begun_ns + SLOW_SPACING_NS
                self.collected.slow.add(SlowSample(begun_ns, self._sensor.read_slow()))
        except SensorLost as lost:
            self.collected.lost = str(lost) or "the sensor is lost"
            return NEVER
        self.collected.unreadable = dict(self._sensor.unreadable)
        return begun_ns + SPACING_NS

    def finish(self) -> None:
        """Nothing is left to read."""

    def samples(self) -> Samples:
        """Everything kept so far."""
        return self.collected.samples()

    def _read_counter(self) -> None:
        start = self._clock.now_ns()
        value = self._sensor.read_counter()
        end = self._clock.now_ns()
        if value is None:
            return
        self._took(end - start)
        if self._counter is None:
            self.collected.edges.append(Edge(start, end, value))
        elif value < self._counter[1]:
            self.collected.counter_fault = ran_backwards(self._counter[1], value)
        elif value != self._counter[1]:
            self.collected.edges.append(Edge(self._counter[0], end, value))
        self._counter = (start, value)

    def _read_power(self) -> None:
        start = self._clock.now_ns()
        reading = self._sensor.read_watts()
        end = self._clock.now_ns()
        if self._counter is None:
            self._took(end - start)
        entries, sample = self.collected.power.entries, PowerSample((start + end) // 2, reading)
        if len(entries) > 1 and _watts(entries[-2].reading) == _watts(entries[-1].reading) == _watts(reading):
            entries[-1] = sample
        else:
            self.collected.power.append(sample)
        self._count_zeros(reading)

    def _count_zeros(self, reading: PowerReading) -> None:
        """Slows down where a run of zeros says that the sensor is asked too often."""
        self._zeros = self._zeros + 1 if 0 in _watts(reading) else 0
        if self._zeros >= ZEROS_IN_A_ROW and self._spacing_ns < SLOWEST_NS:
            self._spacing_ns = max(SLOW_NS, 2 * self._spacing_ns)
            self._power_due_ns = self._clock.now_ns() + self._spacing_ns
            self._zeros = 0

    def _took(self, duration_ns: int) -> None:
        """Keeps the median duration of a call: of the counter's, or of power's where there is no counter."""
        if len(self._calls) < CALLS_KEPT:
            self._calls.append(duration_ns)
            self.collected.call_ns = sorted(self._calls)[len(self._calls) // 2]


def _watts(reading: PowerReading) -> tuple[int | None, int | None]:
    return reading.instant_mw, reading.average_mw
