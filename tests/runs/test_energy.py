"""Joules from raw traces: the right watts, the right width, and every refusal with its reason."""

from __future__ import annotations

import msgspec
import pytest
from synthetic import MS, measurement

from flopwatt.runs.energy import REASON_SW_POWER_CAP, fraction_with, judge
from flopwatt.runs.records import CounterTrace, PowerTrace, RawMeasurement, SensorIdentity, Window

NVML = SensorIdentity(source="nvml")


def replace(raw: RawMeasurement, **fields: object) -> RawMeasurement:
    return msgspec.structs.replace(raw, **fields)


def test_power_and_joules_per_launch_from_counter_edges() -> None:
    energy = judge(measurement(watts=500.0, launch_ms=2.0), NVML)
    assert (energy.status, energy.source) == ("ok", "counter")
    assert energy.power_w is not None
    assert energy.energy_j is not None
    assert energy.power_w.value == pytest.approx(500.0, rel=1e-6)
    assert energy.energy_j.value == pytest.approx(1.0, rel=1e-6)


def test_the_width_of_the_edge_brackets_enters_the_interval() -> None:
    narrow = judge(measurement(bracket_ms=1.0), NVML).power_w
    wide = judge(measurement(bracket_ms=40.0), NVML).power_w
    assert narrow is not None
    assert wide is not None
    # Two edges, each uniform over 40 ms, over the 2.4 s between the first and the last: 1.96 · √(2·40²/12) ms / 2.4 s.
    assert wide.relative_half_width == pytest.approx(1.96 * (2 * 0.040**2 / 12) ** 0.5 / 2.4, rel=0.01)
    assert narrow.relative_half_width < wide.relative_half_width / 30


def test_a_counter_read_at_arbitrary_instants_would_err_where_edges_do_not() -> None:
    """The window begins 60 ms after an edge: a raw difference over it would be short of energy."""
    raw = replace(measurement(), windows=(Window(load=0, start_ns=160 * MS, end_ns=2590 * MS),))
    power = judge(raw, NVML).power_w
    assert power is not None
    assert power.value == pytest.approx(500.0, rel=1e-6)


def test_a_short_window_is_refused_and_says_what_is_needed() -> None:
    energy = judge(measurement(seconds=0.5), SensorIdentity(source="nvml", window_s=1.0))
    assert energy.status == "refused"
    assert energy.power_w is None
    assert energy.reason == "window of 0.30 s is under the 3.10 s that a 100 ms sensor needs"


def test_counter_and_power_more_than_two_percent_apart_are_disputed_and_both_kept() -> None:
    energy = judge(measurement(watts=500.0, instant_w=512.0), NVML)
    assert energy.status == "disputed"
    assert energy.reason == "counter says 500.0 W, mean instant power 512.0 W"
    assert energy.power_w is not None
    assert judge(measurement(watts=500.0, instant_w=509.0), NVML).status == "ok"


def test_power_that_drifts_is_unsteady() -> None:
    energy = judge(measurement(ramp_w=20.0), NVML)
    assert energy.status == "unsteady"
    assert energy.reason is not None
    assert "between the first and the last third" in energy.reason
    assert judge(measurement(ramp_w=4.0), NVML).status == "ok"


def test_thermal_slowdown_spoils_a_row_and_the_power_cap_does_not() -> None:
    assert judge(measurement(reasons=0x20), NVML).status == "unsteady"
    assert judge(measurement(reasons=0x4), NVML).status == "ok"
    assert fraction_with(measurement(reasons=0x4), REASON_SW_POWER_CAP) == 1.0


def test_mig_is_refused() -> None:
    assert judge(measurement(), NVML, mig=True).status == "refused"


def test_a_counter_that_never_ticks_falls_to_power_only_where_the_sensor_is_identified() -> None:
    still = CounterTrace(before_ns=(0,), t_ns=(0,), energy_mj=(7,))
    raw = replace(measurement(watts=300.0), counter=still)
    assert judge(raw, NVML).status == "unidentified"
    known = SensorIdentity(source="nvml", update_period_s=0.1, window_s=0.025)
    energy = judge(raw, known)
    assert (energy.status, energy.source) == ("ok", "power")
    assert energy.power_w is not None
    assert energy.power_w.value == pytest.approx(300.0)


def test_zero_readings_are_no_watts() -> None:
    raw = measurement(watts=0.0)
    assert judge(raw, NVML).status == "unsupported"
    without_counter = replace(raw, counter=None)
    known = SensorIdentity(source="nvml", update_period_s=0.1, window_s=0.025)
    assert judge(without_counter, known).power_w is None


def test_nothing_readable_is_unsupported_with_the_codes() -> None:
    raw = replace(
        measurement(), counter=None, power=None, unreadable={"counter": "NOT_SUPPORTED", "power": "NO_PERMISSION"}
    )
    energy = judge(raw, NVML)
    assert energy.status == "unsupported"
    assert energy.reason == "counter: NOT_SUPPORTED; power: NO_PERMISSION"


def test_power_readings_that_are_all_null_are_no_reading() -> None:
    trace = PowerTrace(t_ns=(0, 50 * MS), instant_mw=(None, None))
    raw = replace(measurement(), counter=None, power=trace, unreadable={"instant": "NOT_SUPPORTED"})
    assert judge(raw, SensorIdentity(source="nvml", update_period_s=0.1, window_s=0.025)).status in (
        "unsupported",
        "refused",
    )
