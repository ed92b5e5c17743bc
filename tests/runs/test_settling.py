"""What a temperature that still moves may have hidden, from °C a second."""

from __future__ import annotations

import msgspec
import pytest
from synthetic import measurement

from flopwatt.runs.energy import judge
from flopwatt.runs.records import SensorIdentity
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.settling import allowance
from flopwatt.runs.stats import launch_time

NVML = SensorIdentity(source="nvml")


def warming(c_per_s: float, reasons: int) -> RawMeasurement:
    raw = measurement(reasons=reasons)
    assert raw.power is not None
    temps = tuple(round(50 + c_per_s * t * 1e-9) for t in raw.power.t_ns)
    return msgspec.structs.replace(raw, power=msgspec.structs.replace(raw.power, temp_c=temps))


def test_below_the_cap_it_may_hide_watts_and_at_the_cap_time() -> None:
    # 10 °C a second over 2.55 s; 0.1 % a °C for 10 s still to come.
    expected = 1e-3 * 10 * 10
    below, capped = allowance(warming(10.0, reasons=0)), allowance(warming(10.0, reasons=0x4))
    assert below.power == pytest.approx(expected, rel=0.02)
    assert (below.time, below.energy) == (0.0, below.power)
    assert capped.power == 0.0
    assert capped.time == capped.energy == pytest.approx(expected / 2, rel=0.02)


def test_a_steady_or_unknown_temperature_hides_nothing() -> None:
    assert allowance(measurement()) == (0.0, 0.0, 0.0)
    assert allowance(msgspec.structs.replace(measurement(), power=None)) == (0.0, 0.0, 0.0)


def test_what_was_neither_waited_for_nor_seen_is_allowed_for() -> None:
    unseen = msgspec.structs.replace(measurement(reasons=0), power=None, flags=("warming_unseen",))
    found = allowance(unseen)
    assert found.power == pytest.approx(1e-3 * 10 * 3.0)
    assert (found.time, found.energy) == (found.power / 2, found.power)  # whether the cap acted is unseen, too


def test_unreadable_reasons_allow_for_watts_and_for_time() -> None:
    raw = warming(10.0, reasons=0)
    assert raw.power is not None
    blind = msgspec.structs.replace(raw, power=msgspec.structs.replace(raw.power, reasons=()))
    assert allowance(blind).power == allowance(raw).power
    assert allowance(blind).time == pytest.approx(allowance(raw).power / 2)


def test_it_widens_the_intervals_and_moves_no_value() -> None:
    steady, moving = judge(measurement(reasons=0), NVML), judge(warming(10.0, reasons=0), NVML)
    assert steady.power_w is not None
    assert moving.power_w is not None
    assert moving.power_w.value == steady.power_w.value
    assert moving.power_w.relative_half_width == pytest.approx(0.100, rel=0.02)
    time = launch_time(warming(10.0, reasons=0x4), "sustained")
    assert time is not None
    assert time.relative_half_width == pytest.approx(0.050, rel=0.02)


def test_a_slow_rise_that_whole_degrees_show_as_one_step_is_not_passed_over() -> None:
    """0.3 °C a second over 2.55 s is one step or none; midway it fits twice that slope, and never less than half."""
    assert 1e-3 * 10 * 0.15 < allowance(warming(0.3, reasons=0)).power < 1e-3 * 10 * 0.65
