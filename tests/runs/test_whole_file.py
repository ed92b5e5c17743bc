"""A run file written in one go is there whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import header, record, segment

from flopwatt.errors import RunFileError
from flopwatt.runs.records import Line
from flopwatt.runs.store import read
from flopwatt.runs.whole_file import write_whole


def lines() -> Iterator[Line]:
    yield header(origin="measured")
    yield segment()
    yield record()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    write_whole(path, lines())
    assert read(path).records == (record(),)
    assert [found.name for found in tmp_path.iterdir()] == ["x.jsonl"]


@pytest.mark.parametrize("error", [ValueError("half-way"), KeyboardInterrupt()])
def test_an_exception_half_way_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def broken() -> Iterator[Line]:
        yield from lines()
        raise error

    with pytest.raises(type(error)):
        write_whole(tmp_path / "x.jsonl", broken())
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_came_to_be_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"

    def slow() -> Iterator[Line]:
        yield from lines()
        path.write_text("somebody else's")

    with pytest.raises(RunFileError, match=r"x\.jsonl exists: choose another name for -o"):
        write_whole(path, slow())
    assert path.read_text() == "somebody else's"
    assert [found.name for found in tmp_path.iterdir()] == ["x.jsonl"]


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="no such file or directory: choose a path that can be written with -o"):
        write_whole(tmp_path / "no" / "x.jsonl", lines())
