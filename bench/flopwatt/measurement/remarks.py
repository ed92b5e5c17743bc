"""What a reader of a run should know of the machine before its first figure, as events in plain words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from flopwatt.measurement.messages import Hello
from flopwatt.measurement.perturbation import TARGET
from flopwatt.measurement.tuned import store as tuning_store
from flopwatt.text import without_paths

IDLE_MORE_W: Final = 15.0
IDLE_MORE: Final = 0.25
"""Idle power above what this board drew when its sensor was identified, by both: warmth alone makes a few watts.
Profiling by a monitoring agent was reported to raise idle power from 50 to 100 W."""

IDLE_MOVED_W: Final = 10.0
IDLE_MOVED: Final = 0.1
"""Idle power after a run's load that differs from before it, by both: what is left of the load's warmth makes less."""

UNSEEN: Final = {
    "other_processes": "whether other processes use this GPU cannot be seen",
    "mig": "whether MIG is on cannot be seen",
}


def remarks(hello: Hello) -> Iterator[tuple[str, str]]:
    """Pairs of what an event is about and its message; none for a machine with nothing to remark on."""
    environment = hello.environment
    if environment.shared_with:
        yield (
            "shared",
            f"{environment.shared_with} other process(es) on this GPU: time and watts are not these rows' alone",
        )
    if environment.mig:
        yield "mig", "MIG is on: the sensor measures the whole GPU, so slices have no watts"
    for fact, what in UNSEEN.items():
        if fact in environment.unreadable:
            yield fact, f"{what} ({environment.unreadable[fact]}): make sure of it yourself"
    if environment.monitoring:
        names = ", ".join(environment.monitoring)
        yield (
            "monitoring",
            f"{names} runs beside this: stop it, or keep it from profiling, which raises power and slows kernels",
        )
    limit, default = environment.power_limit_mw, environment.power_limit_default_mw
    if limit is not None and default is not None and limit < default:
        yield (
            "power_limit",
            f"the power limit is {limit / 1000:.0f} W, {default / 1000:.0f} W by default: large GEMMs run slower",
        )
    yield from _idle(hello)
    yield from _sampling(hello)
    damaged = tuning_store.damage()
    if damaged:
        yield "tuning", f"no tuned configuration is used: {without_paths(damaged)}"


def idle_remark(before_w: float, after_w: float) -> str | None:
    """What to say of idle power, with a context, that a run left otherwise than it found it; None where it did not."""
    moved_w = abs(after_w - before_w)
    if moved_w <= IDLE_MOVED_W or moved_w <= IDLE_MOVED * before_w:
        return None
    why = (
        "the chip is still warm, the sensor averages over more than the rest before, a process has joined, or an agent "
        "has begun to profile (DCGM)"
        if after_w > before_w
        else "something else drew power when the run began"
    )
    return f"idle power with a context is {after_w:.0f} W after the load, it was {before_w:.0f} W before: {why}"


def _sampling(hello: Hello) -> Iterator[tuple[str, str]]:
    effect, low, high = (
        hello.sensor.sampling_effect,
        hello.sensor.sampling_effect_low,
        hello.sensor.sampling_effect_high,
    )
    if effect is None or low is None or high is None or not (high < -TARGET or low > TARGET):
        return
    yield (
        "sampling",
        f"reading power changed throughput by {effect:+.1%} when this board's sensor was identified: sustained times "
        "and watts here are those of a load that is being read",
    )


def _idle(hello: Hello) -> Iterator[tuple[str, str]]:
    usual = hello.sensor.idle_w
    if hello.idle_w is None or usual is None:
        return
    if hello.idle_w > usual + IDLE_MORE_W and hello.idle_w > usual * (1 + IDLE_MORE):
        yield (
            "idle",
            f"idle power is {hello.idle_w:.0f} W, it was {usual:.0f} W when this board's sensor was identified: "
            "something else draws it, such as a monitoring agent that profiles (DCGM)",
        )
