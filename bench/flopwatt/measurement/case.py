"""One case → one measurement: its bursts, or its settled windows, with power read beside them. Never prints."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from typing import Final, Literal

import msgspec

from flopwatt.measurement.clock import Clock
from flopwatt.measurement.pauses import Presence, interruption
from flopwatt.measurement.power.sampler import Samples
from flopwatt.measurement.rig import CaseSkipped, MemoryShort, Prepared, Rig
from flopwatt.measurement.steadiness import is_steady, sees_temperature
from flopwatt.measurement.timing import TimedLoad, Timer
from flopwatt.measurement.traces import raw_measurement
from flopwatt.runs.effort import (
    ASSUMED_PERIOD_S,
    BURST_LOAD_S,
    BURST_REST_S,
    BURST_WARM_FRACTION,
    CPU_WARM_S,
    EFFORT,
    LAUNCHES_LEAST,
    LAUNCHES_MOST_S,
    MS,
    SOAK_SPAN_S,
    STEADY_SPAN_S,
    Effort,
    S,
)
from flopwatt.runs.energy import judge
from flopwatt.runs.records import Case, Correctness, EnergyStatus, Regime, Status
from flopwatt.runs.samples import RawMeasurement, Window
from flopwatt.runs.stats import launch_time
from flopwatt.runs.throttling import REASON_SW_POWER_CAP

MARKS_MAX: Final = 400
"""Marks in a load: enough for ten batches a window, few enough for a record of tens of kilobytes."""

MARK_MIN_NS: Final = 1 * MS
"""The shortest mark: event and clock resolution (0.5 µs) stay under 0.1 % of it."""

Again = Literal["paused", "memory"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a case, as it enters its record.

    again: it may do better if measured once more, since what stopped it was no fault of its own: `paused`, or
    `memory`, which other cases of the same process may not have given back.
    """

    status: Status
    case: Case
    reason: str | None = None
    energy_status: EnergyStatus = "unsupported"
    energy_reason: str | None = None
    correctness: Correctness | None = None
    settings: dict[str, str] = field(default_factory=dict)
    input_audit: dict[str, float] = field(default_factory=dict)
    measurement: RawMeasurement | None = None
    again: Again | None = None


def measure_case(rig: Rig, case: Case, *, seed: int = 0, soak: bool = False) -> Outcome:
    """Checks and measures one case. soak: heat the chip to its working temperature first, as a run's first case does.

    A case this machine cannot run is `skipped`; a wrong result is `failed` and is not timed.
    """
    try:
        prepared = rig.prepare(case, seed)
    except CaseSkipped as skipped:
        again: Again | None = "memory" if isinstance(skipped, MemoryShort) else None
        return Outcome("skipped", case, str(skipped), energy_reason="not measured", again=again)
    return measure_prepared(rig, case, prepared, seed=seed, soak=soak)


def measure_prepared(rig: Rig, case: Case, prepared: Prepared, *, seed: int = 0, soak: bool = False) -> Outcome:
    """Measures a case that is ready on this rig, unless its result was wrong."""
    case = msgspec.structs.replace(case, config=prepared.config)
    if prepared.correct is False:
        return _wrong(case, prepared)
    effort = EFFORT[case.effort]
    joined, asleep_ns, presence = rig.joined_by(), rig.clock.suspended_ns(), Presence()
    measuring = (
        _Bursts(rig, prepared, effort) if case.regime == "burst" else _Sustained(rig, prepared, effort, seed, soak)
    )
    raw = measuring.measure()
    # A burst's median forgets the launch that was delayed, and nothing is warm that could cool.
    loads = measuring.loads if case.regime == "sustained" else ()
    asleep_s = (rig.clock.suspended_ns() - asleep_ns) / S
    paused = interruption(loads, asleep_s, presence.absent_s() if rig.environment.kind == "cpu" else None)
    if paused is not None and not paused.brief:
        return Outcome("failed", case, paused.reason, energy_reason="not measured", again="paused")
    if (joined or rig.joined_by()) and "shared" not in raw.flags:
        raw = msgspec.structs.replace(raw, flags=(*raw.flags, "shared"))
    if launch_time(raw, case.regime) is None:
        return Outcome("failed", case, "no launch completed inside a window: lengthen it with --effort")
    energy_status, energy_reason = _judge_energy(rig, case, raw)
    if paused is not None:
        raw = msgspec.structs.replace(raw, flags=(*raw.flags, "paused"))
    return Outcome(
        "ok",
        case,
        energy_status=energy_status,
        energy_reason=energy_reason,
        correctness=prepared.correctness,
        settings=prepared.settings,
        input_audit=prepared.input_audit,
        measurement=raw,
    )


