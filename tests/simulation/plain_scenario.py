from __future__ import annotations

from typing import Any

import msgspec

from flopwatt.measurement.clock import VirtualClock
from flopwatt.measurement.simulation.gpu import SimulatedGpu
from flopwatt.measurement.simulation.kernel import Kernel
from flopwatt.measurement.simulation.scenario import Scenario
from flopwatt.measurement.simulation.sensor import SimulatedSensor

IDLE_W = 50.0
LOAD_W = 350.0

PLAIN: dict[str, dict[str, Any]] = {
    "gpu": {
        "name": "Plain GPU",
        "capability": [8, 0],
        "sm_count": 100,
        "l2_bytes": 40_000_000,
        "memory_bytes": 40_000_000_000,
        "max_clock_mhz": 1400,
        "memory_bytes_per_s": 1.5e12,
        "power_limit_w": 1000,
        "peak_flop_per_s": {"bf16": 300e12, "fp32": 20e12},
    },
    "backends": {"default": {"efficiency": 0.9}},
    "power": {"idle_w": IDLE_W, "context_w": IDLE_W, "compute_w": {"default": LOAD_W - IDLE_W}, "rise_s": 0.0},
    "thermal": {},
    "sensor": {"update_period_s": 0.1, "window_s": 0.025, "phase": 0.0, "latency_s": 0.0},
    "noise": {},
    "faults": {},
}


def plain(**tables: dict[str, Any]) -> Scenario:
    """A noiseless scenario without faults, with these tables' entries put over its own."""
    merged = {name: {**table, **tables.get(name, {})} for name, table in PLAIN.items()}
    return msgspec.convert({"name": "plain", **merged}, Scenario)


def steady_kernel(time_s: float = 1e-3, power_w: float = LOAD_W, idle_w: float = IDLE_W) -> Kernel:
    """A launch of `time_s` that draws exactly `power_w` in a plain scenario."""
    return Kernel(
        stages=((time_s, 0.0),),
        overhead_s=0.0,
        compute_w=power_w - idle_w,
        memory_w=0.0,
        switching_w=0.0,
        context_w=idle_w,
        clock_exponent=2.0,
    )


def watched(scenario: Scenario, **seeds: int) -> tuple[SimulatedGpu, VirtualClock, SimulatedSensor]:
    """A GPU, a clock at 0 and the GPU's sensor on that clock."""
    gpu, clock = SimulatedGpu(scenario, **seeds), VirtualClock()
    return gpu, clock, SimulatedSensor(gpu, clock)
