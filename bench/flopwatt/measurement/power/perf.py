"""The same energy counters of CPU packages through the kernel's perf events, where powercap cannot be read.

Source: perf_event_open(2), and the `power` event source that Linux's RAPL driver publishes in sysfs.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flopwatt.errors import DeviceError
from flopwatt.measurement.power.rapl import CpuSensor
from flopwatt.measurement.power.sensor import SensorLost

EVENT_SOURCE: Final = Path("/sys/bus/event_source/devices/power")
EVENT: Final = "energy-pkg"

_SYSCALL: Final = {"x86_64": 298, "aarch64": 241}
_ATTRIBUTES: Final = struct.Struct("IIQQQQQIIQ")
"""perf_event_attr, version 0: type, size, config, sample period and type, read format, flags, wake-up, breakpoint."""

_ALL_PROCESSES: Final = -1
_CLOSE_ON_EXEC: Final = 8

OpenEvent = Callable[[int, int, int], int]
"""(type, config, cpu) → a file descriptor whose eight bytes are the count so far."""


class PerfSensor(CpuSensor):
    """Energy of all CPU packages together, as `RaplSensor`; perf counts from when the events were opened."""

    source = "perf"

    def __init__(self, descriptors: list[int], joules_per_count: float) -> None:
        super().__init__()
        self._descriptors = descriptors
        self._joules_per_count = joules_per_count

    def read_counter(self) -> int | None:
        try:
            counts = sum(int.from_bytes(os.read(fd, 8), "little") for fd in self._descriptors)
        except OSError as error:
            raise SensorLost(f"perf: {error}") from None
        return int(counts * self._joules_per_count * 1000)

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []


def open_event(kind: int, config: int, cpu: int) -> int:
    """perf_event_open(2) for one processor and every process. Raises OSError, PermissionError among them."""
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(f"perf events are not known on {platform.machine()}")
    attributes = ctypes.create_string_buffer(
        _ATTRIBUTES.pack(kind, _ATTRIBUTES.size, config, 0, 0, 0, 0, 0, 0, 0), _ATTRIBUTES.size
    )
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor: int = libc.syscall(number, attributes, _ALL_PROCESSES, cpu, -1, _CLOSE_ON_EXEC)
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return descriptor


def open_perf(root: Path = EVENT_SOURCE, opener: OpenEvent = open_event) -> PerfSensor:
    """The sensor over every package that `root` lists. Raises DeviceError that names the remedy."""
    try:
        kind = int(_read(root / "type"))
        config = _config(_read(root / "events" / EVENT))
        scale = float(_read(root / "events" / f"{EVENT}.scale"))
        cpus = _cpus(_read(root / "cpumask"))
    except (OSError, ValueError):
        raise DeviceError(f"perf: no {EVENT} event under {root}: this kernel has no RAPL driver") from None
    descriptors: list[int] = []
    try:
        for cpu in cpus:
            descriptors.append(opener(kind, config, cpu))
    except PermissionError:
        _close(descriptors)
        raise DeviceError(
            f"perf: no permission to count {EVENT}; as root: sysctl kernel.perf_event_paranoid=0"
        ) from None
    except OSError as error:
        _close(descriptors)
        raise DeviceError(f"perf: {error}") from None
    return PerfSensor(descriptors, scale)


def _config(text: str) -> int:
    """The event number of `event=0x02`."""
    name, _, value = text.partition("=")
    if name != "event":
        raise ValueError(text)
    return int(value, 0)


def _cpus(text: str) -> list[int]:
    """The processors of `0,28` or `0-1`, one a package."""
    cpus: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cpus.extend(range(int(first), int(last or first) + 1))
    return cpus


def _read(file: Path) -> str:
    return file.read_text().strip()


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