def _wrong(case: Case, prepared: Prepared) -> Outcome:
    assert prepared.correctness is not None
    found = prepared.correctness.relative_error
    error = "not finite" if found is None else f"{found:.3g}"
    reason = f"wrong result: relative error {error}, bound {prepared.correctness.bound:.3g}"
    return Outcome("failed", case, reason, "unsupported", "not measured", prepared.correctness, prepared.settings)


def _judge_energy(rig: Rig, case: Case, raw: RawMeasurement) -> tuple[EnergyStatus, str | None]:
    if case.regime == "burst":
        return "refused", "a burst is shorter than any power sensor's window"
    energy = judge(raw, rig.sensor, bool(rig.environment.mig))
    fault = raw.unreadable.get("counter")
    if fault is None or energy.source == "counter" or fault in (energy.reason or ""):
        return energy.status, energy.reason
    return energy.status, f"{energy.reason}; counter: {fault}" if energy.reason else f"counter: {fault}"


class _Bursts:
    """Rest, then at most 25 ms of load, several times, until the bursts agree or enough were run."""

    def __init__(self, rig: Rig, prepared: Prepared, effort: Effort) -> None:
        self._rig = rig
        self._timer = prepared.timer
        self._sets = prepared.operand_sets
        self._effort = effort
        self.loads: list[TimedLoad] = []

    def measure(self) -> RawMeasurement:
        launch_ns = self._timer.warm_up()
        per_mark, marks = self._sizes(launch_ns)
        # The first mark after a rest wakes clocks and uploads the graph: it counts only where there is no other.
        warm_marks = max(math.floor(marks * BURST_WARM_FRACTION), 1 if marks > 1 else 0)
        flags = _standing_flags(self._rig)
        if launch_ns > BURST_LOAD_S * S:
            flags.append("over_25_ms")
        self._rig.sampler.start()
        loads = self.loads
        windows: list[Window] = []
        while not self._enough(loads, windows):
            self._rig.clock.sleep_ns(round(BURST_REST_S * S))
            timed = self._timer.run(marks, per_mark)
            t_ns = timed.load.t_ns
            windows.append(Window(load=len(loads), start_ns=t_ns[warm_marks], end_ns=t_ns[-1]))
            loads.append(timed)
        samples = self._rig.sampler.stop()
        if _cap_bit(samples, windows):
            flags.append("power_cap")
        flags += _timer_flags(self._timer)
        return raw_measurement(self._timer.name, self._sets, loads, windows, samples, flags, keep_counter=False)

    def _sizes(self, launch_ns: int) -> tuple[int, int]:
        """Launches a mark and marks a burst, so that the whole load stays under 25 ms."""
        load_ns = BURST_LOAD_S * S
        per_mark = max(1, round(MARK_MIN_NS / launch_ns))
        return per_mark, max(1, math.floor(load_ns / (per_mark * launch_ns)))

    def _enough(self, loads: list[TimedLoad], windows: list[Window]) -> bool:
        least, most = self._effort.bursts
        if len(loads) < least:
            return False
        return _tight(loads, windows, "burst", self._effort.tolerance) or len(loads) >= most


