"""Somebody else's watts: no TFLOPS per watt from a mean over no known window, or too short a one."""

from __future__ import annotations

import msgspec
import pytest
from synthetic import record, segment

from flopwatt.runs.records import End, decode, encode
from flopwatt.runs.samples import AggregateMeasurement
from flopwatt.runs.tidy import Row, record_row


def imported(energy_status: str = "ok", **fields: float) -> Row:
    """The row of an H100's 4096³ in 1 ms at 500 W, as its table has it."""
    aggregate = AggregateMeasurement(**{"time_s": 1e-3, "power_w": 500.0, **fields})
    return record_row("r", record(origin="imported", energy_status=energy_status, measurement=aggregate), segment())


@pytest.mark.parametrize("status", ["ok", "disputed", "unsteady"])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "the window over which the watts were averaged is unknown"),
        ({"window_s": 0.3}, "watts averaged over 0.3 s, less than the 2 s that a sensor may need"),
        ({"window_s": 0.0}, "watts averaged over 0 s"),
        ({"window_s": 1.99}, "watts averaged over 1.99 s"),
    ],
)
def test_a_short_or_unknown_window_has_a_time_and_no_watts_whatever_the_file_states(
    status: str, fields: dict[str, float], reason: str
) -> None:
    row = imported(status, **fields)
    assert row["energy_status"] == "refused"
    assert row["energy_reason"].startswith(reason)
    for column in ("power_w", "energy_j", "tflops_per_w", "pj_per_flop"):
        assert row[column] is None
    assert row["time_s"] == 1e-3
    assert row["tflops"] == pytest.approx(137.4, abs=0.1)


def test_a_window_long_enough_keeps_its_watts() -> None:
    row = imported(window_s=5.0)
    assert (row["energy_status"], row["power_w"]) == ("ok", 500.0)
    assert row["tflops_per_w"] == pytest.approx(0.2749, abs=1e-4)


def test_a_refusal_of_the_importer_keeps_its_own_reason() -> None:
    aggregate = AggregateMeasurement(time_s=1e-3, power_w=500.0)
    refused = record(origin="imported", energy_status="refused", energy_reason="theirs", measurement=aggregate)
    row = record_row("r", refused, segment())
    assert (row["energy_status"], row["energy_reason"], row["power_w"]) == ("refused", "theirs", None)


def test_an_end_written_before_idle_power_was_read_after_the_load_is_one() -> None:
    old = decode(b'{"type":"end","at":"2026-11-22T09:00:00Z","reason":"done","message":""}')
    assert isinstance(old, End)
    assert (old.idle_after_w, old.idle_after_reason) == (None, None)
    new = End(at="2026-11-22T09:00:00Z", reason="done", idle_after_w=95.5)
    assert decode(encode(new)) == new


@pytest.mark.parametrize(
    "wrong",
    ['"time_s":0', '"time_s":1e-300', '"time_s":1e-3,"time_s_high":0', '"time_s":1e-3,"power_w":-5.0',
     '"time_s":1e-3,"energy_j":0', '"time_s":1e-3,"power_w_low":-1', '"time_s":1e99'],
)  # fmt: skip
def test_an_amount_that_nothing_can_be_divided_by_is_refused(wrong: str) -> None:
    """Written by hand: an importer refuses such a row itself."""
    line = encode(record(origin="imported", measurement=AggregateMeasurement(time_s=1e-3)))
    assert b'"time_s":0.001' in line
    with pytest.raises(msgspec.ValidationError, match="Expected `float`"):
        decode(line.replace(b'"time_s":0.001', wrong.encode()))
