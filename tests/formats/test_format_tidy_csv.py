"""Plain CSV: a round trip through `show --format csv`, the least a person may type, and cells that hold nonsense."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

import pytest
import synthetic
from tables import H100

from flopwatt.analysis.formats import tidy_csv
from flopwatt.analysis.formats.collect import Collector
from flopwatt.analysis.formats.foreign import Entry, Found, LeftOut
from flopwatt.errors import InputError
from flopwatt.runs.records import Use
from flopwatt.runs.store import read
from flopwatt.runs.tidy import COLUMNS, frame
from flopwatt.runs.whole_file import write_whole
from gemmkernels.problem import Problem

LEAST = "m,n,k,dtype,layout,time_s"


def rows(tmp_path: Path, text: str, gpu: str | None = H100) -> list[Found]:
    path = tmp_path / "t.csv"
    path.write_text(text, encoding="utf-8")
    return list(tidy_csv.open_table(path, gpu).rows)


def entry(tmp_path: Path, text: str) -> Entry:
    (found,) = rows(tmp_path, text)
    assert isinstance(found, Entry), found
    return found


def test_the_least_a_table_must_have(tmp_path: Path) -> None:
    found = entry(tmp_path, f"{LEAST}\n4096,4096.0,1e3,bf16,nt,0.001\n")
    assert found.case.problem == Problem(4096, 4096, 1000, dtype="bf16", layout="nt")
    assert (found.case.regime, found.case.inputs, found.case.cache) == ("unknown", "unknown", "unknown")
    assert (found.case.backend, found.case.config, found.status) == ("unknown", None, "ok")
    assert (found.machine.gpu, found.uses) == (H100, ())
    assert found.energy_status == "unsupported"


NOT_KEPT = ("run_id", "origin", "effort", "relative_error", "energy_source")


def test_a_round_trip_keeps_every_column_that_a_table_can_hold(tmp_path: Path) -> None:
    uses = (
        Use(suite="tiny", dtype="bf16", role="qkv", phase="forward", count=32),
        Use(suite="tiny", dtype="bf16", role="down", phase="forward", count=7, headline=False),
    )
    run = synthetic.write(
        tmp_path / "run.jsonl",
        synthetic.record(0, uses=uses, measurement=synthetic.measurement(ramp_w=3.0)),
        synthetic.record(
            1, Problem(64, 32, 128, layout="tn"), energy_status="disputed", energy_reason="sensors differ"
        ),
        synthetic.record(
            2, Problem(64, 32, 256), status="failed", reason="oom", energy_status="unsupported", measurement=None
        ),
        synthetic.record(3, Problem(64, 64, 256), energy_status="refused", energy_reason="too short", uses=()),
    )
    before = frame([read(run)])
    before.to_csv(tmp_path / "t.csv", index=False)
    collector = Collector("a" * 32, "2026-11-22T09:00:00Z", None, None)
    header = synthetic.header(origin="imported", source="t.csv")
    write_whole(tmp_path / "back.jsonl", [header, *collector.lines(tidy_csv.open_table(tmp_path / "t.csv", None).rows)])
    after = frame([read(tmp_path / "back.jsonl")])
    assert len(before) == len(after) == 5
    assert (collector.records, collector.rows, dict(collector.left_out)) == (4, 5, {})
    assert after["origin"].eq("imported").all()
    assert before["tflops_per_w_low"].notna().sum() == 3
    for name in COLUMNS:
        if name in NOT_KEPT:
            continue
        old, new = before[name], after[name]
        assert old.isna().tolist() == new.isna().tolist(), name
        known = old.notna()
        if COLUMNS[name] == "float64":
            assert new[known].tolist() == pytest.approx(old[known].tolist(), rel=1e-12), name
        else:
            assert new[known].tolist() == old[known].tolist(), name


POWER = [
    (",,", "unsupported"),
    ("500,,", "refused"),
    ("500,1.0,ok", "refused"),
    ("500,30,", "unidentified"),
    ("500,30,ok", "ok"),
    ("500,30,unsteady", "unsteady"),
    ("500,,ok", "refused"),
    ("500,30,refused", "refused"),
]


@pytest.mark.parametrize(("cells", "expected"), POWER)
def test_watts_count_only_with_a_window_long_enough_and_a_word_on_the_sensor(
    tmp_path: Path, cells: str, expected: str
) -> None:
    found = entry(tmp_path, f"{LEAST},power_w,window_s,energy_status\n64,64,64,bf16,nt,1e-5,{cells}\n")
    assert found.energy_status == expected
    assert bool(found.energy_reason) == (expected not in ("ok", "unsteady"))


def test_adjacent_rows_of_one_case_are_its_uses(tmp_path: Path) -> None:
    lines = [f"{LEAST},suite,role,count", *(f"64,64,64,bf16,nt,1e-5,s,{role},2" for role in ("a", "b"))]
    found = entry(tmp_path, "\n".join(lines))
    assert [(use.role, use.count) for use in found.uses] == [("a", 2), ("b", 2)]
    assert found.rows == 2


CELLS = {
    "m,64": ("64x", "m is not a number"),
    "thousands": ('"4,096"', "m is not a number"),
    "half": ("64.5", "m is not a whole number"),
    "nan": ("nan", "m is not finite"),
    "inf": ("-inf", "m is not finite"),
    "huge": ("1e308", "m is not a whole number"),
    "negative": ("-64", "a size outside 1 to 16777216"),
    "zero": ("0", "a size outside 1 to 16777216"),
    "empty": ("", "no m, n and k"),
    "arabic digits are digits, underscores are not": ("6_4", "m is not a number"),
    "hexadecimal": ("0x40", "m is not a number"),
}


@pytest.mark.parametrize("name", CELLS)
def test_a_size_that_is_none_costs_its_row(tmp_path: Path, name: str) -> None:
    cell, reason = CELLS[name]
    bad, good = rows(tmp_path, f"{LEAST}\n{cell},64,64,bf16,nt,1e-5\n64,64,64,bf16,nt,1e-5\n")
    assert isinstance(bad, LeftOut)
    assert bad.reason.startswith(reason)
    assert isinstance(good, Entry)


NONSENSE = {
    "dtype": ("dtype", "bf17", "formats or sizes that a run file cannot hold together"),
    "layout": ("layout", "tt", "formats or sizes that a run file cannot hold together"),
    "status": ("status", "great", "status is none of ok, skipped, failed"),
    "regime": ("regime", "warm", "regime is none of burst, sustained, unknown"),
    "phase": ("phase", "sideways", "phase is none of forward"),
    "time": ("time_s", "1e400", "time_s is not finite"),
    "no time": ("time_s", "", "time_s is empty"),
    "interval": ("time_s_low", "9", "time_s lies outside its own interval"),
    "negative joules": ("energy_j", "-1", "energy_j is negative"),
    "absurd watts": ("power_w", "1e9", "power_w is outside 0 to 100 kW"),
    "simulated": ("origin", "simulated", "simulated: not a measurement of any GPU"),
    "count": ("count", "0", ""),
    "process": ("process", "-1", "process is outside"),
    "config": ("config", "x" * 3000, "config is longer than 2000"),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_a_word_that_is_none_costs_its_row(tmp_path: Path, name: str) -> None:
    column, cell, reason = NONSENSE[name]
    cells = {"m": "64", "n": "64", "k": "64", "dtype": "bf16", "layout": "nt", "time_s": "1e-5", "suite": "s"}
    cells[column] = cell
    (found,) = rows(tmp_path, f"{','.join(cells)}\n{','.join(cells.values())}\n")
    assert isinstance(found, LeftOut)
    assert found.reason.startswith(reason)


def test_a_configuration_comes_back_as_it_was(tmp_path: Path) -> None:
    def config(text: str) -> object:
        return entry(tmp_path, f'{LEAST},config\n64,64,64,bf16,nt,1e-5,"{text}"\n').case.config

    assert config("BLOCK_M=128,flag=True,name=x") == {"BLOCK_M": 128, "flag": True, "name": "x"}
    assert config("whatever it was") == {"config": "whatever it was"}
    assert config("id=007,big=" + "9" * 40) == {"id": "007", "big": "9" * 40}


BROKEN = {
    "empty": (b"", "empty: give a CSV file with a header"),
    "no such columns": (b"a,b\n1,2\n", "no column m, n, k, dtype, layout, time_s, first is 'a'"),
    "cut off": (f"{LEAST}\n64,64,64,bf16,nt,1e-5\n64,64".encode(), "line 3 has 2 cells, the header 6"),
    "mixed schema": (f"{LEAST}\n64,64,64,bf16,nt,1e-5,7\n".encode(), "line 2 has 7 cells, the header 6"),
    "not text": (b"PAR1\xff\xfe\x00", "not UTF-8 text"),
    "one endless line": (b"m," * 2**20, "a line of over 1048576 characters"),
    "one endless cell": (f'{LEAST}\n"'.encode() + b"x\n" * 200_000, "field larger than field limit"),
    "control codes": (b"\x1b[31mm,n\n1,2\n", "first is '\\\\x1b[31mm'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_printable_line(tmp_path: Path, name: str) -> None:
    content, expected = BROKEN[name]
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        list(tidy_csv.open_table(path, H100).rows)
    assert expected in str(caught.value)
    assert str(caught.value).isprintable()


def test_the_gpu_is_the_rows_own_or_the_one_given(tmp_path: Path) -> None:
    table = f"{LEAST},gpu\n64,64,64,bf16,nt,1e-5,\n64,64,64,bf16,nt,1e-5,NVIDIA L4\n"
    first, second = rows(tmp_path, table, None)
    assert first == LeftOut("no GPU named: say which it was with --gpu")
    assert isinstance(second, Entry)
    assert second.machine.gpu == "NVIDIA L4"
