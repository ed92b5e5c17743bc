"""The simulated power sensor: a window's mean on an update grid, late, with gain and offset, and a ticking counter."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import numpy as np

from flopwatt.measurement.clock import Clock
from flopwatt.measurement.power.sensor import PowerReading, SensorLost, SlowReading
from flopwatt.measurement.simulation.gpu import SimulatedGpu
from flopwatt.measurement.simulation.scenario import Quantity

UNREADABLE_KEY: Final[dict[Quantity, str]] = {
    "counter": "counter",
    "instant": "instant_mw",
    "average": "average_mw",
    "clock": "clock_mhz",
    "temp": "temp_c",
    "reasons": "reasons",
    "power_limit": "power_limit_mw",
    "power_violation": "power_violation_ns",
    "thermal_violation": "thermal_violation_ns",
    "memory_clock": "memory_clock_mhz",
}
"""A scenario's word for a quantity → the name under which `unreadable` reports it, as for a real sensor."""

CLOCK_STEP_MHZ: Final = 15
JITTER_LIMIT: Final = 0.45
"""No update moves further than this part of a period from its place in the grid, so that none overtakes another."""


class _Grid:
    """Instants one period apart from a phase on, each moved by its own jitter; made as far as they are asked for."""

    def __init__(
        self, rng: np.random.Generator, start_s: float, period_s: float, jitter_s: float, phase: float | None
    ) -> None:
        self._rng = rng
        self._period_s = period_s
        self._jitter_s = jitter_s
        self._next_s = start_s + period_s * ((rng.random() if phase is None else phase) - 1.0)
        self.times_s: list[float] = []
        self._add()

    def reach(self, time_s: float) -> None:
        """Makes every instant up to `time_s`, and at least one after it."""
        while self.times_s[-1] <= time_s:
            self._add()

    def _add(self) -> None:
        limit_s = JITTER_LIMIT * self._period_s
        jitter_s = min(max(self._jitter_s * self._rng.standard_normal(), -limit_s), limit_s)
        self.times_s.append(self._next_s + jitter_s)
        self._next_s += self._period_s


