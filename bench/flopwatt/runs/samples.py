"""What one measurement holds: raw samples, as parallel integer arrays, or what somebody else's table says."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from flopwatt.runs.frozen import Frozen

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**62), le=2**62)]
"""A sensor's or clock's integer: sums and differences of two stay within the 64 bits that they are computed in."""


def _parallel(trace: object, *columns: tuple[int | None, ...]) -> None:
    """Raises ValueError where a trace's arrays differ in length: no later arithmetic could tell which is short."""
    if len({len(column) for column in columns}) > 1:
        raise ValueError(f"the arrays of a {type(trace).__name__} differ in length")


class Load(Frozen, frozen=True, kw_only=True):
    """One gap-free stretch of launches. launches[i] have completed at t_ns[i]; the first mark is the start, 0."""

    t_ns: tuple[Count, ...]
    launches: tuple[Count, ...]

    def __post_init__(self) -> None:
        _parallel(self, self.t_ns, self.launches)


class Window(Frozen, frozen=True, kw_only=True):
    """The part of a load, by its index, that counts: after warm-up or settling."""

    load: int
    start_ns: Count
    end_ns: Count


class CounterTrace(Frozen, frozen=True, kw_only=True):
    """The energy counter at each reading where its value had changed, the first reading included.

    The change happened in (before_ns[i], t_ns[i]]: before_ns is when the previous value was last seen.
    """

    before_ns: tuple[Count, ...]
    t_ns: tuple[Count, ...]
    energy_mj: tuple[Count, ...]

    def __post_init__(self) -> None:
        _parallel(self, self.before_ns, self.t_ns, self.energy_mj)


class PowerTrace(Frozen, frozen=True, kw_only=True):
    """Power and state of the GPU, polled. None where a quantity was not readable at that instant.

    stamp_us: the driver's own time of each reading, in microseconds after stamp_origin_us (wall clock, since 1970). It
    may step and its meaning is the driver's: stored as evidence, never aligned with.
    """

    t_ns: tuple[Count, ...]
    instant_mw: tuple[Count | None, ...] = ()
    average_mw: tuple[Count | None, ...] = ()
    clock_mhz: tuple[Count | None, ...] = ()
    temp_c: tuple[Count | None, ...] = ()
    reasons: tuple[Count | None, ...] = ()
    stamp_us: tuple[Count | None, ...] = ()
    stamp_origin_us: Count | None = None

    def __post_init__(self) -> None:
        columns = (self.instant_mw, self.average_mw, self.clock_mhz, self.temp_c, self.reasons, self.stamp_us)
        _parallel(self, self.t_ns, *(column for column in columns if column))


class SlowTrace(Frozen, frozen=True, kw_only=True):
    """Quantities read about once a second: the enforced limit, and nanoseconds spent throttled since driver load."""

    t_ns: tuple[Count, ...]
    power_limit_mw: tuple[Count | None, ...] = ()
    power_violation_ns: tuple[Count | None, ...] = ()
    thermal_violation_ns: tuple[Count | None, ...] = ()
    memory_clock_mhz: tuple[Count | None, ...] = ()

    def __post_init__(self) -> None:
        columns = (self.power_limit_mw, self.power_violation_ns, self.thermal_violation_ns, self.memory_clock_mhz)
        _parallel(self, self.t_ns, *(column for column in columns if column))


class ClockMap(Frozen, frozen=True, kw_only=True):
    """How device time was laid on CLOCK_MONOTONIC: two anchors, each an instant known to ± its half-width.

    drift_ns: disagreement of the two anchors over the load, after which marks were interpolated linearly.
    """

    first_half_width_ns: Count
    last_half_width_ns: Count
    drift_ns: Count


class RawMeasurement(Frozen, frozen=True, kw_only=True, tag_field="kind", tag="raw"):
    """Raw samples of one case. unreadable: quantity → the NVML code or the reason.

    flags: `over_25_ms`, a burst whose one launch is longer; `power_cap`, a burst during which the cap acted;
    `not_steady`; `warming_unseen`, not waited for and no temperature to tell how far it was from steady; `shared`,
    beside another process on the GPU; `not_captured`, launched without a CUDA graph; `paused`, stopped for a moment.
    """

    timer: str
    origin_ns: Count
    loads: tuple[Load, ...]
    windows: tuple[Window, ...]
    operand_sets: int = 1
    clock_map: ClockMap | None = None
    counter: CounterTrace | None = None
    power: PowerTrace | None = None
    slow: SlowTrace | None = None
    sensor_source: str | None = None
    flags: tuple[str, ...] = ()
    unreadable: dict[str, str] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        for window in self.windows:
            if not 0 <= window.load < len(self.loads) or window.end_ns <= window.start_ns:
                raise ValueError("a window of a load that is not there, or that ends before it starts")

    def begun_ns(self, load: int) -> int:
        """When a load began. The first one's early marks may have been left out, but times count from the first."""
        kept = self.loads[load]
        return 0 if load == 0 and kept.launches[0] > 0 else kept.t_ns[0]


Amount: TypeAlias = Annotated[float, msgspec.Meta(ge=1e-60, le=1e60)]
Least: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e60)]
"""Seconds, watts or joules of one GEMM, with room on either side for any, and the low end of their interval: they are
divided by and squared."""

SHORTEST_MEAN_S: Final = 2.0
"""Shortest mean of somebody else's that is believed to be the kernel's power: NVML's own reading may be a mean over the
second before, and a window of 0.3 s then shows less than half of the load."""


class AggregateMeasurement(Frozen, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="aggregate"):
    """What someone else's table says of a case; imports only. Seconds and joules of one GEMM, watts of the board.

    `*_low`, `*_high`: the table's own 95 % interval. window_s: what power_w is the mean over. throttle_power,
    throttle_thermal: share of that window. None, and not written, for what the table does not say.
    """

    time_s: Amount
    time_s_low: Least | None = None
    time_s_high: Amount | None = None
    power_w: Amount | None = None
    power_w_low: Least | None = None
    power_w_high: Amount | None = None
    energy_j: Amount | None = None
    energy_j_low: Least | None = None
    energy_j_high: Amount | None = None
    power_limit_w: float | None = None
    window_s: float | None = None
    clock_hz: float | None = None
    temp_c: float | None = None
    throttle_power: float | None = None
    throttle_thermal: float | None = None

    @property
    def why_no_watts(self) -> str | None:
        """Why power_w, where there is one, cannot be the load's; None where it can."""
        if self.power_w is None:
            return None
        if self.window_s is None:
            return "the window over which the watts were averaged is unknown"
        if self.window_s < SHORTEST_MEAN_S:
            return (
                f"watts averaged over {self.window_s:g} s, less than the {SHORTEST_MEAN_S:g} s that a sensor may need"
            )
        return None


Measurement: TypeAlias = RawMeasurement | AggregateMeasurement
