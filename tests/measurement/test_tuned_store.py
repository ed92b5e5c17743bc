"""The tuning store's files: added to whole, refused whole."""

from __future__ import annotations

import json
import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import msgspec
import pytest
from tuned_entries import SMALL, SQUARE, VERSIONS, WIDE, entry, problem

from flopwatt.errors import TuningStoreError
from flopwatt.measurement.tuned import store as tuning_store
from flopwatt.measurement.tuned.store import add, load, parse


def test_what_is_added_is_read_back(tmp_path: Path):
    path = tmp_path / "made" / "tuning.json"
    entries = [entry(problem(), WIDE), entry(problem(8192), SQUARE, objective="energy")]
    assert add(path, entries) == 2
    assert sorted(load(path), key=lambda found: found.bucket) == entries
    assert json.loads(path.read_text())["format"] == 1
    assert [file.name for file in path.parent.iterdir() if file.name.startswith(".")] == []


def test_a_newer_measurement_of_the_same_takes_its_place(tmp_path: Path):
    path = tmp_path / "tuning.json"
    add(path, [entry(problem(), WIDE), entry(problem(8192), WIDE)])
    assert add(path, [entry(problem(), SQUARE)]) == 2
    assert {found.problem.m: found.config for found in load(path)} == {4096: SQUARE, 8192: WIDE}


@pytest.mark.parametrize(
    "other",
    [
        {"objective": "energy"},
        {"gpu": "NVIDIA H200"},
        {"backend": "triton-persistent"},
        {"versions": VERSIONS | {"triton": "3.8.0"}},
        {"origin": "measured"},
    ],
)
def test_an_entry_about_something_else_stays_beside_it(tmp_path: Path, other: dict[str, str]):
    path = tmp_path / "tuning.json"
    add(path, [entry(problem(), WIDE)])
    assert add(path, [entry(problem(), SQUARE, **other)]) == 2


def test_no_file_is_an_empty_store(tmp_path: Path):
    assert load(tmp_path / "none.json") == ()


VALID = msgspec.to_builtins(entry(problem(), SMALL))


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"format": 1}',
        b'{"format": 0, "entries": []}',
        b"[" * 100_000,
        json.dumps({"format": 1, "entries": [VALID | {"config": {"BLOCK_M": [1]}}]}).encode(),
        json.dumps({"format": 1, "entries": [VALID | {"objective": "luck"}]}).encode(),
        json.dumps({"format": 1, "entries": [VALID | {"colour": "red"}]}).encode(),
        json.dumps({"format": 1, "entries": [VALID | {"problem": VALID["problem"] | {"m": 0}}]}).encode(),
        json.dumps({"format": 1, "entries": [{k: v for k, v in VALID.items() if k != "evidence"}]}).encode(),
    ],
)
def test_a_damaged_store_is_one_line_with_a_remedy_and_is_kept(tmp_path: Path, damaged: bytes):
    path = tmp_path / "tuning.json"
    path.write_bytes(damaged)
    with pytest.raises(TuningStoreError, match="not a tuning store") as raised:
        add(path, [entry(problem(), WIDE)])
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600
    assert str(raised.value).endswith("move the file away and tune again")
    assert path.read_bytes() == damaged


def test_a_newer_format_asks_for_a_newer_flopwatt():
    with pytest.raises(TuningStoreError, match="format 2 is newer than this flopwatt's 1: upgrade"):
        parse(b'{"format": 2, "entries": {"of": "another kind"}}', "x.json")


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TuningStoreError, match="choose a store that can be written with -o"):
        add(tmp_path / "file" / "tuning.json", [entry(problem(), WIDE)])


def test_the_users_store_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert tuning_store.user_path() == tmp_path / "flopwatt" / "tuning.json"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert tuning_store.user_path() == Path("/home/somebody/.local/share/flopwatt/tuning.json")


def _add_ten(path: Path, which: int, together: Barrier) -> None:
    together.wait(60)
    for index in range(10):
        add(path, [entry(problem(64 * (1 + 10 * which + index)), WIDE)])


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path):
    path = tmp_path / "tuning.json"
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(2)
    adding = [context.Process(target=_add_ten, args=(path, which, together)) for which in range(2)]
    for process in adding:
        process.start()
    for process in adding:
        process.join(60)
    assert [process.exitcode for process in adding] == [0, 0]
    assert len(load(path)) == 20


def test_what_is_shipped_was_measured():
    assert [found.evidence.origin for found in tuning_store.shipped() if found.evidence.origin != "measured"] == []
