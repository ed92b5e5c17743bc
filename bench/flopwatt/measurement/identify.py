"""Identifies a rig's power sensor: switches a GEMM on and off while the sensor is polled densely.

Three stretches: pulses and pauses of random length, for the update period and the averaging window; long ones, for
averages over seconds; and the beat test's square wave. What the traces mean is `runs.identification`'s business.
"""

from __future__ import annotations

import math
import random
from typing import Final

import msgspec

from flopwatt.errors import DeviceError
from flopwatt.measurement.perturbation import measure_perturbation
from flopwatt.measurement.power.sampler import Samples
from flopwatt.measurement.power.sensor import SensorLost
from flopwatt.measurement.rig import CaseSkipped, Rig
from flopwatt.measurement.timing import Timer
from flopwatt.runs.beat import BEATS, SETTLE_BEAT_S
from flopwatt.runs.effort import MS, S
from flopwatt.runs.identification import UNIDENTIFIED, Traces, identify, update_period
from flopwatt.runs.records import Case, Environment, SensorIdentity
from flopwatt.runs.rhythm import Unidentified
from gemmkernels.problem import Problem

SIDES: Final = (2048, 1024, 512)
"""Of the square GEMM: the largest of which a launch is short enough."""

LAUNCH_MOST_NS: Final = 1 * MS
"""Of one launch: edges of the load lie where they are wanted to within half of it."""

MARK_NS: Final = MS // 2
"""Launches come in groups this long: a graph each, so that a pulse costs the host few calls."""

QUIET_NS: Final = 1500 * MS
"""Rest before the first pulse: warm-up must have left an average over a second."""

RANDOM_NS: Final = 18 * S
DWELL_MS: Final = (5.0, 60.0)
"""Length of a pulse or pause in the first stretch, drawn log-uniformly. A window shows in the readings just after an
edge, so edges are many; pauses under 5 ms are lost in what it takes to start a load."""

STEPS: Final = 3
STEP_NS: Final = 1500 * MS
"""The second stretch: so many pulses and pauses, each longer than an average over a second."""

BEAT_FACTOR: Final = 1.02
"""The load's period in the beat test over the sensor's. At 1 a part-time counter shows no beat and passes."""

BEAT_LEAST_NS: Final = 8 * S
BEAT_MOST_NS: Final = 70 * S
"""How long the beat test lasts, within which it needs three beats; with the rest it stays under two minutes."""

SPARE: Final = 1.08
"""What the beat test lasts beyond its three beats: the period is known to a fraction of a percent, a beat is not."""


def identify_sensor(rig: Rig) -> SensorIdentity:
    """What is known of the rig's sensor once it has watched a switched load; about 45 s on a sensor of 100 ms.

    `unidentified`, with the reason, where the sensor or the device is lost, or there is no sensor to identify.
    """
    if rig.environment.kind != "cuda":
        return _unidentified(rig, "only a GPU's sensor is identified")
    if rig.sampler.source == "none":
        return _unidentified(rig, rig.sampler.peek().unreadable.get("power", "no power sensor"))
    try:
        pulses = _Pulses(rig)
        rig.sampler.start(dense=True)
        return identify(_drive(rig, pulses), rig.sensor)
    except CaseSkipped as skipped:
        return _unidentified(rig, f"no load to identify it with: {skipped}")
    except SensorLost as lost:
        return _unidentified(rig, f"lost while it was identified: {lost}")
    finally:
        rig.release()


def with_sampling_effect(rig: Rig, identity: SensorIdentity) -> SensorIdentity:
    """The identity with what reading this sensor costs the load beside it; about 11 s. As it is where none is known."""
    if identity.method == UNIDENTIFIED:
        return identity
    try:
        prepared = rig.prepare(_case(SIDES[0], rig.environment), 0)
        effect = measure_perturbation(rig, prepared)
    finally:
        rig.release()
    return msgspec.structs.replace(
        identity,
        sampling_effect=effect.value,
        sampling_effect_low=effect.low,
        sampling_effect_high=effect.high,
    )


def _drive(rig: Rig, pulses: _Pulses) -> Traces:
    """Runs the load and stops the sampler. Raises SensorLost, also where the device went and the sensor with it."""
    failure = None
    try:
        rig.clock.sleep_ns(QUIET_NS)
        pulses.at_random()
        pulses.long_steps()
        beat = _beat_test(rig, pulses)
    except (DeviceError, RuntimeError) as error:  # RuntimeError: PyTorch's word for a CUDA error
        failure = str(error).strip().splitlines()[0]
    samples = rig.sampler.stop()
    if failure or samples.lost:
        raise SensorLost(samples.lost or failure)
    return _traces(samples, pulses, beat)


