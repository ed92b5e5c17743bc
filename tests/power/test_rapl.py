"""RAPL's counters in a powercap tree made for the purpose."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from flopwatt.errors import DeviceError
from flopwatt.measurement.power.process import NullSampler, open_sampler
from flopwatt.measurement.power.rapl import open_rapl
from flopwatt.measurement.power.sensor import PowerReading, SensorLost

RANGE_UJ = 262_143_328_850


def zone(root: Path, folder: str, name: str, energy_uj: int, range_uj: int = RANGE_UJ) -> Path:
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "energy_uj").write_text(f"{energy_uj}\n")
    (path / "max_energy_range_uj").write_text(f"{range_uj}\n")
    return path / "energy_uj"


@pytest.fixture
def two_sockets(tmp_path: Path) -> dict[str, Path]:
    return {
        "package-0": zone(tmp_path, "intel-rapl:0", "package-0", 1_000_000),
        "core": zone(tmp_path, "intel-rapl:0:0", "core", 500_000),
        "dram": zone(tmp_path, "intel-rapl:0:1", "dram", 500_000),
        "package-1": zone(tmp_path, "intel-rapl:1", "package-1", 2_000_000),
        "psys": zone(tmp_path, "intel-rapl:2", "psys", 9_000_000),
        "twin": zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1_000_000),
    }


def test_packages_alone_are_summed_in_millijoules(two_sockets, tmp_path):
    sensor = open_rapl(tmp_path)
    assert sensor.domains == ("package-0", "package-1")
    first = sensor.read_counter()
    for file, energy_uj in {"package-0": 4_000_000, "package-1": 2_500_000}.items():
        two_sockets[file].write_text(str(energy_uj))
    for file in ("core", "dram", "psys", "twin"):
        two_sockets[file].write_text("99000000000")
    assert sensor.read_counter() - first == 3500
    assert sensor.read_power() == PowerReading()
    assert sensor.unreadable["instant_mw"] == "RAPL counts energy only"


@pytest.mark.parametrize("file", ["energy_uj", "max_energy_range_uj"])
@pytest.mark.parametrize(("text", "said"), [("", "is empty"), ("n/a\n", "holds 'n/a' instead of a number")])
def test_a_counter_without_a_number_is_null_with_the_reason(two_sockets, tmp_path, file, text, said):
    bad = two_sockets["package-1"].with_name(file)
    bad.write_text(text)
    with pytest.raises(DeviceError, match=rf"RAPL: {bad} {said}: the kernel shows no counter here"):
        open_rapl(tmp_path)
    sampler = open_sampler(f"rapl:{tmp_path}")
    assert isinstance(sampler, NullSampler)
    assert f"{file} {said}" in sampler.unreadable["power"]


def test_a_counter_that_empties_while_it_is_read_is_lost_in_words(two_sockets, tmp_path):
    sensor = open_rapl(tmp_path)
    two_sockets["package-0"].write_text("")
    with pytest.raises(SensorLost, match=r"RAPL: .*energy_uj is empty"):
        sensor.read_counter()


def test_of_twins_the_register_interface_is_read(two_sockets, tmp_path):
    sensor = open_rapl(tmp_path)
    first = sensor.read_counter()
    two_sockets["twin"].write_text("7000000")
    assert sensor.read_counter() == first


def test_the_memory_mapped_interface_serves_where_it_is_alone(tmp_path):
    file = zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
    sensor = open_rapl(tmp_path)
    file.write_text("5000")
    assert sensor.read_counter() == 5


def test_each_package_wraps_at_its_own_range(tmp_path):
    near = zone(tmp_path, "intel-rapl:0", "package-0", 65_000_000, range_uj=65_532_610)
    far = zone(tmp_path, "intel-rapl:1", "package-1", 10_000_000)
    sensor = open_rapl(tmp_path)
    near.write_text("467390")
    far.write_text("11000000")
    assert sensor.read_counter() == 2000
    near.write_text("1467390")
    assert sensor.read_counter() == 3000


@pytest.mark.parametrize("present", [True, False])
def test_absence_names_the_remedy(tmp_path, present):
    root = tmp_path / "powercap"
    if present:
        zone(root, "intel-rapl:0", "psys", 1)
    with pytest.raises(DeviceError, match=r"^RAPL: no CPU package under .*: virtual machines have none.*bare host"):
        open_rapl(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_names_the_remedy(two_sockets, tmp_path):
    two_sockets["package-0"].chmod(0)
    with pytest.raises(DeviceError, match=r"^RAPL: no permission to read .*chmod a\+r"):
        open_rapl(tmp_path)


def test_no_permission_names_the_remedy_for_root_too(two_sockets, tmp_path, monkeypatch):
    def refuse(file: Path) -> str:
        if file.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(file))
        return file.read_bytes().decode()

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(DeviceError, match=r"^RAPL: no permission to read .*; as root: chmod a\+r .*/\*/energy_uj$"):
        open_rapl(tmp_path)


def test_a_counter_that_goes_away_is_a_lost_sensor(two_sockets, tmp_path):
    sensor = open_rapl(tmp_path)
    two_sockets["package-1"].unlink()
    with pytest.raises(SensorLost, match=r"RAPL: .*energy_uj"):
        sensor.read_counter()


def test_the_sampler_reads_a_known_power(tmp_path):
    file = zone(tmp_path, "intel-rapl:0", "package-0", 0)
    stop = threading.Event()
    begun = time.monotonic_ns()

    def burn() -> None:
        while not stop.wait(0.001):
            fresh = tmp_path / "fresh"
            fresh.write_text(str((time.monotonic_ns() - begun) // 10))  # 100 W
            fresh.replace(file)

    thread = threading.Thread(target=burn)
    thread.start()
    sampler = open_sampler(f"rapl:{tmp_path}")
    try:
        sampler.start()
        time.sleep(1.5)
        samples = sampler.stop()
    finally:
        sampler.close()
        stop.set()
        thread.join()
    counter = samples.counter
    assert samples.source == "rapl"
    assert samples.power is samples.slow is samples.lost is None
    assert 20 <= len(counter.t_ns) <= 34
    watts = (counter.energy_mj[-1] - counter.energy_mj[0]) * 1e6 / (counter.t_ns[-1] - counter.t_ns[0])
    assert watts == pytest.approx(100.0, rel=0.01)


def test_without_rapl_the_sampler_gives_the_reason(tmp_path):
    sampler = open_sampler(f"rapl:{tmp_path}")
    assert isinstance(sampler, NullSampler)
    assert sampler.unreadable["power"].startswith("RAPL: no CPU package under")
