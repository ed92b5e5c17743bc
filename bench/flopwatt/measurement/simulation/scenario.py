"""What a simulated GPU is: a scenario file's tables as typed, bounded records. `scenarios/README.md` explains each key.

Quantities are SI: seconds, watts, bytes, °C, FLOP a second; clocks alone are MHz, as drivers give them. Where a number
may also be `[low, high]`, each board draws its own from that range. Shares and probabilities are fractions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from gemmkernels.problem import DTYPES

Positive: TypeAlias = Annotated[float, Meta(gt=0, le=1e18)]
Fraction: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=0.95)]
Spread: TypeAlias = Annotated[float, Meta(ge=0, le=0.2)]
Factor: TypeAlias = Annotated[float, Meta(gt=0, le=10)]
Watts: TypeAlias = Annotated[float, Meta(ge=0, le=100_000)]
Celsius: TypeAlias = Annotated[float, Meta(ge=-50, le=150)]
Seconds: TypeAlias = Annotated[float, Meta(ge=0, le=1e6)]
Tau: TypeAlias = Annotated[float, Meta(ge=1e-3, le=1e6)]
Period: TypeAlias = Annotated[float, Meta(ge=1e-3, le=60)]
Delay: TypeAlias = Annotated[float, Meta(ge=0, le=10)]
Count: TypeAlias = Annotated[int, Meta(ge=1, le=2**50)]
MHz: TypeAlias = Annotated[int, Meta(ge=1, le=100_000)]
Draw: TypeAlias = float | tuple[float, ...]
"""A number, or [low, high]. Its bounds stand in `_DRAWN`: msgspec 0.21 cannot hold them for a number or an array."""
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=200)]

Quantity: TypeAlias = Literal[
    "counter",
    "instant",
    "average",
    "clock",
    "temp",
    "reasons",
    "power_limit",
    "power_violation",
    "thermal_violation",
    "memory_clock",
]
"""What a sensor may refuse to answer."""

LostCode: TypeAlias = Literal["GPU_IS_LOST", "RESET_REQUIRED", "DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH"]
"""What NVML answers once a GPU or its driver is gone: a driver updated under a running job is a version mismatch."""

DEFAULT: Final = "default"
"""Key of the entry that stands for every name a table does not list."""

_DRAWN: Final[dict[str, tuple[float, float]]] = {
    "update_period_s": (1e-3, 60),
    "window_s": (1e-4, 60),
    "average_window_s": (1e-4, 60),
    "rise_s": (0, 10),
    "delay_s": (0, 10),
    "gain": (0.1, 10),
    "offset_w": (-1000, 1000),
    "counter_delay_s": (0, 10),
    "counter_gain": (0.1, 10),
}


def _known_dtypes(key: str, table: Iterable[str], *others: str) -> None:
    for dtype in table:
        if dtype not in (*DTYPES, *others):
            raise ValueError(f"{key} has the unknown dtype {dtype!r}: choose from {', '.join((*DTYPES, *others))}")


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all tables: immutable, and a key nobody reads is an error rather than a silent default."""


class Tile(_Table, frozen=True, kw_only=True):
    """One output tile a kernel may choose: rows, columns, and what it reaches of the backend's efficiency."""

    m: Annotated[int, Meta(ge=1, le=8192)]
    n: Annotated[int, Meta(ge=1, le=8192)]
    efficiency: Annotated[float, Meta(gt=0, le=1)] = 1.0


class Gpu(_Table, frozen=True, kw_only=True):
    """`[gpu]`: the chip as data sheet and driver describe it. peak_flop_per_s is dense, at peak_clock_mhz."""

    name: Text
    spec: Text | None = None
    capability: tuple[Annotated[int, Meta(ge=1, le=99)], Annotated[int, Meta(ge=0, le=99)]]
    sm_count: Annotated[int, Meta(ge=1, le=10_000)]
    l2_bytes: Count
    memory_bytes: Count
    max_clock_mhz: MHz
    peak_clock_mhz: MHz | None = None
    idle_clock_mhz: MHz = 210
    memory_clock_mhz: MHz = 1593
    memory_bytes_per_s: Positive
    memory_efficiency: Annotated[float, Meta(gt=0, le=1)] = 0.9
    l2_speedup: Annotated[float, Meta(ge=1, le=100)] = 3.0
    peak_flop_per_s: Annotated[dict[str, Positive], Meta(min_length=1)]
    power_limit_w: Annotated[float, Meta(gt=0, le=100_000)]
    power_limit_default_w: Annotated[float, Meta(gt=0, le=100_000)] | None = None
    launch_overhead_s: Annotated[float, Meta(ge=0, le=1)] = 2e-6
    sequence_overhead: Fraction = 0.8
    tiles: Annotated[tuple[Tile, ...], Meta(min_length=1, max_length=64)] = (Tile(m=128, n=256),)
    fill_k: Annotated[float, Meta(ge=0, le=100_000)] = 0.0
    driver: Text = "simulated"
    mig: bool = False

    def __post_init__(self) -> None:
        _known_dtypes("peak_flop_per_s", self.peak_flop_per_s)


