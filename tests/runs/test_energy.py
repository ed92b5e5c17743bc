"""Joules from raw traces: the right watts, the right width, and every refusal with its reason."""

from __future__ import annotations

import math

import msgspec
import pytest
from synthetic import MS, measurement

from flopwatt.runs.energy import judge
from flopwatt.runs.joules import between_edges
from flopwatt.runs.records import SensorIdentity
from flopwatt.runs.samples import CounterTrace, PowerTrace, RawMeasurement, SlowTrace, Window
from flopwatt.runs.throttling import REASON_SW_POWER_CAP, fraction_with

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
    # Behind such edges drift of their size would go unseen, and so the interval is wider still.
    edges = 1.96 * (2 * 0.040**2 / 12) ** 0.5 / 2.4
    assert edges < wide.relative_half_width < 2.5 * edges
    assert narrow.relative_half_width < wide.relative_half_width / 10


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
    assert energy.reason == "window of 0.50 s is under the 3.10 s that a sensor of 100 ms period and 1 s average needs"


def test_a_counter_that_stopped_ticking_vouches_for_no_longer_than_it_ticked() -> None:
    raw = measurement(seconds=5.0)
    assert raw.counter is not None
    stopped = CounterTrace(**{name: getattr(raw.counter, name)[:12] for name in raw.counter.__struct_fields__})
    energy = judge(replace(raw, counter=stopped), NVML)
    assert energy.status == "refused"
    assert energy.reason == "window of 1.20 s is under the 2.10 s that a sensor of 100 ms period needs"


def test_the_published_mistake_is_refused() -> None:
    """A 0.3 s window on a 1 s average shows the idle time before the load as cheap watts."""
    raw = only_average(measurement(seconds=0.3, watts=310.0))
    sensor = SensorIdentity(source="nvml", update_period_s=0.1, average_window_s=1.0)
    energy = judge(raw, sensor)
    assert (energy.status, energy.power_w, energy.energy_j) == ("refused", None, None)
    assert energy.reason == "window of 0.30 s is under the 3.10 s that a sensor of 100 ms period and 1 s average needs"


def test_a_running_average_counts_once_it_has_forgotten_what_came_before_the_load() -> None:
    raw = only_average(measurement(seconds=5.0, watts=500.0))
    assert raw.power is not None
    climbing = tuple(round(5e5 * min(1.0, t / (1000 * MS))) for t in raw.power.t_ns)
    raw = replace(raw, power=msgspec.structs.replace(raw.power, average_mw=climbing))
    energy = judge(raw, SensorIdentity(source="nvml", update_period_s=0.1, average_window_s=1.0))
    assert (energy.status, energy.source) == ("ok", "power")
    assert energy.power_w is not None
    assert energy.power_w.value == pytest.approx(500.0, rel=1e-6)


def only_average(raw: RawMeasurement) -> RawMeasurement:
    """The same seen by a sensor that has neither a counter nor an instant reading."""
    assert raw.power is not None
    power = msgspec.structs.replace(raw.power, instant_mw=(), average_mw=raw.power.instant_mw)
    return replace(raw, counter=None, power=power)


def test_the_same_readings_say_less_if_each_is_a_running_average() -> None:
    """1 W of slow swing: seen through 1 s averages it was more, and drift that they smooth away may hide behind it."""
    raw = measurement(seconds=6.0)
    assert raw.power is not None
    swing = tuple(round(500e3 + 1e3 * math.sin(math.pi * t_ns * 1e-9)) for t_ns in raw.power.t_ns)
    raw = replace(raw, counter=None, power=msgspec.structs.replace(raw.power, instant_mw=swing))
    widths = []
    for window_s in (0.025, 1.0):
        power = judge(raw, SensorIdentity(source="nvml", update_period_s=0.1, window_s=window_s)).power_w
        assert power is not None
        widths.append(power.relative_half_width)
    assert 0.004 < widths[0] < 0.006
    assert widths[1] > 1.15 * widths[0]


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
    assert "between the thirds of a window" in energy.reason
    assert judge(measurement(ramp_w=4.0), NVML).status == "ok"


