"""`flopwatt check` on a good file altered in one place at a time: each rule of schema, hashes, physics broken once."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from flopwatt.commands.check import check_files
from flopwatt.errors import FlopwattError
from flopwatt_process import flopwatt

Lines = list[dict[str, Any]]
TARGET = 3
"""The line that most alterations touch: the second record."""


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("good") / "run.jsonl"
    shapes = [word for m in (4096, 6144, 8192) for word in ("--shape", f"{m}x8192x8192")]
    assert flopwatt("run", "--simulate", "h100", *shapes, "--effort", "fast", "-o", path).returncode == 0
    return path


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imported")
    (folder / "table.csv").write_text(
        "m,n,k,dtype,layout,backend,time_s,power_w,energy_j,window_s,power_limit_w,energy_status\n"
        "4096,4096,4096,bf16,nt,cublas,0.0002,500,0.1,5,700,ok\n8192,4096,4096,bf16,nt,cublas,0.0004,500,0.2,5,700,ok\n"
    )
    path = folder / "imported.jsonl"
    words = ("import", "csv", folder / "table.csv", "--gpu", "NVIDIA H100 80GB HBM3", "-o", path)
    done = flopwatt(*words)
    assert done.returncode == 0, done.stderr
    return path


def raw(lines: Lines) -> dict[str, Any]:
    measurement: dict[str, Any] = lines[TARGET]["measurement"]
    return measurement


def too_fast(lines: Lines) -> None:
    load = raw(lines)["loads"][0]
    load["launches"] = [2 * count for count in load["launches"]]


def slow_clock(lines: Lines) -> None:
    power = raw(lines)["power"]
    power["clock_mhz"] = [600] * len(power["t_ns"])


def over_the_limit(lines: Lines) -> None:
    counter, power = raw(lines)["counter"], raw(lines)["power"]
    counter["energy_mj"] = [round(1.3 * value) for value in counter["energy_mj"]]
    power["instant_mw"] = [value and round(1.3 * value) for value in power["instant_mw"]]


def energy_of_other_launches(lines: Lines) -> None:
    """A tenth more launches, all after the counter's last edge: its joules are of the others."""
    load, last = raw(lines)["loads"][0], raw(lines)["counter"]["t_ns"][-1]
    extra = load["launches"][-1] // 10
    load["launches"] = [
        count + (extra if t > last else 0) for t, count in zip(load["t_ns"], load["launches"], strict=True)
    ]


def no_sensor(lines: Lines) -> None:
    raw(lines).update(counter=None, power=None)


def no_marks(lines: Lines) -> None:
    for load in raw(lines)["loads"]:
        load["t_ns"], load["launches"] = load["t_ns"][:1], load["launches"][:1]


def counter_falls(lines: Lines) -> None:
    raw(lines)["counter"]["energy_mj"][-1] = 0


def plan_altered(lines: Lines) -> None:
    lines[0]["plan"][0]["case"]["problem"]["m"] *= 2


def case_altered(lines: Lines) -> None:
    lines[TARGET]["case"]["problem"]["m"] *= 2


def case_renamed(lines: Lines) -> None:
    lines[TARGET]["case_id"] = "0" * 16


def twice(lines: Lines) -> None:
    lines.insert(TARGET, lines[TARGET])


def wrong_but_ok(lines: Lines) -> None:
    lines[TARGET]["correctness"] = {"relative_error": 0.3, "bound": 0.01, "method": "full"}


def no_segment(lines: Lines) -> None:
    del lines[1]


def passed_off_as_measured(lines: Lines) -> None:
    lines[0]["origin"] = "measured"


def no_end(lines: Lines) -> None:
    del lines[-1]


def unknown_status(lines: Lines) -> None:
    lines[TARGET]["status"] = "great"


def short_trace(lines: Lines) -> None:
    raw(lines)["power"]["clock_mhz"].pop()


def newer(lines: Lines) -> None:
    lines[0]["schema"] = 99


def no_watts(lines: Lines) -> None:
    lines[TARGET]["measurement"]["power_w"] = 0.0


def more_joules(lines: Lines) -> None:
    lines[TARGET]["measurement"]["energy_j"] *= 1.5


def imported_over_the_limit(lines: Lines) -> None:
    lines[TARGET]["measurement"].update(power_w=800.0, energy_j=800.0 * lines[TARGET]["measurement"]["time_s"])


def imported_too_fast(lines: Lines) -> None:
    lines[TARGET]["measurement"].update(time_s=1e-4, energy_j=0.05)