class BackendModel(_Table, frozen=True, kw_only=True):
    """`[backends.NAME]`: how well a backend computes. efficiency: of the dense peak at the clock that holds."""

    efficiency: Annotated[float, Meta(gt=0, le=1)]
    efficiency_by_dtype: dict[str, Annotated[float, Meta(gt=0, le=1)]] = {}
    energy_factor: Factor = 1.0

    def __post_init__(self) -> None:
        _known_dtypes("efficiency_by_dtype", self.efficiency_by_dtype)


class Power(_Table, frozen=True, kw_only=True):
    """`[power]`: watts of the whole board; active_w and compute_w at the highest clock, memory_w at full bandwidth."""

    idle_w: Watts
    context_w: Watts
    active_w: Watts = 0.0
    compute_w: Annotated[dict[str, Watts], Meta(min_length=1)]
    memory_w: Watts = 0.0
    clock_exponent: Annotated[float, Meta(ge=1, le=4)] = 2.2
    cap_fraction: Annotated[float, Meta(gt=0.1, le=1.5)] = 0.986
    cap_response_s: Annotated[float, Meta(ge=1e-3, le=10)] = 0.03
    rise_s: Annotated[float, Meta(ge=0, le=10)] = 0.005
    inputs: dict[str, Factor] = {}

    def __post_init__(self) -> None:
        _known_dtypes("compute_w", self.compute_w, DEFAULT)
        if DEFAULT not in self.compute_w:
            raise ValueError("compute_w must have a `default` entry, for every dtype it does not list")


class Thermal(_Table, frozen=True, kw_only=True):
    """`[thermal]`: one thermal mass. power_per_c: relative change of board power a °C above reference_c."""

    ambient_c: Celsius = 30.0
    c_per_w: Annotated[float, Meta(ge=0, le=10)] = 0.05
    time_constant_s: Tau = 8.0
    power_per_c: Annotated[float, Meta(ge=-0.01, le=0.01)] = 0.0
    reference_c: Celsius = 60.0


class Sensor(_Table, frozen=True, kw_only=True):
    """`[sensor]`: what NVML would show of the power, how late and how wrong."""

    update_period_s: Draw
    update_jitter_s: Annotated[float, Meta(ge=0, le=1)] = 0.0
    phase: Fraction | None = None
    window_s: Draw
    average_window_s: Draw | None = None
    rise_s: Draw = 0.0
    delay_s: Draw = 0.0
    gain: Draw = 1.0
    offset_w: Draw = 0.0
    counter_tick_s: Period | None = None
    counter_covers_all_time: bool = True
    counter_delay_s: Draw = 0.0
    counter_gain: Draw = 1.0
    counter_step_j: Annotated[float, Meta(ge=1e-3, le=1e6)] = 1e-3
    counter_wraps_at_j: Annotated[float, Meta(ge=1, le=1e12)] | None = None
    latency_s: Annotated[float, Meta(ge=0, le=1)] = 5e-6
    stale: Share = 0.0
    counter_stale: Share = 0.0
    zero: Share = 0.0
    zero_if_polled_within_s: Delay = 0.0
    unsupported: tuple[Quantity, ...] = ()
    no_permission: tuple[Quantity, ...] = ()

    def __post_init__(self) -> None:
        for name, (least, most) in _DRAWN.items():
            value: Draw | None = getattr(self, name)
            if value is None:
                continue
            ends = value if isinstance(value, tuple) else (value, value)
            if len(ends) != 2 or ends[0] > ends[1]:
                raise ValueError(f"{name} = {list(ends)}: give a number or [low, high]")
            if ends[0] < least or ends[1] > most:
                raise ValueError(f"{name} = {value}: give a number, or [low, high], within {least:g} to {most:g}")


class Noise(_Table, frozen=True, kw_only=True):
    """`[noise]`: relative standard deviations. Drift is an Ornstein-Uhlenbeck process of that standard deviation."""

    run_time: Spread = 0.0
    run_power: Spread = 0.0
    drift_time: Spread = 0.0
    drift_power: Spread = 0.0
    drift_correlation_s: Tau = 4.0
    launch_jitter: Spread = 0.0


