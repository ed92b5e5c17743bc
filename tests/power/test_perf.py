"""perf's energy events in a sysfs tree made for the purpose, and the real system call on a software event."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from flopwatt.errors import DeviceError
from flopwatt.measurement.power.perf import open_event, open_perf
from flopwatt.measurement.power.sensor import SensorLost

SCALE = 2.0**-32


@pytest.fixture
def event_source(tmp_path: Path) -> Path:
    (tmp_path / "events").mkdir()
    (tmp_path / "type").write_text("22\n")
    (tmp_path / "cpumask").write_text("0,28\n")
    (tmp_path / "events" / "energy-pkg").write_text("event=0x02\n")
    (tmp_path / "events" / "energy-pkg.scale").write_text("2.3283064365386962890625e-10\n")
    return tmp_path


class Counters:
    """Packages as pipes: each read takes the next count."""

    def __init__(self, *joules: list[float]) -> None:
        self.opened: list[tuple[int, int, int]] = []
        self._joules = list(joules)

    def __call__(self, kind: int, config: int, cpu: int) -> int:
        self.opened.append((kind, config, cpu))
        readable, writable = os.pipe()
        for value in self._joules[len(self.opened) - 1]:
            os.write(writable, round(value / SCALE).to_bytes(8, "little"))
        os.close(writable)
        return readable


def test_packages_are_summed_in_millijoules(event_source: Path) -> None:
    counters = Counters([10.0, 12.5], [20.0, 21.0])
    sensor = open_perf(event_source, counters)
    assert counters.opened == [(22, 2, 0), (22, 2, 28)]
    assert sensor.read_counter() == 30_000
    assert sensor.read_counter() == 33_500
    assert sensor.read_power().instant_mw is None
    sensor.close()
    sensor.close()


def test_a_range_of_processors(event_source: Path) -> None:
    (event_source / "cpumask").write_text("0-2\n")
    counters = Counters([1.0], [1.0], [1.0])
    open_perf(event_source, counters).close()
    assert [cpu for _, _, cpu in counters.opened] == [0, 1, 2]


@pytest.mark.parametrize("missing", ["type", "cpumask", "events/energy-pkg", "events/energy-pkg.scale"])
def test_an_incomplete_tree_is_no_sensor(event_source: Path, missing: str) -> None:
    (event_source / missing).unlink()
    with pytest.raises(DeviceError, match="no energy-pkg event"):
        open_perf(event_source)


@pytest.mark.parametrize("name", ["cpumask", "events/energy-pkg", "type"])
def test_a_garbled_tree_is_no_sensor(event_source: Path, name: str) -> None:
    (event_source / name).write_text("umask=0x1,")
    with pytest.raises(DeviceError, match="no energy-pkg event"):
        open_perf(event_source)


def test_no_permission_names_the_setting_and_leaks_nothing(event_source: Path) -> None:
    first: list[int] = []

    def refuse_the_second(kind: int, config: int, cpu: int) -> int:
        if first:
            raise PermissionError(errno.EACCES, "Permission denied")
        first.append(os.open(os.devnull, os.O_RDONLY))
        return first[0]

    with pytest.raises(DeviceError, match=r"sysctl kernel.perf_event_paranoid=0"):
        open_perf(event_source, refuse_the_second)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(first[0])


def test_an_event_that_goes_away_is_lost(event_source: Path) -> None:
    sensor = open_perf(event_source, Counters([1.0], [1.0]))
    for descriptor in sensor._descriptors:
        os.close(descriptor)
    with pytest.raises(SensorLost, match="perf"):
        sensor.read_counter()


def test_the_system_call_counts_a_software_event() -> None:
    """PERF_TYPE_SOFTWARE 1, cpu-clock 0: nanoseconds on one processor. Shows that the attributes are laid out right."""
    try:
        descriptor = open_event(1, 0, 0)
    except PermissionError:
        pytest.skip("perf events are not permitted here")
    begun = time.monotonic_ns()
    first = int.from_bytes(os.read(descriptor, 8), "little")
    time.sleep(0.1)
    second = int.from_bytes(os.read(descriptor, 8), "little")
    passed = time.monotonic_ns() - begun
    os.close(descriptor)
    assert 0.5 * passed < second - first <= 1.1 * passed


def test_a_cpu_without_either_says_why_of_both() -> None:
    from flopwatt.measurement.power.process import open_sampler

    sampler = open_sampler("cpu")
    try:
        if sampler.source != "none":
            assert sampler.source in ("rapl", "perf")
            return
        reason = sampler.stop().unreadable["power"]
        assert "RAPL:" in reason
        assert "perf:" in reason
    finally:
        sampler.close()