def test_thermal_slowdown_spoils_a_row_and_the_power_cap_does_not() -> None:
    assert judge(measurement(reasons=0x20), NVML).status == "unsteady"
    assert judge(measurement(reasons=0x4), NVML).status == "ok"
    assert fraction_with(measurement(reasons=0x4), REASON_SW_POWER_CAP) == 1.0


def test_thermal_slowdown_between_polls_is_known_from_the_drivers_count() -> None:
    slow = SlowTrace(t_ns=(0, 1000 * MS, 2000 * MS), thermal_violation_ns=(7, 7, 7))
    assert judge(replace(measurement(), slow=slow), NVML).status == "ok"
    slow = msgspec.structs.replace(slow, thermal_violation_ns=(7, 7, 7 + 30 * MS))
    energy = judge(replace(measurement(), slow=slow), NVML)
    assert (energy.status, energy.reason) == ("unsteady", "thermal slowdown for 30 ms, between polls")


def test_mig_is_refused() -> None:
    assert judge(measurement(), NVML, mig=True).status == "refused"


def test_watts_shared_with_another_process_are_refused() -> None:
    energy = judge(replace(measurement(), flags=("shared",)), NVML)
    assert (energy.status, energy.power_w) == ("refused", None)
    assert energy.reason == "another process computes on this GPU: the watts are not this case's alone"


def test_a_counter_that_sees_part_of_the_time_gives_way_to_power_or_to_nothing() -> None:
    raw = measurement(watts=500.0, instant_w=460.0)
    known = SensorIdentity(source="nvml", update_period_s=0.1, window_s=0.025, counter_covers_all_time=False)
    energy = judge(raw, known)
    assert (energy.status, energy.source) == ("ok", "power")
    assert energy.power_w is not None
    assert energy.energy_j is not None
    assert energy.power_w.value == pytest.approx(460.0)
    assert energy.energy_j.value == pytest.approx(0.460)
    energy = judge(raw, msgspec.structs.replace(known, window_s=None))
    assert (energy.status, energy.power_w) == ("unidentified", None)
    assert energy.reason is not None
    assert energy.reason.startswith("the energy counter sees only part of the time")


def test_a_counter_of_unknown_coverage_is_used_and_cross_checked() -> None:
    assert judge(measurement(watts=500.0, instant_w=460.0), NVML).status == "disputed"


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
    energy = judge(without_counter, known)
    assert (energy.status, energy.power_w) == ("unsupported", None)
    assert energy.reason == "the power sensor answered nothing above zero"


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
    energy = judge(raw, SensorIdentity(source="nvml", update_period_s=0.1, window_s=0.025))
    assert (energy.status, energy.reason) == ("unsupported", "instant: NOT_SUPPORTED")


AVERAGE_ONLY = SensorIdentity(source="nvml", update_period_s=0.1, average_window_s=1.0, counter_tick_s=0.01)


@pytest.mark.parametrize(("seconds", "tick_ms"), [(0.3, 10), (1.1, 50), (3.0, 50)])
def test_a_counter_that_ticks_fast_does_not_shorten_what_its_sensor_needs(seconds: float, tick_ms: int) -> None:
    """0.3 s on a 1 s average: the mistake that was published."""
    energy = judge(measurement(seconds=seconds, tick_ms=tick_ms), AVERAGE_ONLY)
    assert energy.status == "refused"
    assert energy.power_w is None
    assert "under the 3.10 s" in str(energy.reason)
    assert judge(measurement(seconds=3.4, tick_ms=tick_ms), AVERAGE_ONLY).status == "ok"


def test_a_sensor_lost_while_the_load_ran_gives_no_watts() -> None:
    energy = judge(replace(measurement(), unreadable={"sensor": "GPU_IS_LOST"}), NVML)
    assert energy.status == "refused"
    assert "GPU_IS_LOST" in str(energy.reason)


def test_a_window_in_which_the_counter_did_not_tick_is_not_dropped_in_silence() -> None:
    raw = measurement()
    silent = Window(load=0, start_ns=2600 * MS, end_ns=2601 * MS)
    energy = judge(replace(raw, windows=(*raw.windows, silent)), NVML)
    assert energy.status == "refused"
    assert "some of the windows only" in str(energy.reason)


