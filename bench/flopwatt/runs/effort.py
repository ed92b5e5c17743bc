"""How long a case is held, by effort, and what that costs. The stopping rules are objects with named figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flopwatt.runs.records import Case, EffortName

MS: Final = 1_000_000
S: Final = 1_000_000_000

BURST_REST_S: Final = 2.0
"""Rest before a burst, so that power and temperature history cannot shape it."""

BURST_LOAD_S: Final = 0.025
"""The longest load that still counts as a burst: power control reacts more slowly than this."""

BURST_WARM_FRACTION: Final = 0.2
"""Share of a burst's load that wakes caches and clocks and is not counted."""

SENSOR_PERIODS: Final = 20
"""Sensor periods that a window must span before its energy is believed, beyond one period and the sensor's window."""

STEADY_SPAN_S: Final = 5.0
STEADY_TEMP_C: Final = 0.5
STEADY_POWER: Final = 0.01
"""Steady: over 5 s, temperature within 0.5 °C and power within 1 %."""

SOAK_SPAN_S: Final = 10.0
"""A soak ends once so long was steady: a heat sink of 15 s time constant that moves 0.5 °C in 5 s has 1.5 °C to go."""

ASSUMED_PERIOD_S: Final = 0.1
"""Sensor period for which a window is cut where the sensor is not yet identified, or is faster: power is polled every
50 ms, counter edges are kept no closer than 45 ms, whatever the sensor's own pace. Judging uses what was observed."""

LAUNCHES_LEAST: Final = 4
LAUNCHES_MOST_S: Final = 60.0
"""A window holds so many launches, unless they take longer than that: a rate needs three marks, wherever it begins."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much measuring one case is worth. Less effort shows as a wider interval, never as a hidden bias.

    settle_s: the longest wait for steadiness. steady: whether steadiness is required, else the wait is fixed.
    windows, window_s: sustained windows; 0 means the shortest the sensor allows. soak_s: once a run, before the first
    sustained case. bursts: least and most. cpu_window_s: a CPU has no sensor period, its window is stated.
    cpu_rounds: how often a CPU's windows are measured at most, until the interval is tight.
    tolerance: relative half-width of the 95 % interval of time at which a case may stop early.
    """

    name: EffortName
    settle_s: float
    steady: bool
    windows: int
    window_s: float
    soak_s: float
    bursts: tuple[int, int]
    cpu_window_s: float
    cpu_rounds: int
    tolerance: float
    processes: int

    def window_for(self, period_s: float | None, sensor_window_s: float | None) -> float:
        """Seconds of one sustained window with a sensor of this period, the slower of power's and the counter's, and
        averaging window.
        """
        period = max(period_s or 0.0, ASSUMED_PERIOD_S)
        shortest = (sensor_window_s or 0.0) + period + SENSOR_PERIODS * period
        # Edges are found inside the window: one more period at each end keeps the span between them long enough.
        return max(self.window_s, shortest + 2 * period)


EFFORT: Final[dict[str, Effort]] = {
    "fast": Effort("fast", 0.5, False, 1, 0.0, 3.0, (3, 6), 5.0, 1, 0.01, 1),
    "normal": Effort("normal", 10.0, True, 2, 5.0, 60.0, (5, 10), 5.0, 2, 0.005, 3),
    "publish": Effort("publish", 10.0, True, 2, 10.0, 60.0, (10, 20), 10.0, 2, 0.0025, 5),
}

CPU_WARM_S: Final = 0.5
"""Continuous work before a CPU's sustained window: clocks settle within tens of milliseconds, caches sooner."""

_PREPARE_S: Final = {"cuda": 0.6, "cpu": 1.0}
"""Allocation, compilation and the correctness check of one case; planning only."""

START_S: Final = {"cuda": 12.0, "cpu": 4.0}
"""A process importing torch, on a GPU with its context and idle power; planning only."""

_CPU_FLOP_PER_S: Final = 2e11
_CPU_LAUNCHES: Final = 6
"""A GEMM too large to fit its window many times on a CPU takes this many launches, check included; planning only."""


def estimate_s(case: Case, device_kind: str) -> float:
    """Seconds that a case is expected to take. For plans and budgets; a slow kernel takes longer."""
    effort = EFFORT[case.effort]
    if case.regime == "burst":
        least, most = effort.bursts
        return _PREPARE_S[device_kind] + (least + most) / 2 * (BURST_REST_S + 2 * BURST_LOAD_S)
    if device_kind == "cpu":
        window_s = CPU_WARM_S + effort.windows * effort.cpu_window_s
        return _PREPARE_S[device_kind] + max(window_s, _CPU_LAUNCHES * case.flop / _CPU_FLOP_PER_S)
    return _PREPARE_S[device_kind] + effort.settle_s + effort.windows * effort.window_for(None, None)


def soak_s(case: Case, device_kind: str) -> float:
    """Seconds that a process's first sustained case may hold its load beyond its own settling. A CPU needs none."""
    effort = EFFORT[case.effort]
    return 0.0 if device_kind == "cpu" else max(0.0, effort.soak_s - effort.settle_s)
