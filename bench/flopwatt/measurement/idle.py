"""A rig's idle watts: how long it rests for them, and their mean."""

from __future__ import annotations

from typing import Final

from flopwatt.measurement.clock import Clock
from flopwatt.measurement.power.sampler import Sampler
from flopwatt.runs.effort import S

IDLE_S: Final = 1.0
"""How long idle power is watched, before and after there is a CUDA context."""

SETTLE_S: Final = 0.5
"""What a sensor may take to show that a context was made: its rise and its reporting delay together."""

AFTER_REST_S: Final = 2.0
"""Rest between the last load and the reading of idle power: a running average over a second must have left it."""


def idle_watts(clock: Clock, sampler: Sampler, rest_s: float = SETTLE_S) -> float | None:
    """Mean watts of a second after a rest; None where power cannot be read."""
    clock.sleep_ns(round(rest_s * S))
    sampler.start()
    clock.sleep_ns(round(IDLE_S * S))
    trace = sampler.stop().power
    watts = [mw * 1e-3 for mw in trace.instant_mw or trace.average_mw if mw] if trace else []
    return sum(watts) / len(watts) if watts else None
