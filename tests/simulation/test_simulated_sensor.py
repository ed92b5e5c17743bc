from __future__ import annotations

import numpy as np
import pytest
from plain_scenario import IDLE_W, LOAD_W, plain, steady_kernel, watched

from flopwatt.measurement.power.sensor import SensorLost
from flopwatt.measurement.simulation.loading import load_scenario

MS = 1_000_000


def poll_instant_w(clock, sensor, until_s, every_ms=1.0):
    """(times, instant watts, average watts) polled until then."""
    rows = []
    while clock.now_ns() < until_s * 1e9:
        reading = sensor.read_power()
        rows.append((clock.now_ns() * 1e-9, reading.instant_mw * 1e-3, (reading.average_mw or 0) * 1e-3))
        clock.sleep_ns(round(every_ms * MS))
    return np.array(rows).T


def counter_edges(clock, sensor, until_s, every_ms=0.5):
    """(times, joules) at each change of the counter."""
    rows, last = [], None
    while clock.now_ns() < until_s * 1e9:
        now = sensor.read_counter()
        if last is not None and now != last:
            rows.append((clock.now_ns() * 1e-9, now * 1e-3))
        last = now
        clock.sleep_ns(round(every_ms * MS))
    return np.array(rows).T


def test_the_average_of_a_step_climbs_linearly_over_its_window():
    gpu, clock, sensor = watched(plain(sensor={"average_window_s": 1.0, "update_period_s": 0.01}))
    gpu.begin(1.0, steady_kernel())
    t, instant, average = poll_instant_w(clock, sensor, 2.5)
    since_update = (t - 1e-9) % 0.01
    expected = IDLE_W + (LOAD_W - IDLE_W) * np.clip(t - since_update - 1.0, 0, 1)
    assert np.abs(average - expected).max() < 3.1  # one update is worth 3 W
    assert instant[t > 1.04] == pytest.approx(LOAD_W, abs=1e-3)
    assert instant[t < 1.0] == pytest.approx(IDLE_W, abs=1e-3)


def test_an_instant_reading_is_the_mean_of_its_window():
    for before_update_s, share in ((0.030, 1.0), (0.020, 0.8), (0.005, 0.2), (-0.005, 0.0)):
        gpu, clock, sensor = watched(plain())
        gpu.begin(2.0 - before_update_s, steady_kernel())
        clock.sleep_ns(2050 * MS)
        instant_w = sensor.read_power().instant_mw * 1e-3
        assert instant_w == pytest.approx(IDLE_W + share * (LOAD_W - IDLE_W), abs=0.1)


def test_the_rise_filter_takes_its_rise_time_from_10_to_90_percent():
    scenario = plain(sensor={"update_period_s": 0.001, "window_s": 1e-4, "rise_s": 0.09})
    gpu, clock, sensor = watched(scenario)
    gpu.begin(0.2, steady_kernel())
    t, instant, _ = poll_instant_w(clock, sensor, 1.0, every_ms=0.5)
    share = (instant - IDLE_W) / (LOAD_W - IDLE_W)
    t10, t90 = t[np.searchsorted(share, 0.1)], t[np.searchsorted(share, 0.9)]
    assert t90 - t10 == pytest.approx(0.09, abs=0.002)


@pytest.mark.parametrize("jitter_s", [0.0, 0.001])
def test_readings_change_once_an_update_period(jitter_s):
    scenario = plain(sensor={"update_jitter_s": jitter_s}, noise={"drift_power": 0.01})
    gpu, clock, sensor = watched(scenario)
    gpu.begin(0.0, steady_kernel())
    t, instant, _ = poll_instant_w(clock, sensor, 10.0)
    spacing = np.diff(t[1:][np.diff(instant) != 0])
    assert np.median(spacing) == pytest.approx(0.1, abs=0.0011)
    # Two neighbours' jitters add up in quadrature, and polling each millisecond adds its own.
    assert spacing.std() == pytest.approx(np.sqrt(2) * jitter_s, abs=0.0005)


def test_a_delay_shifts_what_is_seen():
    readings = []
    for delay_s in (0.0, 0.2):
        gpu, clock, sensor = watched(plain(sensor={"delay_s": delay_s}))
        gpu.begin(1.0, steady_kernel())
        t, instant, _ = poll_instant_w(clock, sensor, 3.0)
        readings.append(t[np.searchsorted(instant, (IDLE_W + LOAD_W) / 2)])
    assert readings[1] - readings[0] == pytest.approx(0.2, abs=0.0015)


