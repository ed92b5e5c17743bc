"""What a power sensor answers. One reading costs microseconds; each quantity is None where it cannot be read."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

GAIN_UNCERTAINTY: Final = 0.05
"""Relative; the accuracy usually quoted for NVIDIA's board sensors, and so claimed of simulated ones too. No bound:
−6 % to +11 % have been seen (Yang, Adamek and Armour, SC'24, arXiv 2312.02741)."""


class PowerReading(NamedTuple):
    """Power and state at one instant. Native units: milliwatts, MHz, °C; reasons is NVML's clock-event bit mask.

    instant_mw: the sensor's current value. average_mw: its running average, where it has one. stamp_us: the driver's
    own time of the value, microseconds of wall clock since 1970: stored, never aligned with.
    """

    instant_mw: int | None = None
    average_mw: int | None = None
    clock_mhz: int | None = None
    temp_c: int | None = None
    reasons: int | None = None
    stamp_us: int | None = None


class SlowReading(NamedTuple):
    """What is worth reading once a second. Violations: nanoseconds throttled since the driver was loaded."""

    power_limit_mw: int | None = None
    power_violation_ns: int | None = None
    thermal_violation_ns: int | None = None
    memory_clock_mhz: int | None = None


class SensorLost(Exception):
    """The GPU or its driver is gone: no later reading can succeed. The message holds the code."""


class PowerSensor(Protocol):
    """A source of energy and power readings. Not thread-safe; the process that opened it reads it."""

    source: str
    """`nvml`, `rapl`, `perf`, `simulated` or `none`."""

    unreadable: dict[str, str]
    """Quantity → why it is None (an NVML code, a file's permission), for each that has failed so far."""

    def read_counter(self) -> int | None:
        """Millijoules since an arbitrary origin, only ever rising. Raises SensorLost."""
        ...

    def read_power(self) -> PowerReading:
        """Power, clock, temperature and clock-event reasons now. Raises SensorLost."""
        ...

    def read_watts(self) -> PowerReading:
        """Power alone, in as few calls as the driver allows; the state is None. Raises SensorLost."""
        ...

    def read_slow(self) -> SlowReading:
        """Limits and throttle durations. Raises SensorLost."""
        ...

    def close(self) -> None:
        """Releases the driver; further reads are undefined."""
        ...
