"""Traces that do not run forward: no figure and no warning comes of them, but a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from synthetic import measurement, record, segment

from flopwatt.runs.order import counter_disorder, marks_disorder, readings_disorder
from flopwatt.runs.records import SensorIdentity
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.tidy import record_row

Series = list[int]


def all_alike(series: Series) -> Series:
    return [series[len(series) // 2]] * len(series)


def one_repeated(series: Series) -> Series:
    return [*series[:2], series[1], *series[3:]]


def two_swapped(series: Series) -> Series:
    return [*series[:1], series[2], series[1], *series[3:]]


def reversed_(series: Series) -> Series:
    return series[::-1]


def far_away(series: Series) -> Series:
    return [2**61 + value for value in series]


def changed(part: str, series: str, change: Callable[[Series], Series]) -> RawMeasurement:
    """A steady second and a half of 500 W with one series of its traces changed."""
    raw: dict[str, Any] = json.loads(msgspec.json.encode(measurement(seconds=2.6)))
    trace = raw["loads"][0] if part == "load" else raw[part]
    trace[series] = change(trace[series])
    return msgspec.convert(raw, RawMeasurement)


MARKS = {
    ("t_ns", all_alike): "two marks share one instant",
    ("t_ns", one_repeated): "two marks share one instant",
    ("t_ns", two_swapped): "marks run backwards",
    ("t_ns", reversed_): "marks run backwards",
    ("t_ns", far_away): "marks further from the origin than any measurement lasts",
    ("launches", all_alike): "no launch completed between two marks",
    ("launches", one_repeated): "no launch completed between two marks",
    ("launches", reversed_): "marks run backwards",
    ("launches", far_away): "marks further from the origin than any measurement lasts",
}


@pytest.mark.parametrize(("where", "said"), MARKS.items())
def test_marks_out_of_order_fail_the_row_with_a_reason(
    where: tuple[str, Callable[[Series], Series]], said: str
) -> None:
    raw = changed("load", *where)
    row = record_row("r", record(measurement=raw), segment())
    assert marks_disorder(raw) == said
    assert (row["status"], row["reason"]) == ("failed", said)
    assert [row[name] for name in ("time_s", "tflops", "power_w", "energy_j", "tflops_per_w")] == [None] * 5


def test_a_load_without_marks_fails_the_row() -> None:
    raw = measurement()
    (load,) = raw.loads
    emptied = msgspec.structs.replace(raw, loads=(msgspec.structs.replace(load, t_ns=(), launches=()),))
    row = record_row("r", record(measurement=emptied), segment())
    assert (row["status"], row["reason"], row["time_s"]) == ("failed", "a load without a mark", None)


def test_marks_outside_of_every_window_fail_the_row() -> None:
    raw = measurement()
    (window,) = raw.windows
    late = msgspec.structs.replace(window, start_ns=10**12, end_ns=2 * 10**12)
    row = record_row("r", record(measurement=msgspec.structs.replace(raw, windows=(late,))), segment())
    assert (row["status"], row["reason"]) == ("failed", "no launch completed inside a window")


COUNTER = {
    ("t_ns", all_alike): "edges of the energy counter run backwards in time",
    ("t_ns", reversed_): "edges of the energy counter run backwards in time",
    ("before_ns", reversed_): "edges of the energy counter run backwards in time",
    ("before_ns", far_away): "edges of the energy counter run backwards in time",
    ("energy_mj", reversed_): "the energy counter ran backwards: it was reset, or wrapped",
    ("energy_mj", far_away): "edges of the energy counter beyond any measurement",
}


@pytest.mark.parametrize(("where", "said"), COUNTER.items())
def test_a_counter_out_of_order_costs_the_watts_and_not_the_time(
    where: tuple[str, Callable[[Series], Series]], said: str
) -> None:
    raw = changed("counter", *where)
    row = record_row("r", record(measurement=raw), segment())
    assert counter_disorder(raw) == said
    assert (row["energy_status"], row["energy_reason"], row["power_w"]) == ("refused", said, None)
    assert (row["status"], row["time_s"]) == ("ok", pytest.approx(1e-3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (all_alike, "two power readings share one instant"),
        (one_repeated, "two power readings share one instant"),
        (reversed_, "power readings run backwards in time"),
        (far_away, "power readings further from the origin than any measurement lasts"),
    ],
)
def test_readings_out_of_order_cost_the_watts_and_not_the_time(change: Callable[[Series], Series], said: str) -> None:
    raw = msgspec.structs.replace(changed("power", "t_ns", change), counter=None)
    known = segment(sensor=SensorIdentity(source="nvml", update_period_s=0.1, window_s=0.025))
    row = record_row("r", record(measurement=raw), known)
    assert readings_disorder(raw) == said
    assert (row["energy_status"], row["energy_reason"], row["power_w"]) == ("refused", said, None)
    assert (row["status"], row["time_s"]) == ("ok", pytest.approx(1e-3))


def test_a_sound_measurement_keeps_its_figures() -> None:
    raw = measurement()
    row = record_row("r", record(measurement=raw), segment())
    assert (marks_disorder(raw), counter_disorder(raw), readings_disorder(raw)) == (None, None, None)
    assert (row["status"], row["energy_status"], row["power_w"]) == ("ok", "ok", pytest.approx(500.0))