def test_a_counter_that_runs_backwards_is_refused() -> None:
    raw = measurement()
    assert raw.counter is not None
    reset = (*raw.counter.energy_mj[:10], *(value - 400_000 for value in raw.counter.energy_mj[10:]))
    energy = judge(replace(raw, counter=msgspec.structs.replace(raw.counter, energy_mj=reset)), NVML)
    assert energy.status == "refused"
    assert "ran backwards" in str(energy.reason)


def test_a_counter_that_stalls_in_the_middle_is_unsteady() -> None:
    raw = replace(measurement(), power=None)
    assert raw.counter is not None
    keep = [i for i, t in enumerate(raw.counter.t_ns) if not 900 * MS < t < 1700 * MS]
    lost = raw.counter.energy_mj[18] - raw.counter.energy_mj[9]
    stalled = CounterTrace(
        before_ns=tuple(raw.counter.before_ns[i] for i in keep),
        t_ns=tuple(raw.counter.t_ns[i] for i in keep),
        energy_mj=tuple(raw.counter.energy_mj[i] - (lost if i > 9 else 0) for i in keep),
    )
    assert judge(replace(raw, counter=stalled), NVML).status == "unsteady"


def test_watts_without_a_cross_check_say_so() -> None:
    energy = judge(replace(measurement(), power=None), NVML)
    assert energy.status == "ok"
    assert "no instant power was readable" in str(energy.reason)


def test_a_power_brake_is_not_called_heat() -> None:
    energy = judge(measurement(reasons=0x80), NVML)
    assert energy.status == "unsteady"
    assert "power brake" in str(energy.reason)


def test_power_before_the_sensor_has_settled_is_no_second_opinion() -> None:
    """Instant power that still climbs when the window begins is left out, where the sensor's answer is known."""
    raw = measurement(seconds=5.0)
    assert raw.power is not None
    climbing = tuple(round(5e5 * min(1.0, t / (1000 * MS))) for t in raw.power.t_ns)
    raw = replace(raw, power=msgspec.structs.replace(raw.power, instant_mw=climbing))
    assert judge(raw, NVML).status == "disputed"
    slow = SensorIdentity(source="nvml", update_period_s=0.1, window_s=0.1, rise_s=0.5, delay_s=0.3, counter_tick_s=0.1)
    assert judge(raw, slow).status == "ok"


def test_a_load_begins_where_it_began_not_where_its_marks_were_cut() -> None:
    """Settled long ago: readings from the window's beginning on are used, though marks before it were left out."""
    raw = only_average(measurement(seconds=8.0))
    load, window = raw.loads[0], raw.windows[0]
    cut = sum(t < 3000 * MS for t in load.t_ns)
    cut_load = msgspec.structs.replace(load, t_ns=load.t_ns[cut:], launches=load.launches[cut:])
    raw = replace(raw, loads=(cut_load,), windows=(msgspec.structs.replace(window, start_ns=4000 * MS),))
    assert raw.begun_ns(0) == 0
    energy = judge(raw, SensorIdentity(source="nvml", update_period_s=0.1, average_window_s=1.6, delay_s=0.3))
    assert energy.status == "ok", energy.reason


def test_watts_far_over_the_enforced_limit_are_disputed() -> None:
    raw = measurement(watts=500.0)
    for limit_w, status in ((460.0, "ok"), (450.0, "disputed")):
        slow = SlowTrace(t_ns=(0,), power_limit_mw=(round(limit_w * 1e3),))
        assert judge(replace(raw, slow=slow), NVML).status == status


@pytest.mark.parametrize(("step_mj", "shows_s"), [(5000, 5.0 / 512.0), (1, 0.0), (50_000, 0.0)])
def test_a_coarse_counter_errs_at_each_edge_as_an_uncertain_instant_does(step_mj: int, shows_s: float) -> None:
    """Steps of 5 J at 512 W are known to 9.8 ms. Steps as large as a tick cannot be told from ticks that are missed."""
    raw = measurement(seconds=5.0, watts=512.0, bracket_ms=1.0)
    assert raw.counter is not None
    coarse = tuple(energy // step_mj * step_mj for energy in raw.counter.energy_mj)
    span = between_edges(raw, msgspec.structs.replace(raw.counter, energy_mj=coarse), raw.windows[0])
    assert span is not None
    assert span.edge_s == pytest.approx(math.hypot(0.001, shows_s) / math.sqrt(12), rel=0.01)