def test_gain_and_offset_shape_every_reading():
    gpu, clock, sensor = watched(plain(sensor={"gain": 1.04, "offset_w": -3.0}))
    gpu.begin(0.0, steady_kernel())
    clock.sleep_ns(5000 * MS)
    assert sensor.read_power().instant_mw == pytest.approx((1.04 * LOAD_W - 3) * 1e3, abs=1)
    first = sensor.read_counter()
    clock.sleep_ns(5000 * MS)
    assert sensor.read_counter() - first == pytest.approx((1.04 * LOAD_W - 3) * 5 * 1e3, rel=1e-4)


@pytest.mark.parametrize("tick_s", [0.1, 0.01, 0.037])
def test_a_continuous_counter_is_the_integral_of_true_power_at_its_ticks(tick_s):
    scenario = plain(sensor={"counter_tick_s": tick_s}, noise={"drift_power": 0.05, "drift_correlation_s": 0.5})
    gpu, clock, sensor = watched(scenario, seed=4)
    for beat in range(6):
        gpu.begin(0.3 + beat * 0.5, steady_kernel())
        gpu.end(0.55 + beat * 0.5)
    t, joules = counter_edges(clock, sensor, 4.0, every_ms=0.1)
    assert np.median(np.diff(t)) == pytest.approx(tick_s, abs=2e-4)
    true_j = gpu.true_energy_j(t[0], t)
    # Edges are seen up to 0.1 ms late, at up to 400 W.
    assert np.abs((joules - joules[0]) - true_j).max() < 0.05


def test_a_part_time_counter_beats_with_a_square_wave_near_its_period_and_a_continuous_one_does_not():
    modulation = {}
    for covers in (True, False):
        gpu, clock, sensor = watched(plain(sensor={"counter_covers_all_time": covers}))
        period_s = 0.102
        for beat in range(int(20 / period_s)):
            gpu.begin(beat * period_s, steady_kernel())
            gpu.end((beat + 0.5) * period_s)
        _, joules = counter_edges(clock, sensor, 19.0, every_ms=2)
        modulation[covers] = np.diff(joules)[5:] / 0.1
    # A window of 25 ms lies wholly in the on or the off half for most of the 5.1 s beat.
    assert modulation[False].max() == pytest.approx(LOAD_W, rel=0.01)
    assert modulation[False].min() == pytest.approx(IDLE_W, rel=0.01)
    # Covering all time, a tick differs from the mean by at most 2 % of a half period.
    assert modulation[True] == pytest.approx((LOAD_W + IDLE_W) / 2, abs=4)
    assert modulation[False].mean() == pytest.approx((LOAD_W + IDLE_W) / 2, rel=0.1)


def test_stale_zero_and_impatient_readings_come_as_often_as_the_scenario_says():
    gpu, clock, sensor = watched(plain(sensor={"stale": 0.3, "zero": 0.2}, noise={"drift_power": 0.02}))
    gpu.begin(0.0, steady_kernel())
    _, instant, _ = poll_instant_w(clock, sensor, 200.0, every_ms=100)
    assert (instant == 0).mean() == pytest.approx(0.2, abs=0.04)
    shown = instant[instant > 0]
    assert (np.diff(shown) == 0).mean() == pytest.approx(0.3, abs=0.06)

    gpu, clock, sensor = watched(plain(sensor={"zero_if_polled_within_s": 0.05}))
    _, slow, _ = poll_instant_w(clock, sensor, 1.0, every_ms=60)
    assert (slow > 0).all()
    _, fast, _ = poll_instant_w(clock, sensor, 2.0, every_ms=20)
    assert (fast[1:] == 0).all()


def test_a_stale_tick_is_made_up_for_by_the_next():
    gpu, clock, sensor = watched(plain(sensor={"counter_stale": 0.3}))
    gpu.begin(0.0, steady_kernel())
    t, joules = counter_edges(clock, sensor, 60.0, every_ms=5)
    assert np.diff(joules).max() >= 2 * LOAD_W * 0.1 - 0.01
    assert (joules[-1] - joules[0]) / (t[-1] - t[0]) == pytest.approx(LOAD_W, rel=1e-3)


