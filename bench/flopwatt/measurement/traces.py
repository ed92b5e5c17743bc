"""From timed loads and polled samples to the raw record: one origin for all times, and no more than is needed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from flopwatt.measurement.power.sampler import Samples
from flopwatt.measurement.timing import TimedLoad
from flopwatt.runs.effort import S
from flopwatt.runs.samples import CounterTrace, Load, PowerTrace, RawMeasurement, SlowTrace, Window

T = TypeVar("T")

TRACE_LEAD_NS: Final = 1 * S
"""How much of the traces before the first window is kept, to show that it had settled."""


def raw_measurement(
    timer: str,
    operand_sets: int,
    timed: list[TimedLoad],
    windows: list[Window],
    samples: Samples,
    flags: list[str],
    *,
    keep_counter: bool = True,
) -> RawMeasurement:
    """The raw record: times counted from the first mark, marks and traces long before the first window left out."""
    origin = timed[0].load.t_ns[0]
    first_kept = windows[0].start_ns - TRACE_LEAD_NS
    shift = _Shift(origin, first_kept)
    if samples.lost:
        samples = _lost(samples)
    return RawMeasurement(
        timer=timer,
        origin_ns=origin,
        loads=tuple(shift.load(one.load) for one in timed),
        windows=tuple(Window(load=w.load, start_ns=w.start_ns - origin, end_ns=w.end_ns - origin) for w in windows),
        operand_sets=operand_sets,
        clock_map=timed[-1].clock_map,
        counter=shift.counter(samples.counter) if keep_counter else None,
        power=shift.power(samples.power),
        slow=shift.slow(samples.slow),
        sensor_source=samples.source,
        flags=tuple(flags),
        unreadable=dict(samples.unreadable),
    )


def _lost(samples: Samples) -> Samples:
    return msgspec.structs.replace(samples, unreadable={**samples.unreadable, "sensor": samples.lost or "lost"})


@dataclass(frozen=True, slots=True)
class _Shift:
    """Moves traces to a measurement's origin and drops what came before `first_kept` (absolute ns)."""

    origin: int
    first_kept: int

    def load(self, load: Load) -> Load:
        """The last mark before `first_kept` stays: it bounds the stretch that the first kept mark ends."""
        keep = max((i for i, t in enumerate(load.t_ns) if t <= self.first_kept), default=0)
        return Load(t_ns=tuple(t - self.origin for t in load.t_ns[keep:]), launches=load.launches[keep:])

    def counter(self, trace: CounterTrace | None) -> CounterTrace | None:
        if trace is None:
            return None
        keep = [i for i, t in enumerate(trace.t_ns) if t >= self.first_kept]
        return CounterTrace(
            before_ns=self._times(trace.before_ns, keep),
            t_ns=self._times(trace.t_ns, keep),
            energy_mj=_pick(trace.energy_mj, keep),
        )

    def power(self, trace: PowerTrace | None) -> PowerTrace | None:
        if trace is None:
            return None
        keep = [i for i, t in enumerate(trace.t_ns) if t >= self.first_kept]
        return PowerTrace(
            t_ns=self._times(trace.t_ns, keep),
            instant_mw=_pick(trace.instant_mw, keep),
            average_mw=_pick(trace.average_mw, keep),
            clock_mhz=_pick(trace.clock_mhz, keep),
            temp_c=_pick(trace.temp_c, keep),
            reasons=_pick(trace.reasons, keep),
            stamp_us=_pick(trace.stamp_us, keep),
            stamp_origin_us=trace.stamp_origin_us,
        )

    def slow(self, trace: SlowTrace | None) -> SlowTrace | None:
        if trace is None:
            return None
        keep = range(len(trace.t_ns))  # a handful, and limits before the window matter
        return SlowTrace(
            t_ns=self._times(trace.t_ns, keep),
            power_limit_mw=trace.power_limit_mw,
            power_violation_ns=trace.power_violation_ns,
            thermal_violation_ns=trace.thermal_violation_ns,
            memory_clock_mhz=trace.memory_clock_mhz,
        )

    def _times(self, values: tuple[int, ...], keep: Iterable[int]) -> tuple[int, ...]:
        return tuple(values[i] - self.origin for i in keep)


def _pick(values: tuple[T, ...], keep: Iterable[int]) -> tuple[T, ...]:
    """Entries at `keep`; empty where the trace has no such quantity."""
    return tuple(values[i] for i in keep) if values else ()