class Throttle(_Table, frozen=True, kw_only=True):
    """`[[faults.throttle]]`: from from_s on, for duration_s, no clock above clock_factor of the highest.

    from_s counts seconds under load since the process began, or since each load began where per_load is true.
    """

    from_s: Seconds
    duration_s: Positive
    clock_factor: Annotated[float, Meta(gt=0.05, le=1)]
    cause: Literal["sw_thermal", "hw_thermal", "hw_slowdown", "power_brake"] = "sw_thermal"
    per_load: bool = False


class SecondProcess(_Table, frozen=True, kw_only=True):
    """`[faults.second_process]`: somebody else on the GPU, between two instants counted from the process's start."""

    share: Share
    extra_w: Watts = 0.0
    from_s: Seconds = 0.0
    until_s: Seconds = 1e6


class Unknown(_Table, frozen=True, kw_only=True):
    """`[faults.unknown]`: quantities answered with UNKNOWN between two instants counted from the process's start."""

    quantities: Annotated[tuple[Quantity, ...], Meta(min_length=1)]
    from_s: Seconds = 0.0
    until_s: Seconds = 1e6


class Zeros(_Table, frozen=True, kw_only=True):
    """`[faults.zeros]`: power readings are 0 W between two instants counted from the process's start."""

    from_s: Seconds
    until_s: Seconds


class Faults(_Table, frozen=True, kw_only=True):
    """`[faults]`: what goes wrong. crash_on and hang_on match a part of a case's label.

    lost_after_s takes the GPU and its sensor, sensor_lost_after_s the sensor alone, with the code sensor_lost_code.
    """

    throttle: Annotated[tuple[Throttle, ...], Meta(max_length=1000)] = ()
    second_process: SecondProcess | None = None
    unknown: Unknown | None = None
    zeros: Zeros | None = None
    lost_after_s: Seconds | None = None
    sensor_lost_after_s: Seconds | None = None
    sensor_lost_code: LostCode = "GPU_IS_LOST"
    counter_resets_at_s: Seconds | None = None
    counter_stops_after_s: Seconds | None = None
    sampling_slowdown: Spread = 0.0
    crash_on: Text | None = None
    hang_on: Text | None = None


class OddBoard(_Table, frozen=True, kw_only=True):
    """`[[boards.odd]]`: what board `number` has in place of the others' value, or as factors on its power and clock."""

    number: Annotated[int, Meta(ge=0, le=1_000_000)]
    power: Annotated[float, Meta(ge=0.5, le=2)] = 1.0
    clock: Annotated[float, Meta(ge=0.2, le=2)] = 1.0
    power_limit_w: Annotated[float, Meta(gt=0, le=100_000)] | None = None
    ambient_c: Celsius | None = None
    throttle: Annotated[tuple[Throttle, ...], Meta(max_length=100)] = ()


class Boards(_Table, frozen=True, kw_only=True):
    """`[boards]`: relative standard deviations between boards, of watts at one clock and of the highest clock."""

    power: Spread = 0.0
    clock: Spread = 0.0
    odd: Annotated[tuple[OddBoard, ...], Meta(max_length=1000)] = ()


class Scenario(_Table, frozen=True, kw_only=True):
    """One simulated kind of GPU: the truth, the sensor that shows it, the noise over it and the faults in it."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    description: Annotated[str, Meta(max_length=2000)] = ""
    gpu: Gpu
    backends: dict[str, BackendModel]
    power: Power
    thermal: Thermal = Thermal()
    sensor: Sensor
    noise: Noise = Noise()
    boards: Boards = Boards()
    faults: Faults = Faults()

    def __post_init__(self) -> None:
        if DEFAULT not in self.backends:
            raise ValueError("backends must have a `default` entry, for every backend it does not list")
        if self.power.context_w > self.gpu.power_limit_w * self.power.cap_fraction:
            raise ValueError("power.context_w is above gpu.power_limit_w × power.cap_fraction: nothing could ever run")
        thermal = self.thermal
        rise_c = thermal.c_per_w * self.cap_w
        cold = 1.0 + thermal.power_per_c * (thermal.ambient_c - thermal.reference_c)
        if not (0.5 <= cold <= 2 and 0.5 <= cold + thermal.power_per_c * rise_c <= 2):
            raise ValueError(
                f"thermal.power_per_c changes power more than twofold between {thermal.ambient_c:g} and "
                f"{thermal.ambient_c + rise_c:g} °C: make it smaller"
            )

    def backend(self, name: str) -> BackendModel:
        """The model of backend `name`, or the default one."""
        return self.backends.get(name, self.backends[DEFAULT])

    @property
    def cap_w(self) -> float:
        """Watts at which the power cap holds the board."""
        return self.gpu.power_limit_w * self.power.cap_fraction
