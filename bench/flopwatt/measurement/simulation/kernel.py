"""How long a simulated GPU takes over a case and what it would draw: a roofline with tiles, and a power budget.

Compute time falls with the clock, memory time does not; board power is a fixed part, plus memory traffic, plus what
switches with the clock to the power `clock_exponent`. The clock is given as a fraction of the highest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple

from flopwatt.measurement.simulation.scenario import DEFAULT, Scenario, Tile
from flopwatt.runs.records import Case
from gemmkernels.problem import Problem

LOWEST_CLOCK: Final = 0.1
"""No cap or throttle takes the clock below this fraction of the highest."""


class Steady(NamedTuple):
    """What a case comes to once clock and temperature have settled: seconds a launch, board watts, clock fraction."""

    time_s: float
    power_w: float
    clock_fraction: float

    @property
    def energy_j(self) -> float:
        """Joules of one launch."""
        return self.time_s * self.power_w


@dataclass(frozen=True, slots=True)
class Kernel:
    """One launch's demands at the highest clock: seconds of computing and of memory traffic, seconds lost, and watts.

    switching_w: drawn while SMs are busy, whatever they compute. compute_w: on top, at full compute utilisation.
    stages: (compute_s, memory_s) of each GEMM of the launch, in order.
    """

    stages: tuple[tuple[float, float], ...]
    overhead_s: float
    compute_w: float
    memory_w: float
    switching_w: float
    context_w: float
    clock_exponent: float

    def time_s(self, clock: float) -> float:
        """Seconds of one launch at that clock fraction."""
        return self.overhead_s + sum(max(compute_s / clock, memory_s) for compute_s, memory_s in self.stages)

    def demand(self, clock: float) -> tuple[float, float, float]:
        """(seconds a launch, watts that do not depend on the clock, watts that do) at that clock fraction."""
        time_s = self.overhead_s
        computing_s = moving_s = 0.0
        for fastest_s, memory_s in self.stages:
            compute_s = fastest_s / clock
            time_s += compute_s if compute_s > memory_s else memory_s
            computing_s += compute_s
            moving_s += memory_s
        switched_w = clock**self.clock_exponent * (self.switching_w + self.compute_w * computing_s / time_s)
        return time_s, self.context_w + self.memory_w * moving_s / time_s, switched_w


def kernel_for(case: Case, scenario: Scenario) -> Kernel:
    """The demands of one launch of `case`. The case must be one the GPU can run: see `rig.why_not`."""
    power, gpu = scenario.power, scenario.gpu
    stages = tuple(_stage(problem, case, scenario) for problem in case.problems)
    overhead_s = gpu.launch_overhead_s * len(stages) * (1.0 if case.problem else gpu.sequence_overhead)
    # Watts follow the arithmetic done: a partial wave or a small tile takes longer, at less power.
    compute_j = sum(
        problem.flop
        / _highest_flop_per_s(problem, case, scenario)
        * power.compute_w.get(problem.dtype, power.compute_w[DEFAULT])
        for problem in case.problems
    )
    compute_w = compute_j / sum(compute_s for compute_s, _ in stages)
    backend_factor = scenario.backend(case.backend).energy_factor
    return Kernel(
        stages=stages,
        overhead_s=overhead_s,
        compute_w=compute_w * inputs_factor(case.inputs, power.inputs) * backend_factor,
        memory_w=power.memory_w / (gpu.l2_speedup if _fits_l2(case, scenario) else 1.0),
        switching_w=power.active_w,
        context_w=power.context_w,
        clock_exponent=power.clock_exponent,
    )


def inputs_factor(inputs: str, factors: dict[str, float]) -> float:
    """Compute watts on these inputs, relative to normal ones; `sparse:0.3` lies 0.3 of the way from normal to zeros."""
    if inputs in factors:
        return factors[inputs]
    name, _, share = inputs.partition(":")
    if name in factors:
        return factors[name]
    try:
        zeros = float(share) if name == "sparse" else 0.0
    except ValueError:
        zeros = 0.0
    normal = factors.get("normal", 1.0)
    return normal + min(max(zeros, 0.0), 1.0) * (factors.get("zeros", normal) - normal)


def steady(kernel: Kernel, scenario: Scenario) -> Steady:
    """Where clock, temperature and power settle under `kernel`, with no noise, drift or fault."""
    thermal = scenario.thermal

    def settled_w(clock: float) -> float:
        _, fixed_w, switched_w = kernel.demand(clock)
        cold_w = fixed_w + switched_w
        slope = thermal.power_per_c
        gained = 1.0 - cold_w * slope * thermal.c_per_w
        if gained <= 0.05:
            return math.inf
        return cold_w * (1.0 + slope * (thermal.ambient_c - thermal.reference_c)) / gained

    clock = 1.0
    if settled_w(1.0) > scenario.cap_w:
        low, high = LOWEST_CLOCK, 1.0
        for _ in range(60):
            clock = (low + high) / 2
            low, high = (low, clock) if settled_w(clock) > scenario.cap_w else (clock, high)
    return Steady(kernel.time_s(clock), settled_w(clock), clock)


def _fits_l2(case: Case, scenario: Scenario) -> bool:
    return case.cache == "hot" and sum(problem.min_bytes for problem in case.problems) <= scenario.gpu.l2_bytes


def _highest_flop_per_s(problem: Problem, case: Case, scenario: Scenario) -> float:
    """What the backend reaches of this dtype's peak at the highest clock, on a problem that fills the GPU."""
    gpu, backend = scenario.gpu, scenario.backend(case.backend)
    efficiency = backend.efficiency_by_dtype.get(problem.dtype, backend.efficiency)
    peak = gpu.peak_flop_per_s[problem.dtype] * gpu.max_clock_mhz / (gpu.peak_clock_mhz or gpu.max_clock_mhz)
    return peak * efficiency


def _tiles(case: Case, scenario: Scenario) -> tuple[Tile, ...]:
    """The tiles that a kernel chooses the best of; the one that its configuration names, where it does.

    A tile lying either way is as efficient. One that the scenario does not list is as the listed one next in area.
    """
    tiles, config = scenario.gpu.tiles, case.config or {}
    if "BLOCK_M" not in config or "BLOCK_N" not in config:
        return tiles
    m, n = int(config["BLOCK_M"]), int(config["BLOCK_N"])
    like = min(tiles, key=lambda tile: ({tile.m, tile.n} != {m, n}, abs(math.log(tile.m * tile.n / (m * n)))))
    return (Tile(m=m, n=n, efficiency=like.efficiency),)


def _stage(problem: Problem, case: Case, scenario: Scenario) -> tuple[float, float]:
    gpu = scenario.gpu
    flop_per_s_per_sm = _highest_flop_per_s(problem, case, scenario) / gpu.sm_count
    compute_s = math.inf
    for tile in _tiles(case, scenario):
        tiles = -(-problem.m // tile.m) * -(-problem.n // tile.n) * problem.batch
        waves = -(-tiles // gpu.sm_count)
        tile_flop = 2.0 * tile.m * tile.n * (problem.k + gpu.fill_k)
        compute_s = min(compute_s, waves * tile_flop / (flop_per_s_per_sm * tile.efficiency))
    speedup = gpu.l2_speedup if _fits_l2(case, scenario) else 1.0
    memory_s = problem.min_bytes / (gpu.memory_bytes_per_s * gpu.memory_efficiency * speedup)
    return compute_s, memory_s