def _beat_test(rig: Rig, pulses: _Pulses) -> tuple[int, int] | str:
    """Runs the square wave; the indices of its pulses, or why it was not run."""
    so_far = rig.sampler.peek()
    if so_far.counter is None:
        return "no counter"
    try:
        period_s = update_period(_traces(so_far, pulses))
    except Unidentified:
        return "it needs the update period"
    wave_ns = round(BEAT_FACTOR * period_s * S)
    beat_s = period_s * BEAT_FACTOR / (BEAT_FACTOR - 1)
    lasts_ns = max(BEAT_LEAST_NS, round((SPARE * BEATS * beat_s + SETTLE_BEAT_S) * S) + 2 * wave_ns)
    if lasts_ns > BEAT_MOST_NS:
        return f"a period of {period_s:.2g} s would take {lasts_ns / S:.0f} s, more than {BEAT_MOST_NS / S:.0f}"
    first = len(pulses.done)
    pulses.square_wave(wave_ns, lasts_ns)
    return first, len(pulses.done)


class _Pulses:
    """Stretches of load, each run to its end before the next; when each truly began and ended. Raises CaseSkipped."""

    def __init__(self, rig: Rig) -> None:
        self.done: list[tuple[int, int]] = []
        self._clock = rig.clock
        self._random = random.Random(2312)
        self._timer, launch_ns = _short_launches(rig)
        self._per_mark = max(1, round(MARK_NS / launch_ns))
        self._mark_ns = self._per_mark * launch_ns

    def at_random(self) -> None:
        """Pulses and pauses of random length."""
        until = self._clock.now_ns() + RANDOM_NS
        while self._clock.now_ns() < until:
            self._pulse(self._dwell_ns())
            self._clock.sleep_ns(self._dwell_ns())

    def long_steps(self) -> None:
        """Pulses and pauses longer than any average expected."""
        for _ in range(STEPS):
            self._pulse(STEP_NS)
            self._clock.sleep_ns(STEP_NS)

    def square_wave(self, period_ns: int, lasts_ns: int) -> None:
        """Half on, half off, each pulse due a whole number of periods after the first."""
        begin = self._clock.now_ns()
        late_ns = 0  # from asking for a load to its beginning, as the last pulse had it
        for number in range(1, lasts_ns // period_ns):
            self._clock.sleep_ns(begin + number * period_ns - late_ns - self._clock.now_ns())
            asked = self._clock.now_ns()
            self._pulse(period_ns // 2)
            late_ns = self.done[-1][0] - asked

    def _pulse(self, duration_ns: int) -> None:
        t_ns = self._timer.run(max(1, round(duration_ns / self._mark_ns)), self._per_mark).load.t_ns
        self.done.append((t_ns[0], t_ns[-1]))

    def _dwell_ns(self) -> int:
        shortest, longest = DWELL_MS
        return round(shortest * math.pow(longest / shortest, self._random.random()) * MS)


def _short_launches(rig: Rig) -> tuple[Timer, int]:
    """A GEMM made ready, warmed up, and the nanoseconds of one launch."""
    for side in SIDES:
        timer = rig.prepare(_case(side, rig.environment), 0).timer
        launch_ns = timer.warm_up()
        if launch_ns <= LAUNCH_MOST_NS:
            break
    return timer, launch_ns


def _case(side: int, environment: Environment) -> Case:
    """Zeros: enough load to be seen, and too little to meet the power cap, whose regulation would blur every edge."""
    dtype = "bf16" if environment.capability is None or environment.capability >= (8, 0) else "fp16"
    return Case(problem=Problem(side, side, side, dtype=dtype), backend="torch", inputs="zeros", cache="hot")


def _traces(samples: Samples, pulses: _Pulses, beat: tuple[int, int] | str = "not run") -> Traces:
    return Traces(
        pulses=tuple(pulses.done),
        power=samples.power,
        counter=samples.counter,
        beat=beat,
        call_ns=samples.call_ns,
        unreadable=samples.unreadable,
    )


def _unidentified(rig: Rig, why: str) -> SensorIdentity:
    known = rig.sensor
    return SensorIdentity(
        source=known.source,
        method=UNIDENTIFIED,
        gain_uncertainty=known.gain_uncertainty,
        reason=f"{UNIDENTIFIED}: {why}",
    )