ALTERED: dict[str, tuple[Callable[[Lines], None], int, str]] = {
    "rate over the peak": (too_fast, 1, "TFLOPS is over the dense bf16 peak of "),
    "rate over the peak at the observed clock": (slow_clock, 1, "TFLOPS is over the dense bf16 peak of 324 at 600 MHz"),
    "power over the limit": (over_the_limit, 1, "W is over the power limit of 700 W by more than 10%"),
    "energy is not power × time": (energy_of_other_launches, 1, "J, by more than 1%"),
    "watts of no sensor": (no_sensor, 1, "energy status ok, but no power sensor"),
    "time of no launches": (no_marks, 1, "status ok, but "),
    "a counter that falls": (counter_falls, 1, "the energy counter ran backwards"),
    "a plan altered": (plan_altered, 1, "does not match its own hash: the file was altered"),
    "a case altered": (case_altered, 1, "it measured 12288x8192x8192 bf16 "),
    "a case under another id": (case_renamed, 1, "case 0000000000000000 of process 0 is not in the plan"),
    "a record twice": (twice, 1, "was recorded 2 times"),
    "a wrong result": (wrong_but_ok, 1, "status ok with a relative error of 0.3 over its bound 0.01"),
    "no segment": (no_segment, 1, "segment 0 is missing"),
    "simulated as measured": (passed_off_as_measured, 2, "is a simulated record in a measured run"),
    "no end": (no_end, 1, "no end was written: the run was cut off; continue with --resume"),
    "an unknown status": (unknown_status, 2, "line 4 is broken (Invalid enum value 'great'"),
    "a trace cut short": (short_trace, 2, "line 4 is broken (the arrays of a PowerTrace differ in length"),
    "a newer schema": (newer, 2, "schema 99 is newer than this flopwatt's 1: upgrade flopwatt to read it"),
}

IMPORTED: dict[str, tuple[Callable[[Lines], None], int, str]] = {
    "rate over the peak": (imported_too_fast, 1, "TFLOPS is over the dense bf16 peak of "),
    "power over the limit": (imported_over_the_limit, 1, "800 W is over the power limit of 700 W by more than 10%"),
    "energy is not power × time": (more_joules, 1, "J, by more than 1%"),
    "no watts": (no_watts, 2, "line 4 is broken (Expected `float` >= "),
    "a case altered": (case_altered, 1, "it measured 16384x4096x4096 bf16 "),
}


def checked(path: Path, lines: Lines) -> tuple[int, str]:
    """The exit code of `flopwatt check` on these lines, and what it says."""
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    console = Console(file=io.StringIO(), width=400)
    try:
        return check_files([path], console), console.file.getvalue()  # type: ignore[attr-defined]
    except FlopwattError as error:
        return error.exit_code, str(error)


def lines_of(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_not_altered_passes(good: Path, imported: Path, tmp_path: Path) -> None:
    done = flopwatt("check", good, imported)
    assert done.returncode == 0, done.stdout
    assert f"{good}: whole and sane, 3 records" in done.stdout
    assert f"{imported}: whole and sane, 2 records" in done.stdout
    assert checked(tmp_path / "copy.jsonl", lines_of(good))[0] == 0, "written by another program"


@pytest.mark.parametrize("name", ALTERED)
def test_an_altered_run_is_named(good: Path, tmp_path: Path, name: str) -> None:
    assert_named(good, tmp_path, *ALTERED[name])


@pytest.mark.parametrize("name", IMPORTED)
def test_an_altered_import_is_named(imported: Path, tmp_path: Path, name: str) -> None:
    assert_named(imported, tmp_path, *IMPORTED[name])


def assert_named(sound: Path, folder: Path, alter: Callable[[Lines], None], code: int, expected: str) -> None:
    lines = lines_of(sound)
    alter(lines)
    found, said = checked(folder / "run.jsonl", lines)
    assert (found, expected in said) == (code, True), said


def test_one_broken_file_hides_no_other(good: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("hello\n")
    lines = lines_of(good)
    over_the_limit(lines)
    altered = tmp_path / "altered.jsonl"
    altered.write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = flopwatt("check", tmp_path / "broken.jsonl", altered, tmp_path / "none.jsonl")
    assert done.returncode == 2
    assert "over the power limit" in done.stdout
    assert "none.jsonl: no such file" in done.stdout
    assert "broken.jsonl: line 1 is broken" in done.stderr