class SimulatedSensor:
    """A `PowerSensor` over a simulated GPU, read at the time of `clock`.

    Two sensors over one GPU show the same updates, as two handles of one driver do. A reading takes `sensor.latency_s`
    of the clock's time. Raises SensorLost once `faults.lost_after_s` or `faults.sensor_lost_after_s` has passed.
    """

    source = "simulated"

    def __init__(self, gpu: SimulatedGpu, clock: Clock) -> None:
        self._gpu = gpu
        self._clock = clock
        sensor = self._sensor = gpu.scenario.sensor
        board = self._board = gpu.board
        self.unreadable: dict[str, str] = {}
        self._codes: dict[Quantity, str] = {}
        self._codes.update(dict.fromkeys(sensor.no_permission, "NO_PERMISSION"))
        self._codes.update(dict.fromkeys(sensor.unsupported, "NOT_SUPPORTED"))
        if board.average_window_s is None:
            self._codes["average"] = "NOT_SUPPORTED"
        self._stale_rng = gpu.seeds.generator("stale")
        self._zero_rng = gpu.seeds.generator("zero")
        self._updates = self._ticks = _Grid(
            gpu.seeds.generator("updates"), gpu.start_s, board.update_period_s, sensor.update_jitter_s, sensor.phase
        )
        if sensor.counter_tick_s is not None and abs(sensor.counter_tick_s - board.update_period_s) > 1e-9:
            self._ticks = _Grid(
                gpu.seeds.generator("ticks"), gpu.start_s, sensor.counter_tick_s, sensor.update_jitter_s, sensor.phase
            )
        self._instant_w: list[float] = []
        self._average_w: list[float] = []
        self._held_j: list[float] = []
        self._counter_mj: list[int] = []
        self._counter_origin_mj = int(gpu.seeds.generator("counter").integers(10**6, 10**12))
        self._last_power_s = -np.inf
        self._latency_ns = round(sensor.latency_s * 1e9)
        faults = gpu.scenario.faults
        self._lost_s, self._alone_lost_s, self._resets_s, self._stops_s = (
            np.inf if after_s is None else gpu.start_s + after_s
            for after_s in (
                faults.lost_after_s,
                faults.sensor_lost_after_s,
                faults.counter_resets_at_s,
                faults.counter_stops_after_s,
            )
        )
        # What is shown, and when the next tick or update will replace it: most polls come in between.
        self._counter_until_s = self._power_until_s = -np.inf
        self._counter_shown_mj = self._instant_shown_mw = self._average_shown_mw = 0

    def read_counter(self) -> int | None:
        """Millijoules at the last tick that has been reported."""
        time_s = self._begin_reading()
        if self._refused("counter", time_s):
            return None
        visible_s = time_s - self._board.counter_delay_s
        if visible_s >= self._counter_until_s:
            self._tick_until(visible_s)
            ticks = bisect_right(self._ticks.times_s, visible_s)
            self._counter_shown_mj = self._counter_mj[max(ticks - 1, 0)]
            self._counter_until_s = self._ticks.times_s[ticks]
        return self._as_counted(self._counter_shown_mj)

    def read_power(self) -> PowerReading:
        """The last update that has been reported, and the state of the GPU now."""
        time_s = self._begin_reading()
        reading, gpu = self._watts(time_s), self._gpu
        step = gpu.regulation(time_s)
        chip = gpu.scenario.gpu
        clock_mhz = chip.idle_clock_mhz
        if step.launches_per_s:
            clock_mhz = round(step.clock_fraction * chip.max_clock_mhz / CLOCK_STEP_MHZ) * CLOCK_STEP_MHZ
        return reading._replace(
            clock_mhz=None if self._refused("clock", time_s) else clock_mhz,
            temp_c=None if self._refused("temp", time_s) else round(step.temp_c),
            reasons=None if self._refused("reasons", time_s) else step.reasons,
        )

    def read_watts(self) -> PowerReading:
        """The last update that has been reported, without the state."""
        return self._watts(self._begin_reading())

    def _watts(self, time_s: float) -> PowerReading:
        sensor = self._sensor
        visible_s = time_s - self._board.delay_s
        if visible_s >= self._power_until_s:
            self._measure_until(visible_s)
            updates = bisect_right(self._updates.times_s, visible_s)
            index = max(updates - 1, 0)
            self._instant_shown_mw = round(self._instant_w[index] * 1e3)
            self._average_shown_mw = round(self._average_w[index] * 1e3)
            self._power_until_s = self._updates.times_s[updates]
        zero = time_s - self._last_power_s < sensor.zero_if_polled_within_s
        zero = (sensor.zero > 0 and self._zero_rng.random() < sensor.zero) or zero
        zeros = self._gpu.scenario.faults.zeros
        zero = zero or (zeros is not None and zeros.from_s <= time_s - self._gpu.start_s < zeros.until_s)
        self._last_power_s = time_s
        return PowerReading(
            instant_mw=None if self._refused("instant", time_s) else 0 if zero else self._instant_shown_mw,
            average_mw=None if self._refused("average", time_s) else 0 if zero else self._average_shown_mw,
        )

    def read_slow(self) -> SlowReading:
        """The power limit, and how long power and heat have held the clock down."""
        time_s = self._begin_reading()
        chip = self._gpu.scenario.gpu
        capped_s, thermal_s = self._gpu.throttled_s(time_s)
        return SlowReading(
            power_limit_mw=None if self._refused("power_limit", time_s) else round(chip.power_limit_w * 1e3),
            power_violation_ns=None if self._refused("power_violation", time_s) else round(capped_s * 1e9),
            thermal_violation_ns=None if self._refused("thermal_violation", time_s) else round(thermal_s * 1e9),
            memory_clock_mhz=None if self._refused("memory_clock", time_s) else chip.memory_clock_mhz,
        )

    def close(self) -> None:
        """Nothing to release."""

    def _begin_reading(self) -> float:
        self._clock.sleep_ns(self._latency_ns)
        time_s = self._clock.now_ns() * 1e-9
        if time_s >= self._lost_s:
            raise SensorLost("GPU_IS_LOST")
        if time_s >= self._alone_lost_s:
            raise SensorLost(self._gpu.scenario.faults.sensor_lost_code)
        return time_s

    def _refused(self, quantity: Quantity, time_s: float) -> bool:
        code = self._codes.get(quantity)
        unknown = self._gpu.scenario.faults.unknown
        if code is None and unknown is not None and quantity in unknown.quantities:
            code = "UNKNOWN" if unknown.from_s <= time_s - self._gpu.start_s < unknown.until_s else None
        if code is None:
            return False
        self.unreadable[UNREADABLE_KEY[quantity]] = code
        return True

    def _measure_until(self, time_s: float) -> None:
        """Evaluates every update up to `time_s`, and always the first."""
        self._updates.reach(time_s)
        times_s = self._updates.times_s
        for index in range(len(self._instant_w), max(1, bisect_right(times_s, time_s))):
            update_s = times_s[index]
            if index:
                held_w = self._instant_w[-1]
                self._held_j.append(self._held_j[-1] + held_w * (update_s - times_s[index - 1]))
                if self._sensor.stale and self._stale_rng.random() < self._sensor.stale:
                    self._instant_w.append(held_w)
                    self._average_w.append(self._average_w[-1])
                    continue
            else:
                self._held_j.append(0.0)
            sensed_j, average_s = self._gpu.state(update_s).sensed_j, self._board.average_window_s
            instant_w = self._window_mean_w(update_s, sensed_j, self._board.window_s)
            self._instant_w.append(instant_w)
            self._average_w.append(self._window_mean_w(update_s, sensed_j, average_s) if average_s else instant_w)

    def _window_mean_w(self, end_s: float, sensed_j: float, window_s: float) -> float:
        sensed_j -= self._gpu.state(end_s - window_s).sensed_j
        return max(self._board.gain * sensed_j / window_s + self._board.offset_w, 0.0)

    def _tick_until(self, time_s: float) -> None:
        """Evaluates every counter tick up to `time_s`, and always the first."""
        self._ticks.reach(time_s)
        times_s = self._ticks.times_s
        for tick_s in times_s[len(self._counter_mj) : max(1, bisect_right(times_s, time_s))]:
            before_mj = self._counter_mj[-1] if self._counter_mj else self._counter_origin_mj
            counted_mj = self._counter_origin_mj + int(self._counted_j(tick_s) * 1e3)
            if self._sensor.counter_stale and self._stale_rng.random() < self._sensor.counter_stale:
                counted_mj = before_mj
            if tick_s >= self._stops_s:
                counted_mj = before_mj
            elif tick_s >= self._resets_s:
                self._resets_s = np.inf
                self._counter_origin_mj -= counted_mj
                counted_mj = before_mj = 0
            self._counter_mj.append(max(counted_mj, before_mj))

    def _as_counted(self, millijoules: int) -> int:
        """In the counter's whole steps, and modulo the energy at which it begins anew."""
        step_mj = round(self._sensor.counter_step_j * 1e3)
        wraps_j = self._sensor.counter_wraps_at_j
        if wraps_j is not None:
            millijoules %= round(wraps_j * 1e3)
        return millijoules // step_mj * step_mj

    def _counted_j(self, time_s: float) -> float:
        board = self._board
        if self._sensor.counter_covers_all_time:
            sensed_j = self._gpu.state(time_s).sensed_j
            return board.counter_gain * (board.gain * sensed_j + board.offset_w * (time_s - self._gpu.start_s))
        self._measure_until(time_s)
        last = max(bisect_right(self._updates.times_s, time_s) - 1, 0)
        held_j = self._held_j[last] + self._instant_w[last] * (time_s - self._updates.times_s[last])
        return board.counter_gain * held_j
