"""Whether what was sampled runs forward: clocks and counts only rise, and what does not rise gives no rate."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import sub
from typing import Final

from flopwatt.runs.samples import RawMeasurement

INSTANT_MOST_NS: Final = 2**50
COUNT_MOST: Final = 2**53
"""How far from a measurement's origin an instant may lie (13 days), and the highest count: up to there neighbouring
integers stay apart in 64-bit floating point, the instants also as seconds."""


def marks_disorder(raw: RawMeasurement) -> str | None:
    """Why the marks of the loads give no time, in words; None where instants and launches rise from mark to mark."""
    if not all(load.t_ns for load in raw.loads):
        return "a load without a mark"
    instants = _least_step(load.t_ns for load in raw.loads)
    launches = _least_step(load.launches for load in raw.loads)
    if min(instants, launches) < 0:
        return "marks run backwards"
    if instants == 0:
        return "two marks share one instant"
    if launches == 0:
        return "no launch completed between two marks"
    far = any(_beyond(load.t_ns, INSTANT_MOST_NS) or _beyond(load.launches, COUNT_MOST) for load in raw.loads)
    return "marks further from the origin than any measurement lasts" if far else None


def counter_disorder(raw: RawMeasurement) -> str | None:
    """Why the energy counter gives no joules, in words; None where it rises and each edge follows the one before."""
    counter = raw.counter
    if counter is None:
        return None
    if _least_step((counter.energy_mj,)) < 0:
        return "the energy counter ran backwards: it was reset, or wrapped"
    apart = all(before >= seen for seen, before in zip(counter.t_ns, counter.before_ns[1:], strict=False))
    whole = all(before <= seen for seen, before in zip(counter.t_ns, counter.before_ns, strict=True))
    if not (apart and whole):
        return "edges of the energy counter run backwards in time"
    if _least_step((counter.t_ns,)) == 0:
        return "two edges of the energy counter share one instant"
    far = _beyond(counter.before_ns, INSTANT_MOST_NS) or _beyond(counter.energy_mj, COUNT_MOST)
    return "edges of the energy counter beyond any measurement" if far else None


def readings_disorder(raw: RawMeasurement) -> str | None:
    """Why the power readings give no joules, in words; None where each is later than the one before."""
    if raw.power is None:
        return None
    step = _least_step((raw.power.t_ns,))
    if step <= 0:
        return "two power readings share one instant" if step == 0 else "power readings run backwards in time"
    far = _beyond(raw.power.t_ns, INSTANT_MOST_NS)
    return "power readings further from the origin than any measurement lasts" if far else None


def _least_step(series: Iterable[Sequence[int]]) -> int:
    """The least difference of a value and the one before it, of all series; 1 where there are no two."""
    return min((min(map(sub, values[1:], values), default=1) for values in series), default=1)


def _beyond(rising: Sequence[int], most: int) -> bool:
    """Whether the first or the last value is further from 0 than that."""
    return any(abs(value) > most for value in (*rising[:1], *rising[-1:]))
