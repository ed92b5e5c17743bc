"""What a simulated GPU did, as steps of constant target power, with power and energy between them in closed form.

Board power follows its target through one first-order lag, and what the sensor's electronics see follows board power
through another. Within a step both are sums of exponentials, so that any instant's power and any interval's energy are
exact, however finely or coarsely they are asked for.
"""

from __future__ import annotations

from bisect import bisect_right
from math import exp
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

RISE_PER_TAU: Final = 2.1972245773362196
"""A first-order lag climbs from 10 to 90 % in ln 9 time constants."""

SHORTEST_TAU_S: Final = 1e-6


class State(NamedTuple):
    """Physical quantities at one instant. Energies and launches count from the timeline's start.

    power_w: the board's. sensed_w: the same behind the sensor's lag. energy_j, sensed_j: their integrals.
    """

    power_w: float
    sensed_w: float
    energy_j: float
    sensed_j: float
    launches: float


class Slow(NamedTuple):
    """What changes little within a step, as of its beginning, and what the next step moves on from.

    regulated_w: the noiseless demand behind the power cap's lag. capped_s, thermal_s, loaded_s: time spent so.
    """

    regulated_w: float
    temp_c: float
    drift_time: float
    drift_power: float
    capped_s: float
    thermal_s: float
    loaded_s: float


class Regulation(NamedTuple):
    """What holds from the beginning of one step to its end.

    target_w: where board power is heading. demand_w: the same without noise, which the power cap regulates.
    """

    slow: Slow
    target_w: float
    demand_w: float
    launches_per_s: float
    clock_fraction: float
    capped: bool
    reasons: int

    @property
    def temp_c(self) -> float:
        return self.slow.temp_c


class Timeline:
    """Steps in order of time; before the first lies a steady state. Times in seconds on the simulation's clock."""

    def __init__(self, start_s: float, regulation: Regulation, rise_s: float, sensor_rise_s: float) -> None:
        self._rise_tau_s = max(rise_s / RISE_PER_TAU, SHORTEST_TAU_S)
        self._sensor_tau_s = max(sensor_rise_s / RISE_PER_TAU, SHORTEST_TAU_S)
        if abs(self._sensor_tau_s / self._rise_tau_s - 1.0) < 1e-3:
            # Equal lags need another formula; a lag 0.1 % longer cannot be told apart.
            self._sensor_tau_s = self._rise_tau_s * 1.001
        self._through = self._rise_tau_s / (self._rise_tau_s - self._sensor_tau_s)
        self.starts_s = [start_s]
        self.regulations = [regulation]
        self._states = [State(regulation.target_w, regulation.target_w, 0.0, 0.0, 0.0)]
        self.end_s = start_s
        self._columns: tuple[int, Floats, Floats] | None = None

    def __len__(self) -> int:
        return len(self.starts_s)

    def append(self, regulation: Regulation, duration_s: float) -> None:
        """Adds a step from the timeline's end."""
        end_s = self.end_s
        self._states.append(self._after(len(self.starts_s) - 1, end_s))
        self.starts_s.append(end_s)
        self.regulations.append(regulation)
        self.end_s = end_s + duration_s

    def cut(self, time_s: float) -> None:
        """Forgets everything from `time_s` on, so that the next step starts there."""
        while len(self.starts_s) > 1 and self.starts_s[-1] >= time_s:
            self.starts_s.pop()
            self.regulations.pop()
            self._states.pop()
        self.end_s = max(time_s, self.starts_s[0])
        self._columns = None

    def at(self, time_s: float) -> Regulation:
        """What held at `time_s`."""
        return self.regulations[self.step_at(time_s)]

    def step_at(self, time_s: float) -> int:
        """Index of the step that covers `time_s`."""
        return max(bisect_right(self.starts_s, time_s) - 1, 0)

    def state(self, time_s: float) -> State:
        """Powers and integrals at `time_s`."""
        index = bisect_right(self.starts_s, time_s) - 1
        if index < 0:
            power_w = self._states[0].power_w
            past_j = power_w * (time_s - self.starts_s[0])
            return State(power_w, power_w, past_j, past_j, 0.0)
        return self._after(index, time_s)

    def power_and_energy(self, time_s: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Board watts and joules at many instants; arrays in the shape of `time_s`."""
        times = np.asarray(time_s, dtype=np.float64)
        starts, columns = self._arrays()
        index = np.searchsorted(starts, times, side="right") - 1
        before = index < 0
        index = np.maximum(index, 0)
        elapsed_s = times - starts[index]
        target_w, power_w, energy_j = (column[index] for column in columns)
        rise = np.exp(-np.maximum(elapsed_s, 0.0) / self._rise_tau_s)
        gap_w = np.where(before, 0.0, power_w - target_w)
        watts = np.where(before, power_w, target_w + gap_w * rise)
        joules = energy_j + np.where(before, power_w, target_w) * elapsed_s + gap_w * self._rise_tau_s * (1.0 - rise)
        return watts, joules

    def times_of_launches(self, launches: Floats, since_s: float) -> Floats:
        """When those (cumulative, rising) launch counts were reached by the load that began at `since_s`."""
        first = self.step_at(since_s)
        counts = np.array([state.launches for state in self._states[first:]] + [self.state(self.end_s).launches])
        times = np.array([*self.starts_s[first:], self.end_s])
        reached: Floats = np.interp(launches, counts, times)
        return reached

    def _after(self, index: int, time_s: float) -> State:
        """Powers and integrals at `time_s`, by the step of that index: all of a simulation's time is spent here."""
        regulation = self.regulations[index]
        power_w, sensed_w, energy_j, sensed_j, launches = self._states[index]
        elapsed_s = time_s - self.starts_s[index]
        target_w = regulation.target_w
        rise_tau_s, sensor_tau_s = self._rise_tau_s, self._sensor_tau_s
        rise, sensor = exp(-elapsed_s / rise_tau_s), exp(-elapsed_s / sensor_tau_s)
        power_gap_w = power_w - target_w
        through_w = power_gap_w * self._through
        own_w = sensed_w - target_w - through_w
        steady_j = target_w * elapsed_s
        risen_s = rise_tau_s * (1.0 - rise)
        return State(
            target_w + power_gap_w * rise,
            target_w + through_w * rise + own_w * sensor,
            energy_j + steady_j + power_gap_w * risen_s,
            sensed_j + steady_j + through_w * risen_s + own_w * sensor_tau_s * (1.0 - sensor),
            launches + regulation.launches_per_s * elapsed_s,
        )

    def _arrays(self) -> tuple[Floats, Floats]:
        if self._columns is None or self._columns[0] != len(self):
            rows = zip(self.regulations, self._states, strict=True)
            table = np.array([(step.target_w, state.power_w, state.energy_j) for step, state in rows]).T
            self._columns = (len(self), np.array(self.starts_s), table)
        return self._columns[1], self._columns[2]
