"""The energy counters of CPU packages (RAPL), read through Linux's powercap files.

Source: https://docs.kernel.org/power/powercap/powercap.html; readable by root alone since CVE-2020-8694.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from flopwatt.errors import DeviceError
from flopwatt.measurement.power.sensor import PowerReading, SensorLost, SlowReading

POWERCAP: Final = Path("/sys/class/powercap")

TICK_NS: Final = 1_000_000
"""The counters are updated about once a millisecond (Intel SDM, volume 3, "RAPL interfaces")."""


@dataclass(slots=True)
class _Package:
    """One package's counter: its file, where it wraps, and its last value, all in microjoules."""

    name: str
    file: Path
    range_uj: int
    last_uj: int

    def rise(self) -> int:
        """Microjoules since the last call."""
        now_uj = _microjoules(self.file, self.file.read_text())
        rise = now_uj - self.last_uj
        self.last_uj = now_uj
        return rise if rise >= 0 else rise + self.range_uj


class CpuSensor:
    """What every sensor of a CPU's energy counters has in common: they count energy, and nothing else is read."""

    tick_ns = TICK_NS

    def __init__(self) -> None:
        self.unreadable = {"instant_mw": "RAPL counts energy only", "power_limit_mw": "not read on a CPU"}

    def read_power(self) -> PowerReading:
        return PowerReading()

    def read_watts(self) -> PowerReading:
        return PowerReading()

    def read_slow(self) -> SlowReading:
        return SlowReading()


class RaplSensor(CpuSensor):
    """Energy of all CPU packages together: cores, caches, memory controllers; neither DRAM nor the rest of the board.

    Counters wrap after minutes (262 kJ is usual): read at least that often for differences to be whole.
    """

    source = "rapl"

    def __init__(self, packages: list[_Package]) -> None:
        super().__init__()
        self._packages = packages
        self._total_uj = 0

    @property
    def domains(self) -> tuple[str, ...]:
        """Names of the packages that are summed."""
        return tuple(package.name for package in self._packages)

    def read_counter(self) -> int | None:
        try:
            self._total_uj += sum(package.rise() for package in self._packages)
        except (OSError, ValueError) as error:
            raise SensorLost(f"RAPL: {error}") from None
        return self._total_uj // 1000

    def close(self) -> None:
        """Nothing is held open."""


def open_rapl(root: Path = POWERCAP) -> RaplSensor:
    """The sensor over every CPU package under `root`. Raises DeviceError that names the remedy."""
    packages: dict[str, _Package] = {}
    for zone in _zones(root):
        name = _read(zone / "name")
        # Only packages: psys is the whole board and holds them; core, uncore and dram are subzones or parts.
        if name.startswith("package-") and name not in packages:
            packages[name] = _open(zone, name)
    if not packages:
        raise DeviceError(
            f"RAPL: no CPU package under {root}: virtual machines have none and containers hide it; "
            "measure on the bare host, or mount it into the container"
        )
    return RaplSensor([packages[name] for name in sorted(packages)])


def _zones(root: Path) -> list[Path]:
    """Top-level zones, the register interface before the memory-mapped one, which repeats the same packages."""
    zones = [zone for zone in root.glob("*:*") if zone.name.count(":") == 1]
    return sorted(zones, key=lambda zone: ("mmio" in zone.name, zone.name))


def _open(zone: Path, name: str) -> _Package:
    file = zone / "energy_uj"
    range_file = zone / "max_energy_range_uj"
    try:
        return _Package(
            name,
            file,
            range_uj=_microjoules(range_file, _read(range_file)),
            last_uj=_microjoules(file, _read(file)),
        )
    except ValueError as error:
        raise DeviceError(f"RAPL: {error}: the kernel shows no counter here, as in some virtual machines") from None


def _microjoules(file: Path, text: str) -> int:
    """The count in a powercap file. Raises ValueError, in words, where it holds none."""
    text = text.strip()
    if not text.isdecimal():
        raise ValueError(f"{file} holds {text[:20]!r} instead of a number" if text else f"{file} is empty")
    return int(text)


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except PermissionError:
        raise DeviceError(
            f"RAPL: no permission to read {file}; as root: chmod a+r {file.parent.parent}/*/energy_uj"
        ) from None
    except OSError as error:
        raise DeviceError(f"RAPL: {error}; the kernel's powercap tree is incomplete") from None
