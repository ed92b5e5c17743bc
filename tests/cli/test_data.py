"""Data for other programs: nothing in CSV runs in a spreadsheet, and no output replaces what it is made from."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))

from comparing import case, imported
from comparing import run as run_of

from flopwatt.commands.data import csv_rows, json_array
from flopwatt.commands.writing import refuse_input, whole
from flopwatt.errors import InputError
from flopwatt.runs.tidy import frame
from gemmkernels.problem import Problem


@pytest.mark.parametrize("word", ["=cmd|'/c calc'!A1", "+1", "-1", "@x", "\t=1"])
def test_words_of_a_file_are_no_formula(word: str) -> None:
    file = io.StringIO()
    csv_rows(file, [{"gpu": word, "time_s": -1.5}, {"time_s": 1.0}], ("gpu", "reason", "time_s"), ("gpu", "reason"))
    header, first, second = csv.reader(io.StringIO(file.getvalue()))
    assert header == ["gpu", "reason", "time_s"]
    assert first == [f"'{word}", "", "-1.5"]
    assert second == ["", "", "1.0"]


@pytest.mark.parametrize("rows", [[], [{"a": 1}], [{"a": None}, {"a": "=1"}]])
def test_an_array_holds_its_rows_as_they_are(rows: list[dict[str, object]]) -> None:
    file = io.StringIO()
    json_array(file, rows)
    assert json.loads(file.getvalue()) == rows


def test_what_is_read_is_not_written_over(tmp_path: Path) -> None:
    path, link = tmp_path / "run.jsonl", tmp_path / "link.jsonl"
    path.write_text("measured")
    link.symlink_to(path)
    for output in (path, link):
        with pytest.raises(InputError, match="choose another -o"):
            refuse_input(output, [tmp_path / "other.jsonl", path])
    refuse_input(tmp_path / "new.csv", [path])
    refuse_input(None, [path])


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path, link = tmp_path / "table.csv", tmp_path / "link.csv"
    path.write_text("before")
    link.symlink_to(path)
    with pytest.raises(KeyError), whole(link) as part:
        raise KeyError(part.write_text("half"))
    assert path.read_text() == "before"
    with whole(link) as part:
        part.write_text("after")
    assert (path.read_text(), link.is_symlink()) == ("after", True)
    assert sorted(tmp_path.iterdir()) == [link, path]
    with whole(Path("/dev/null")) as device:
        assert device == Path("/dev/null")
    with pytest.raises(InputError, match=r"not a directory: choose another --png$"), whole(path / "x", "--png") as part:
        part.write_text("nowhere")


def test_flop_beyond_64_bits_are_null_in_a_table() -> None:
    huge = case(problem=Problem(1_700_000, 1_700_000, 1_700_000, dtype="fp8_e4m3", out_dtype="fp8_e4m3"))
    table = frame([run_of("a", imported(huge, 1e4))])
    assert table.flop.isna().all()
    assert table.tflops[0] == pytest.approx(2 * 1_700_000**3 / 1e4 * 1e-12)
