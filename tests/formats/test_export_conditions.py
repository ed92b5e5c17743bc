"""The sidecar of an export, and how both are written: whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from known_gpu import HALF_WIDTH, known

from flopwatt.analysis.calibrate.records import Source, Spread, State
from flopwatt.analysis.formats import calculon
from flopwatt.analysis.formats.exporting import files, gemms
from flopwatt.analysis.formats.exporting.conditions import Conditions
from flopwatt.analysis.formats.exporting.export import describe
from flopwatt.errors import InputError

SOURCE = Source(
    file="table.jsonl", run_id="a" * 32, sha256="b" * 64, origin="imported", created="2026-11-22T09:00:00Z",
    gpu="NVIDIA H100 80GB HBM3", source="a published table", licence="Apache-2.0",
)  # fmt: skip
STATE = State(regime="sustained", inputs="normal", power_limit_w=Spread(low=650.0, median=700.0, high=700.0, count=9))


def conditions(asked=((4096, 4096, 4096, 1),)):
    calibration = known(sources=(SOURCE,), state=STATE, origin="imported")
    made = calculon.export(calibration, {"bf16": gemms.from_rows(asked, "bf16")})
    return describe(made, "calculon", calibration, "c" * 64, "0.1.0")


def test_it_says_where_when_and_how_surely_the_numbers_hold():
    found = json.loads(conditions(((4096, 4096, 4096, 1), (2**24, 2**20, 4096, 1))).to_json())
    assert (found["gpu"], found["kind"], found["origin"]) == ("NVIDIA H100 80GB HBM3", "kernel", "imported")
    assert found["state"]["regime"] == "sustained"
    assert found["state"]["power_limit_w"]["median"] == 700
    assert found["calibration"]["sha256"] == "c" * 64
    assert found["numbers"][0]["kind"] == "kernel"
    assert found["sources"][0]["licence"] == "Apache-2.0"
    (numbers,) = found["numbers"]
    assert numbers["extrapolated_share"] == 0.5
    assert numbers["time_95"] == pytest.approx(HALF_WIDTH)
    assert numbers["power_95"] == pytest.approx(HALF_WIDTH)
    assert numbers["domain"]["m"] == [1, 32768]
    assert numbers["layouts"] == ["nt"]
    assert "Calculon" in found["consumer"]


def test_it_reads_back_as_it_was_written():
    written = conditions()
    assert msgspec.json.decode(written.to_json(), type=Conditions) == written


def test_a_file_has_its_sidecar_beside_it_and_a_folder_in_it(tmp_path):
    files.write(tmp_path / "one.json", {"": b"1"}, b"{}")
    files.write(tmp_path / "many", {"a.json": b"1", "deep/b.json": b"2"}, b"{}")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["many/a.json", "many/conditions.json", "many/deep/b.json", "one.json", "one.json.conditions.json"]


@pytest.mark.parametrize("taken", ["out", "out.conditions.json"])
def test_what_is_there_is_never_replaced(tmp_path, taken):
    (tmp_path / taken).write_text("mine")
    with pytest.raises(InputError, match=f"{taken} exists: choose another name for -o"):
        files.write(tmp_path / "out", {"": b"1"}, b"{}")
    assert (tmp_path / taken).read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == [taken]


def test_a_link_into_nowhere_is_not_written_through(tmp_path):
    (tmp_path / "out.conditions.json").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"out\.conditions\.json exists"):
        files.write(tmp_path / "out", {"": b"1"}, b"{}")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("contents", [{"": b"1"}, {"a": b"1", "b": b"2"}])
def test_a_disk_that_fails_leaves_nothing(tmp_path, monkeypatch, contents):
    def full(self, *_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(InputError, match="no space left on device: nothing was written"):
        files.write(tmp_path / "out", contents, b"{}")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"the folder .*none does not exist"):
        files.check_free(tmp_path / "none" / "out")


@pytest.mark.parametrize("name", [".", "..", "/", "folder/.."])
def test_a_folder_without_a_name_of_its_own_is_refused(name):
    with pytest.raises(InputError, match="is a folder that there is: name a file or folder to make in it with -o"):
        files.check_free(Path(name))