class _Sustained:
    """Gap-free load: soak, settle, then windows of stated length; on a CPU until the interval is tight."""

    def __init__(self, rig: Rig, prepared: Prepared, effort: Effort, seed: int, soak: bool) -> None:
        self._rig = rig
        self._prepared = prepared
        self._timer = prepared.timer
        self._effort = effort
        self._soak = soak
        self._gpu = rig.environment.kind == "cuda"
        self._random = random.Random(seed)
        self.loads: list[TimedLoad] = []

    def measure(self) -> RawMeasurement:
        launch_ns = self._timer.warm_up()
        self._rig.sampler.start()
        loads = self.loads
        windows: list[Window] = []
        flags = _standing_flags(self._rig)
        while not self._enough(loads, windows):
            timed, cuts = self._one_load(launch_ns, flags)
            windows += [Window(load=len(loads), start_ns=start, end_ns=end) for start, end in cuts]
            loads.append(timed)
        samples = self._rig.sampler.stop()
        flags += _timer_flags(self._timer)
        if self._gpu and not self._effort.steady and not sees_temperature(samples):
            flags.append("warming_unseen")
        return raw_measurement(self._timer.name, self._prepared.operand_sets, loads, windows, samples, flags)

    def _one_load(self, launch_ns: int, flags: list[str]) -> tuple[TimedLoad, list[tuple[int, int]]]:
        effort, clock, sensor = self._effort, self._rig.clock, self._rig.sensor
        window_s = (
            effort.window_for(sensor.slowest_period_s, sensor.window_s or sensor.average_window_s)
            if self._gpu
            else effort.cpu_window_s
        )
        window_s = max(window_s, min(LAUNCHES_LEAST * launch_ns / S, LAUNCHES_MOST_S))
        self._timer.begin(_launches_per_mark(effort.windows * window_s, launch_ns))
        if not self._settle():
            flags.append("not_steady")
        cuts = []
        for _ in range(effort.windows):
            # A phase that never locks to the sensor's: readings repeated in step would repeat their error.
            hold(self._timer, clock, self._random.random() * (sensor.update_period_s or ASSUMED_PERIOD_S))
            start = clock.now_ns()
            hold(self._timer, clock, window_s)
            cuts.append((start, clock.now_ns()))
        return self._timer.end(), cuts

    def _enough(self, loads: list[TimedLoad], windows: list[Window]) -> bool:
        if not loads:
            return False
        if self._gpu or len(loads) >= self._effort.cpu_rounds:
            return True  # on a GPU the sensor sets the length, and time is known far better than watts
        return _tight(loads, windows, "sustained", self._effort.tolerance)

    def _settle(self) -> bool:
        """Holds the load until power and temperature are steady, or time is up; whether they were."""
        if not self._gpu:
            hold(self._timer, self._rig.clock, CPU_WARM_S)
            return True
        effort, readings_s = self._effort, self._rig.sensor.readings_settle_s
        if not effort.steady:
            settle_s = max(effort.settle_s, effort.soak_s if self._soak else 0.0, readings_s)
            hold(self._timer, self._rig.clock, settle_s)
            return True
        limit_s, span_s = (effort.soak_s, SOAK_SPAN_S) if self._soak else (effort.settle_s, STEADY_SPAN_S)
        begun = self._rig.clock.now_ns()
        hold(self._timer, self._rig.clock, max(min(limit_s, span_s), readings_s))
        while True:
            samples, now = self._rig.sampler.peek(), self._rig.clock.now_ns()
            steady = is_steady(samples, now, begun, span_s)
            # At the power cap watts stand still while the chip warms: unseen, it is given all the time there is.
            if steady is None or (steady and sees_temperature(samples)):
                return True
            if now - begun >= limit_s * S:
                return is_steady(samples, now, begun) is not False
            hold(self._timer, self._rig.clock, 0.5)


def _standing_flags(rig: Rig) -> list[str]:
    """Marks that every row of this machine carries."""
    return ["shared"] if rig.environment.shared_with else []


def _timer_flags(timer: Timer) -> list[str]:
    """Marks that follow from how the launches could be timed."""
    return ["not_captured"] if timer.name == "cuda-event" else []


def hold(timer: Timer, clock: Clock, duration_s: float) -> None:
    """Keeps a load going for this long."""
    until = clock.now_ns() + round(duration_s * S)
    while clock.now_ns() < until:
        timer.pump()


def _tight(loads: list[TimedLoad], windows: list[Window], regime: Regime, tolerance: float) -> bool:
    """Whether the interval of the time so far is within the effort's tolerance."""
    raw = RawMeasurement(timer="", origin_ns=0, loads=tuple(timed.load for timed in loads), windows=tuple(windows))
    interval = launch_time(raw, regime)
    return interval is not None and interval.relative_half_width <= tolerance


def _launches_per_mark(duration_s: float, launch_ns: int) -> int:
    return max(1, round(max(MARK_MIN_NS, duration_s * S / MARKS_MAX) / launch_ns))


def _cap_bit(samples: Samples, windows: list[Window]) -> bool:
    """Whether the power cap acted during the bursts: its counter rose, or a poll in a burst saw its bit."""
    violations = [v for v in samples.slow.power_violation_ns if v is not None] if samples.slow else []
    if len(violations) > 1 and violations[-1] > violations[0]:
        return True
    if samples.power is None:
        return False
    polls = zip(samples.power.t_ns, samples.power.reasons, strict=False)
    return any(r and r & REASON_SW_POWER_CAP and any(w.start_ns <= t <= w.end_ns for w in windows) for t, r in polls)
