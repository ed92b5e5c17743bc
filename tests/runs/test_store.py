"""The run file: written line by line, read whole, repaired, and refused when it is not one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic import header, record, segment, write

from flopwatt.errors import RunFileError
from flopwatt.runs.records import Correctness, Event, decode, encode
from flopwatt.runs.store import RunWriter, read
from flopwatt.runs.tidy import load

GOLDEN = Path(__file__).parent / "golden"


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    first, second = record(0), record(1, status="failed", reason="boom", measurement=None, energy_status="unsupported")
    run = read(write(tmp_path / "run.jsonl", first, second))
    assert run.records == (first, second)
    assert run.header.plan[0].case == first.case
    assert run.segments == (segment(),)
    assert run.end is None
    assert not run.torn


def test_every_line_is_one_json_object_with_its_type(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", record())
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["type"] for line in lines] == ["run", "segment", "record"]
    assert lines[0]["schema"] == 1
    assert lines[2]["case"]["problem"] == {
        "m": 4096, "n": 4096, "k": 4096, "batch": 1,
        "dtype": "bf16", "out_dtype": "bf16", "layout": "nt", "scaling": None,
    }  # fmt: skip
    assert lines[2]["measurement"]["kind"] == "raw"
    assert {"status", "reason", "energy_status", "energy_reason", "process", "uses"} <= lines[2].keys()


@pytest.mark.parametrize("cut", [1, 10, 300])
def test_a_torn_last_line_is_left_out_and_cut_off_on_resume(tmp_path: Path, cut: int) -> None:
    path = write(tmp_path / "run.jsonl", record(0), record(1))
    whole = path.read_bytes()
    path.write_bytes(whole[: -cut - 1])
    run = read(path)
    assert run.torn
    assert len(run.records) == 1
    writer, before, removed = RunWriter.resume(path)
    with writer:
        assert len(before.records) == 1
        assert removed == len(whole[: -cut - 1]) - (whole[:-1].rfind(b"\n") + 1)
        writer.append(record(2))
    assert [r.id[-1] for r in read(path).records] == ["0", "2"]


def test_a_whole_last_line_that_lacks_its_newline_is_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", record(0), record(1))
    path.write_bytes(path.read_bytes()[:-1])
    writer, before, removed = RunWriter.resume(path)
    with writer:
        assert (len(before.records), removed) == (2, 0)
        writer.append(record(2))
    assert len(read(path).records) == 3


def test_a_broken_line_in_the_middle_is_one_clear_line(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", record(0), record(1))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], lines[2][:100] + b"\n", *lines[3:]]))
    with pytest.raises(RunFileError, match=r"line 3 is broken.*restore the file or delete that line"):
        read(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut off before anything was measured: delete it and start again"),
        (b'{"type":"run","schema":1,"id":"ab', "cut off before anything was measured: delete it and start again"),
        (b"hello\n", "line 1 is broken"),
        (b'{"type":"segment"}\n', "line 1 is broken"),
        (b'{"type":"run","schema":99,"shape":"new"}\n', "schema 99 is newer than this flopwatt's 1"),
        (b'{"type":"end","at":"x","reason":"done"}\n', "expected one run header, first"),
    ],
)
def test_foreign_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "foreign.jsonl"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=message):
        read(path)


def test_two_headers_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", record())
    path.write_bytes(path.read_bytes() * 2)
    with pytest.raises(RunFileError, match="line 4"):
        read(path)


def test_line_types_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", record())
    with path.open("ab") as file:
        file.write(b'{"type":"hologram","depth":3}\n' + encode(Event(at="x", what="y", message="z")) + b"\n")
    run = read(path)
    assert len(run.records) == 1
    assert run.events[0].message == "z"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"windows":[{"load":0', b'"windows":[{"load":3'),
        (b'"launches":[0,', b'"launches":['),
        (b'"energy_mj":[0,', b'"energy_mj":['),
        (b'"m":4096', b'"m":0'),
        (b'"status":"ok"', b'"status":"great"'),
    ],
)
def test_a_record_that_contradicts_itself_is_one_clear_line(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = write(tmp_path / "run.jsonl", record(0), record(1))
    lines = path.read_bytes().splitlines(keepends=True)
    assert old in lines[2]
    path.write_bytes(b"".join([*lines[:2], lines[2].replace(old, new), *lines[3:]]))
    with pytest.raises(RunFileError, match="line 3 is broken"):
        read(path)


def test_a_missing_file_and_a_folder_are_one_line_each(tmp_path: Path) -> None:
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(RunFileError, match="give the path of a run file"):
            read(path)


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "run.jsonl", record())
    before = path.read_bytes()
    with pytest.raises(RunFileError, match=r"exists: choose another name, or continue it with --resume"):
        RunWriter.create(path, header())
    assert path.read_bytes() == before


def test_two_writers_cannot_mix(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    with RunWriter.create(path, header()), pytest.raises(RunFileError, match="another flopwatt is writing"):
        RunWriter.resume(path)
    RunWriter.resume(path)[0].close()


def test_a_full_disk_is_one_line_and_keeps_what_was_measured(tmp_path: Path) -> None:
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from synthetic import header, record, segment
from flopwatt.errors import RunFileError
from flopwatt.runs.store import RunWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
writer = RunWriter.create(Path({str(tmp_path / "run.jsonl")!r}), header())
writer.append(segment())
try:
    for index in range(100):
        writer.append(record(index))
except RunFileError as error:
    print(index, error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    kept = int(done.stdout.split()[0])
    assert "what was measured before is kept" in done.stdout
    run = read(tmp_path / "run.jsonl")
    assert len(run.records) == kept > 0
    assert not run.torn


def test_a_record_is_under_50_kb() -> None:
    from synthetic import measurement

    long = record(measurement=measurement(seconds=20.0))
    assert len(encode(long)) < 50_000 * 2  # 2000 marks here; measuring keeps 400
    assert decode(encode(long)) == long


def test_infinite_errors_have_no_json_and_are_null() -> None:
    line = encode(record(correctness=Correctness(relative_error=None, bound=0.008, method="full")))
    assert json.loads(line)["correctness"]["relative_error"] is None


def test_golden_files_of_every_schema_version_still_load() -> None:
    versions = sorted(GOLDEN.glob("schema-*.jsonl"))
    assert [path.stem for path in versions] == ["schema-1"]
    table = load(versions)
    assert table["tflops"].round(1).tolist() == [137.4]
    assert table["power_w"].round(0).tolist() == [500.0]
    assert table["gpu"].tolist() == ["NVIDIA H100 80GB HBM3"]


def test_reading_results_imports_no_torch_triton_or_nvml() -> None:
    script = f"""
import sys, flopwatt
table = flopwatt.load({str(GOLDEN / "schema-1.jsonl")!r})
import flopwatt.analysis.report.terminal
loaded = {{"torch", "triton", "pynvml"}} & sys.modules.keys()
assert not loaded, loaded
print(len(table))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1", done.stderr


def test_bytes_that_are_not_text_are_one_short_line(tmp_path: Path):
    path = tmp_path / "run.jsonl"
    lines = (Path(__file__).parent / "golden" / "schema-1.jsonl").read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1].replace(b'"segment"', b'"\xffegment"', 1), *lines[2:]]))
    with pytest.raises(RunFileError, match="line 2 is broken"):
        read(path)
    path.write_bytes(lines[0] + b'{"type":"record","' + b"x" * 100_000 + b'":1}\n' + lines[1])
    with pytest.raises(RunFileError, match="line 2 is broken") as refused:
        read(path)
    assert len(str(refused.value)) < 500 + len(str(path))
