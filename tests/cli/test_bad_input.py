"""Wrong words and wrong input: one clear line naming the remedy, exit code 2, and nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pytest

from flopwatt_process import flopwatt

HUGE = "16777216x16777216x16777216"
SIMULATED = ("run", "--simulate", "h100")

WRONG: dict[str, tuple[tuple[str, ...], str]] = {
    "unknown suite": ((*SIMULATED, "--suite", "nonsense"), "unknown suite 'nonsense': choose one of"),
    "unknown dtype": ((*SIMULATED, "--dtype", "bf17"), "unknown dtype 'bf17': choose one of fp32"),
    "unknown backend": ((*SIMULATED, "--backend", "cublas"), "unknown backend 'cublas': choose one of torch"),
    "unknown regime": ((*SIMULATED, "--regime", "warm"), "unknown regime 'warm': choose one of burst, sustained"),
    "unknown effort": ((*SIMULATED, "--effort", "max"), "unknown effort 'max': choose one of fast"),
    "unknown inputs": ((*SIMULATED, "--inputs", "ones"), "choose normal, uniform"),
    "unknown model": ((*SIMULATED, "--model", "llama-9"), "llama-9"),
    "unknown scenario": (("run", "--simulate", "b300"), "b300"),
    "unknown device": (("run", "--device", "tpu"), "unknown device 'tpu': give auto, cpu or cuda:N"),
    "no such GPU": (("run", "--device", "cuda:7"), "run `flopwatt doctor`"),
    "shape zero": ((*SIMULATED, "--shape", "0x1x1"), "M = 0 is outside 1..16777216"),
    "shape negative": ((*SIMULATED, "--shape", "-4x4x4"), "M = -4 is outside"),
    "shape words": ((*SIMULATED, "--shape", "big"), "write MxNxK"),
    "shape absurd": ((*SIMULATED, "--shape", HUGE), "give a shape that fits"),
    "shape too large for this GPU": ((*SIMULATED, "--shape", "200000x200000x200000"), "give a smaller shape"),
    "budget words": ((*SIMULATED, "--budget", "soon"), "write a number with s, m or h"),
    "processes": ((*SIMULATED, "--processes", "0"), "--processes 0: give 1 to 100"),
    "seq without model": ((*SIMULATED, "--seq", "4096"), "name one with --model"),
    "not a number": ((*SIMULATED, "--seed", "x"), "Invalid value for '--seed'"),
    "unknown option": ((*SIMULATED, "--warp", "9"), "No such option: --warp"),
    "unknown command": (("measure",), "No such command 'measure'"),
    "no folder": ((*SIMULATED, "-o", "nowhere/run.jsonl"), "does not exist: create it, or choose another -o"),
    "missing file": (("show", "none.jsonl"), "none.jsonl: no such file or directory"),
    "figures of nothing": (("report", "none.jsonl", "--png", "figures"), "none.jsonl: no such file or directory"),
    "output is a folder": ((*SIMULATED, "-o", "."), ". is a folder: name a file with -o"),
    "resume nothing": (("run", "--resume", "none.jsonl"), "none.jsonl: no such file or directory"),
    "format": (("show", "none.jsonl", "--format", "xml"), "unknown format 'xml': choose one of table"),
}


@pytest.mark.parametrize("name", WRONG)
def test_one_line_exit_2_and_nothing_written(tmp_path: Path, name: str) -> None:
    words, expected = WRONG[name]
    done = flopwatt(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert done.stderr.startswith("flopwatt: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


MALFORMED = {
    "not TOML": "m = [",
    "unknown key": "[[gemm]]\nm=1\nn=1\nk=1\nq=1\n",
    "wrong type": '[[gemm]]\nm="x"\nn=1\nk=1\n',
    "zero": "[[gemm]]\nm=0\nn=1\nk=1\n",
    "empty": "",
    "binary": "\x00\x01",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_suites_are_one_line_that_names_the_file(tmp_path: Path, name: str) -> None:
    suite = tmp_path / "mine.toml"
    suite.write_text(MALFORMED[name])
    done = flopwatt(*SIMULATED, "--suite", suite, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "mine.toml" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == [suite]


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    path.write_text("mine")
    done = flopwatt(*SIMULATED, "-o", path)
    assert done.returncode == 2
    assert "--resume" in done.stderr
    assert path.read_text() == "mine"


def test_a_run_file_with_a_broken_line(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    flopwatt(*SIMULATED, "--shape", "1024x1024x1024", "--processes", "3", "-o", path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"garbage\n", *lines[3:]]))
    for words in (("show", path), (*SIMULATED, "--resume", path)):
        done = flopwatt(*words)
        assert done.returncode == 2
        assert "line 4 is broken" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = flopwatt("--debug", *SIMULATED, "--suite", "nonsense")
    assert "Traceback" in done.stderr
    assert "SuiteError" in done.stderr


def test_help_and_version() -> None:
    assert flopwatt("--version").stdout.startswith("flopwatt 0.")
    helped = flopwatt("--help")
    assert helped.returncode == 0
    for command in ("run", "show", "doctor", "suites", "backends"):
        assert command in helped.stdout
