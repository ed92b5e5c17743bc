"""`check` finds what cannot be true, and leaves alone what can."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

import msgspec
import pytest
from synthetic import header, measurement, record, segment

from flopwatt.analysis.check import check
from flopwatt.runs.records import Correctness, End, Record
from flopwatt.runs.samples import CounterTrace, Load, SlowTrace
from flopwatt.runs.store import RunFile

END = End(at="x", reason="done")


def faults(*records: Record, **fields: object) -> list[str]:
    run = RunFile(Path("x"), header(records), (segment(),), records, end=END)
    for name, value in fields.items():
        object.__setattr__(run, name, value)
    return [fault.what for fault in check(run)]


def with_raw(**fields: object) -> Record:
    return record(measurement=msgspec.structs.replace(measurement(), **fields))


def test_a_sane_run_has_no_faults() -> None:
    assert faults(record()) == []


LIMIT = SlowTrace(t_ns=(0,), power_limit_mw=(400_000,))
BACKWARDS = CounterTrace(before_ns=(0, 1, 2), t_ns=(0, 1, 2), energy_mj=(5, 9, 7))

IMPOSSIBLE: dict[str, tuple[Record, str]] = {
    "above the peak": (record(measurement=measurement(launch_ms=0.1)), "over the dense bf16 peak of 811 at 1500 MHz"),
    "above the power limit": (with_raw(slow=LIMIT), "500 W is over the power limit of 400 W"),
    "backwards counter": (with_raw(counter=BACKWARDS), "the energy counter ran backwards"),
    "backwards marks": (with_raw(loads=(Load(t_ns=(0, 5, 3), launches=(0, 1, 2)),)), "marks run backwards"),
    "wrong but ok": (
        record(correctness=Correctness(relative_error=0.5, bound=0.01, method="full")),
        "over its bound",
    ),
    "ok without figures": (record(measurement=None), "status ok without a measurement"),
    "failed without reason": (record(status="failed", measurement=None), "status failed without a reason"),
    "unknown segment": (record(segment=7), "segment 7 is missing"),
    "simulated in a measured run": (record(origin="simulated"), "a simulated record in a measured run"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_be_is_named(name: str) -> None:
    impossible, expected = IMPOSSIBLE[name]
    assert any(expected in what for what in faults(impossible)), faults(impossible)


def test_altered_and_doubled_cases_are_named() -> None:
    one = record()
    altered = msgspec.structs.replace(header((one,)).plan[0], case_id="0" * 16)
    plan = msgspec.structs.replace(header((one,)), plan=(altered,))
    found = faults(one, header=plan)
    assert any("does not match its own hash" in what for what in found)
    assert any("is not in the plan" in what for what in found)
    assert any("recorded 2 times" in what for what in faults(one, record(1)))


def test_a_run_that_was_cut_off_says_how_to_go_on() -> None:
    assert faults(record(), end=None) == ["no end was written: the run was cut off; continue with --resume"]
    assert faults(record(), end=None, torn=True) == ["the last line is cut off: continue with --resume"]


def test_a_burst_is_held_against_the_highest_clock_not_against_the_one_after_it() -> None:
    """Its few clock readings may be of the rest beside it; 789 TFLOPS need 1460 MHz."""
    raw = measurement(launch_ms=0.1742)
    assert raw.power is not None
    slow = msgspec.structs.replace(raw.power, clock_mhz=(345,) * len(raw.power.t_ns))
    raw = msgspec.structs.replace(raw, power=slow)
    sustained = record(measurement=raw)
    burst = msgspec.structs.replace(
        sustained, case=msgspec.structs.replace(sustained.case, regime="burst"), energy_status="unsupported"
    )
    assert [what for what in faults(sustained) if "over the dense" in what]
    assert not [what for what in faults(burst) if "over the dense" in what]
