"""The simulated GPU itself: loads come and go, and clock, temperature, power and progress follow. The truth is here.

Time advances in steps, short ones after each change of load. Noise is indexed by step, so that how often somebody looks
changes nothing that is seen.
"""

from __future__ import annotations

import math
from math import exp, inf, sqrt
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from flopwatt.measurement.simulation.board import Seeds, draw_board
from flopwatt.measurement.simulation.kernel import LOWEST_CLOCK, Kernel, Steady, kernel_for, steady
from flopwatt.measurement.simulation.scenario import Scenario
from flopwatt.measurement.simulation.timeline import Floats, Regulation, Slow, State, Timeline
from flopwatt.runs.records import Case, case_id
from flopwatt.runs.throttling import REASON_SW_POWER_CAP, REASON_THERMAL

STEPS_S: Final = ((0.2, 0.005), (1.0, 0.02), (inf, 0.05))
"""Length of a step by the time since the load last changed: seconds until which it holds, and its own."""

NOISE_BLOCK: Final = 4096

REASON_IDLE: Final = 0x1
THROTTLE_REASONS: Final = {"hw_slowdown": 0x8, "sw_thermal": 0x20, "hw_thermal": 0x40 | 0x8, "power_brake": 0x80 | 0x8}


class SimulatedGpu:
    """One board of a scenario, at rest since ever at `start_s`. Times are seconds on the simulation's clock.

    `true_power_w`, `true_energy_j` and `steady` are the truth that an estimate is held against.
    """

    def __init__(
        self, scenario: Scenario, *, seed: int = 0, board: int = 0, process: int = 0, start_s: float = 0.0
    ) -> None:
        self.scenario = scenario
        self.seeds = Seeds(seed, board, process)
        self.board = draw_board(scenario, board)
        self.start_s = start_s
        self._noise_rng = self.seeds.generator("drift")
        self._noise = self._noise_rng.standard_normal((NOISE_BLOCK, 2)).tolist()
        self._kernel: Kernel | None = None
        self._demanded = (math.nan, (0.0, 0.0, 0.0))  # the kernel's at the last step's clock
        self._run = (1.0, 1.0)
        self._cap_w = scenario.cap_w
        self._context = False
        self._sampled = False
        self._changed_s = self._load_s = start_s
        self.timeline = Timeline(start_s, self._at_rest(), scenario.power.rise_s, self.board.rise_s)

    # What happens to it

    def open_context(self, time_s: float) -> None:
        """A CUDA context exists from now on: the board rests at `context_w`."""
        if not self._context:
            self._change(time_s)
            self._context = True

    def set_sampled(self, time_s: float, sampled: bool) -> None:
        """Somebody polls the sensor from now on, or no longer: `faults.sampling_slowdown` applies."""
        if self.scenario.faults.sampling_slowdown and sampled != self._sampled:
            self._change(time_s)
        self._sampled = sampled

    def begin(self, time_s: float, kernel: Kernel, run: tuple[float, float] = (1.0, 1.0)) -> None:
        """Launches of `kernel` run back to back from now on. run: this process's factors on time and power."""
        self._change(time_s)
        self._kernel, self._run, self._load_s = kernel, run, time_s
        self._demanded = (math.nan, (0.0, 0.0, 0.0))

    def end(self, time_s: float) -> None:
        """The load is over."""
        self._change(time_s)
        self._kernel = None

    # What it did

    def state(self, time_s: float) -> State:
        """Powers and integrals at an instant."""
        if self.timeline.end_s <= time_s:
            self._reach(time_s)
        return self.timeline.state(time_s)

    def regulation(self, time_s: float) -> Regulation:
        """Clock, temperature and reasons at an instant."""
        if self.timeline.end_s <= time_s:
            self._reach(time_s)
        return self.timeline.at(time_s)

    def throttled_s(self, time_s: float) -> tuple[float, float]:
        """Seconds held down by the power cap, and by heat, since the start."""
        step = self.regulation(time_s)
        since_s = time_s - self.timeline.starts_s[self.timeline.step_at(time_s)]
        capped_s = step.slow.capped_s + (since_s if step.reasons & REASON_SW_POWER_CAP else 0.0)
        return capped_s, step.slow.thermal_s + (since_s if step.reasons & REASON_THERMAL else 0.0)

    def times_of_launches(self, launches: Floats) -> Floats:
        """When the present load completes those counts (rising), counted from the load's beginning; seconds."""
        begin = self.state(self._load_s).launches
        goal = begin + float(launches[-1])
        while self.timeline.state(self.timeline.end_s).launches < goal:
            self._reach(self.timeline.end_s)
        return self.timeline.times_of_launches(begin + launches, self._load_s)

    def launches_since_begin(self, time_s: float) -> float:
        """Launches the present load has completed, fractions included."""
        return self.state(time_s).launches - self.state(self._load_s).launches

    # The truth

    def true_power_w(self, time_s: npt.ArrayLike) -> Floats:
        """Watts the board truly drew at those instants."""
        self._reach(float(np.max(time_s)))
        return self.timeline.power_and_energy(time_s)[0]

    def true_energy_j(self, start_s: npt.ArrayLike, end_s: npt.ArrayLike) -> Floats:
        """Joules the board truly used between those instants."""
        self._reach(float(np.max(end_s)))
        return np.asarray(self.timeline.power_and_energy(end_s)[1] - self.timeline.power_and_energy(start_s)[1])

    def run_factors(self, case: Case) -> tuple[float, float]:
        """This process's draw of the run-to-run spread for `case`: factors on its time and its power."""
        noise = self.scenario.noise
        # The same draw before and after a configuration was chosen for the case.
        rng = self.seeds.generator("run", int(case_id(msgspec.structs.replace(case, config=None)), 16))
        time, power = rng.standard_normal(2).tolist()
        return _factor(noise.run_time * time), _factor(noise.run_power * power)

    def steady(self, case: Case, *, this_run: bool = False) -> Steady:
        """The truth of a sustained `case`: settled, no drift, no faults; over all runs, or with this run's draw."""
        settled = steady(kernel_for(case, self.scenario), self.scenario)
        time, power = self.run_factors(case) if this_run else (1.0, 1.0)
        return Steady(settled.time_s * time, settled.power_w * power, settled.clock_fraction)

    def burst_time_s(self, case: Case, *, this_run: bool = False) -> float:
        """The truth of a burst of `case`: seconds a launch at the highest clock, before any cap acts."""
        return kernel_for(case, self.scenario).time_s(1.0) * (self.run_factors(case)[0] if this_run else 1.0)

    # How it gets there

    def _change(self, time_s: float) -> None:
        self._reach(time_s)
        self.timeline.cut(time_s)
        self._changed_s = time_s

    def _reach(self, time_s: float) -> None:
        timeline = self.timeline
        while (end_s := timeline.end_s) <= time_s:
            since_s = end_s - self._changed_s
            for until_s, step_s in STEPS_S:
                if since_s < until_s:
                    timeline.append(self._next_step(end_s), step_s)
                    break

    def _at_rest(self) -> Regulation:
        scenario = self.scenario
        idle_w = scenario.power.idle_w
        temp_c = scenario.thermal.ambient_c + scenario.thermal.c_per_w * idle_w
        slow = Slow(idle_w, temp_c, 0.0, 0.0, 0.0, 0.0, 0.0)
        return Regulation(slow, idle_w, idle_w, 0.0, 1.0, False, REASON_IDLE)

    def _next_step(self, start_s: float) -> Regulation:
        """The step that begins at `start_s`: the last one's slow quantities moved on, then what the load demands."""
        last = self.timeline.regulations[-1]
        since_s = start_s - self.timeline.starts_s[-1]
        slow = self._moved_on(last, since_s)
        share, extra_w = self._others(start_s)
        if self._kernel is not None:
            return self._loaded(self._kernel, last, slow, start_s, since_s, share, extra_w)
        power = self.scenario.power
        demand_w = (power.context_w if self._context else power.idle_w) + extra_w
        target_w = demand_w * _factor(slow.drift_power)
        return Regulation(slow, target_w, demand_w, 0.0, 1.0, False, 0 if share else REASON_IDLE)

    def _moved_on(self, last: Regulation, since_s: float) -> Slow:
        thermal, noise = self.scenario.thermal, self.scenario.noise
        regulated_w, temp_c, drift_time, drift_power, capped_s, thermal_s, loaded_s = last.slow
        kept = exp(-since_s / noise.drift_correlation_s)
        fresh = sqrt(1.0 - kept * kept)
        time_noise, power_noise = self._noise_of_step(len(self.timeline))
        settled_c = thermal.ambient_c + thermal.c_per_w * last.target_w
        return Slow(
            _settle(regulated_w, last.demand_w, since_s, self.scenario.power.cap_response_s),
            _settle(temp_c, settled_c, since_s, thermal.time_constant_s),
            drift_time * kept + noise.drift_time * fresh * time_noise,
            drift_power * kept + noise.drift_power * fresh * power_noise,
            capped_s + since_s if last.reasons & REASON_SW_POWER_CAP else capped_s,
            thermal_s + since_s if last.reasons & REASON_THERMAL else thermal_s,
            loaded_s + since_s if last.launches_per_s else loaded_s,
        )

    def _others(self, start_s: float) -> tuple[float, float]:
        """Share of the GPU's time that a second process has, and the watts it adds."""
        other = self.scenario.faults.second_process
        if other is None or not other.from_s <= start_s - self.start_s < other.until_s:
            return 0.0, 0.0
        return other.share, other.extra_w

    def _loaded(
        self,
        kernel: Kernel,
        last: Regulation,
        slow: Slow,
        start_s: float,
        since_s: float,
        share: float,
        extra_w: float,
    ) -> Regulation:
        scenario, thermal = self.scenario, self.scenario.thermal
        cap_w, power = self._cap_w, scenario.power
        heat = 1.0 + thermal.power_per_c * (slow.temp_c - thermal.reference_c)
        highest, reasons = self._throttle(slow.loaded_s, start_s)
        clock = min(last.clock_fraction, highest) if last.capped else highest
        if clock != self._demanded[0]:
            self._demanded = (clock, kernel.demand(clock))
        time_s, fixed_w, switched_w = self._demanded[1]
        capped = last.capped or slow.regulated_w > cap_w
        if capped:
            room = max((cap_w - extra_w) / heat - fixed_w, 1e-3) / switched_w
            goal = min(max(clock * room ** (1.0 / power.clock_exponent), LOWEST_CLOCK), highest)
            clock = _settle(clock, goal, since_s, power.cap_response_s)
            capped = clock < highest * 0.9999
            time_s, fixed_w, switched_w = kernel.demand(clock)
            self._demanded = (clock, (time_s, fixed_w, switched_w))
        drawn_w = (fixed_w + switched_w) * heat
        run_time, run_power = self._run
        slowdown = 1.0 + (scenario.faults.sampling_slowdown if self._sampled else 0.0)
        return Regulation(
            slow,
            target_w=drawn_w * run_power * _factor(slow.drift_power) + extra_w,
            demand_w=drawn_w + extra_w,
            launches_per_s=(1.0 - share) / (time_s * run_time * _factor(slow.drift_time) * slowdown),
            clock_fraction=clock,
            capped=capped,
            reasons=reasons | (REASON_SW_POWER_CAP if capped else 0),
        )

    def _throttle(self, loaded_s: float, start_s: float) -> tuple[float, int]:
        highest, reasons = 1.0, 0
        for window in self.scenario.faults.throttle:
            elapsed_s = start_s - self._load_s if window.per_load else loaded_s
            if window.from_s <= elapsed_s < window.from_s + window.duration_s:
                highest = min(highest, window.clock_factor)
                reasons |= THROTTLE_REASONS[window.cause]
        return highest, reasons

    def _noise_of_step(self, index: int) -> list[float]:
        while index >= len(self._noise):
            self._noise.extend(self._noise_rng.standard_normal((NOISE_BLOCK, 2)).tolist())
        pair: list[float] = self._noise[index]
        return pair


def _factor(deviation: float) -> float:
    return max(1.0 + deviation, 0.2)


def _settle(value: float, goal: float, elapsed_s: float, tau_s: float) -> float:
    return goal + (value - goal) * exp(-elapsed_s / tau_s)
