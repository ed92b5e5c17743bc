"""Names that no encoding knows, or that would steer a terminal: shown as codes, and never a fault of the program."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

import synthetic

from flopwatt.runs.records import End, encode
from flopwatt.runs.store import read
from flopwatt_process import flopwatt

TABLE = "m,n,k,dtype,layout,time_s\n64,64,64,bf16,nt,1e-3\n"
ODD = os.fsdecode(b"odd\xff\x1b[31m")
SHOWN = r"odd\udcff\x1b[31m"


def test_a_table_of_such_a_name_is_imported_and_its_source_says_so(tmp_path: Path) -> None:
    (tmp_path / f"{ODD}.csv").write_text(TABLE)
    done = flopwatt("import", "csv", f"{ODD}.csv", "--gpu", "H100", "-o", f"{ODD}.jsonl", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f": {SHOWN}.jsonl\n" in done.stdout
    assert read(tmp_path / f"{ODD}.jsonl").header.source == f"CSV: {SHOWN}.csv"


@pytest.mark.parametrize(
    "words",
    [
        ("check", f"{ODD}.jsonl"),
        ("calibrate", f"{ODD}.csv", "--gpu", "H100-SXM5-80GB", "-o", f"{ODD}.json"),
        ("run", "--plan", "--simulate", ODD),
        ("run", "--plan", "--device", ODD),
        ("report", f"{ODD}.jsonl"),
    ],
)
def test_it_is_one_line_in_codes_wherever_it_is_named(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = flopwatt(*words, cwd=tmp_path)
    said = done.stdout + done.stderr
    assert done.returncode == 2
    assert len(said.splitlines()) == 1
    assert "fault" not in said
    assert all(character.isprintable() for character in said.rstrip("\n"))


def test_what_was_written_there_is_said_in_codes(tmp_path: Path) -> None:
    done = flopwatt("calibrate", "--gpu", "H100-SXM5-80GB", "-o", f"{ODD}.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{SHOWN}.json" in done.stdout
    assert (tmp_path / f"{ODD}.json").exists()


def test_a_suite_file_of_such_a_name_is_planned_and_its_name_can_be_written(tmp_path: Path) -> None:
    (tmp_path / f"{ODD}.toml").write_text("[[gemm]]\nm = 64\nn = 64\nk = 64\n")
    done = flopwatt("run", "--simulate", "h100", "--suite", f"{ODD}.toml", "-o", "run.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "run.jsonl").header.suites[0].name == SHOWN


def test_what_a_plan_holds_is_shown_in_codes_and_may_be_of_no_suite(tmp_path: Path) -> None:
    case = synthetic.Case(problem=synthetic.PROBLEM, backend="torch\x1b[31m")
    planned = synthetic.Planned(case_id=synthetic.case_id(case), case=case)
    lines = (synthetic.header(plan=(planned,)), synthetic.segment(), End(at="", reason="interrupted"))
    (tmp_path / "run.jsonl").write_bytes(b"".join(encode(line) + b"\n" for line in lines))
    done = flopwatt("run", "--resume", "run.jsonl", "--plan", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert r"torch\x1b[31m" in done.stdout
    assert "\x1b" not in done.stdout