def test_what_is_unsupported_or_forbidden_is_none_with_its_code():
    scenario = plain(sensor={"unsupported": ["counter", "clock"], "no_permission": ["power_violation", "instant"]})
    _, clock, sensor = watched(scenario)
    clock.sleep_ns(1000 * MS)
    assert sensor.unreadable == {}
    assert sensor.read_counter() is None
    power, slow = sensor.read_power(), sensor.read_slow()
    assert (power.instant_mw, power.average_mw, power.clock_mhz) == (None, None, None)
    assert (power.temp_c, power.reasons) == (32, 1)
    assert slow.power_violation_ns is None
    assert slow.power_limit_mw == 1_000_000
    assert sensor.unreadable == {
        "counter": "NOT_SUPPORTED",
        "clock_mhz": "NOT_SUPPORTED",
        "average_mw": "NOT_SUPPORTED",
        "instant_mw": "NO_PERMISSION",
        "power_violation_ns": "NO_PERMISSION",
    }


def test_a_lost_gpu_answers_nothing_more():
    _, clock, sensor = watched(plain(faults={"lost_after_s": 2.0}))
    clock.sleep_ns(1999 * MS)
    assert sensor.read_power().instant_mw == 50_000
    clock.sleep_ns(2 * MS)
    for read in (sensor.read_counter, sensor.read_power, sensor.read_slow):
        with pytest.raises(SensorLost, match="GPU_IS_LOST"):
            read()


def test_a_reading_takes_its_latency():
    _, clock, sensor = watched(plain(sensor={"latency_s": 40e-6}))
    sensor.read_counter()
    sensor.read_power()
    assert clock.now_ns() == 80_000


def test_how_often_it_is_read_changes_nothing_that_it_shows():
    shown = []
    for every_ms in (1, 50):
        gpu, clock, sensor = watched(load_scenario("a100"), seed=3)
        gpu.begin(0.5, steady_kernel())
        poll_instant_w(clock, sensor, 2.0, every_ms=every_ms)
        clock.sleep_ns(2010 * MS - clock.now_ns())
        shown.append((sensor.read_power(), sensor.read_counter(), float(gpu.true_energy_j(0.0, 2.0))))
    assert shown[0] == shown[1]


NAIVE_H100 = plain(
    power={"idle_w": 73.0, "context_w": 73.0},
    sensor={"average_window_s": 1.0, "window_s": 0.025, "phase": None},
)


@pytest.mark.parametrize(("load_s", "published"), [(0.3, -0.80), (1.0, -0.49), (5.0, -0.099), (10.0, -0.049)])
def test_naive_means_of_a_one_second_average_err_as_published(load_s, published):
    errors = []
    for seed in range(20):
        gpu, clock, sensor = watched(NAIVE_H100, seed=seed)
        gpu.begin(2.0, steady_kernel(power_w=690.0, idle_w=73.0))
        clock.sleep_ns(2000 * MS)
        _, _, average = poll_instant_w(clock, sensor, 2.0 + load_s, every_ms=10)
        true_w = float(gpu.true_energy_j(2.0, 2.0 + load_s)) / load_s
        errors.append(average.mean() / true_w - 1)
    assert np.mean(errors) == pytest.approx(published, abs=0.02 if load_s < 5 else 0.003)


def test_draws_differ_between_boards_and_processes_and_not_between_looks():
    def first_reading(**seeds):
        gpu, clock, sensor = watched(load_scenario("h100"), **seeds)
        gpu.begin(0.0, steady_kernel())
        clock.sleep_ns(3000 * MS)
        return gpu.board.gain, sensor.read_power().instant_mw

    assert first_reading(seed=1) == first_reading(seed=1)
    assert first_reading(seed=1)[0] == first_reading(seed=2)[0]
    assert first_reading(seed=1)[1] != first_reading(seed=2)[1]
    assert first_reading(seed=1)[0] == first_reading(seed=1, process=1)[0]
    assert first_reading(seed=1)[1] != first_reading(seed=1, process=1)[1]
    assert first_reading(seed=1)[0] != first_reading(seed=1, board=1)[0]
    gains = [watched(load_scenario("h100"), board=board)[0].board.gain for board in range(200)]
    assert 0.95 <= min(gains) < 0.96
    assert 1.04 < max(gains) <= 1.05
