"""Identification against sensors made up by brute force on a fine grid of time, with none of the fit's code."""

from __future__ import annotations

import numpy as np
import pytest

from flopwatt.runs import beat, rhythm
from flopwatt.runs.identification import Traces, identify
from flopwatt.runs.records import SensorIdentity
from flopwatt.runs.rhythm import Changes, Unidentified
from flopwatt.runs.samples import CounterTrace, PowerTrace

NS = 1e9
STEP_S = 2e-4
POLL_S = 1.5e-3
IDLE_W, LOAD_W = 90.0, 390.0
KNOWN = SensorIdentity(source="nvml", gain_uncertainty=0.05)


def random_pulses(seconds, seed=0):
    rng = np.random.default_rng(seed)
    pulses, t = [], 1.0
    while t < seconds:
        on, off = rng.uniform(0.005, 0.08, 2)
        pulses.append((t, t + on))
        t += on + off
    return [*pulses, (t + 1.5, t + 3.0), (t + 4.5, t + 6.0)]


def wave(begin, period, beats, factor=1.02):
    number = int(beats * factor / (factor - 1)) + 8 if factor != 1 else 170
    return [(begin + k * factor * period, begin + (k + 0.5) * factor * period) for k in range(number)]


class MadeUp:
    """A sensor with these traits on a load of pulses: board power at once, one lag, a box, a delay, an update grid."""

    def __init__(self, pulses, *, period=0.1, window=0.025, tau=0.04, delay=0.05, tick=0.1, covers=True, noise_w=0.5):
        rng = np.random.default_rng(5)
        end = pulses[-1][1] + 1.0
        t = np.arange(0, end, STEP_S)
        load = np.zeros_like(t)
        for start, stop in pulses:
            load[(t >= start) & (t < stop)] = 1.0
        sensed = np.empty_like(load)
        level, gain = 0.0, 1 - np.exp(-STEP_S / tau) if tau else 1.0
        for i, on in enumerate(load):
            level += (on - level) * gain
            sensed[i] = level
        watts = IDLE_W + (LOAD_W - IDLE_W) * sensed
        joules = np.concatenate([[0.0], np.cumsum(watts) * STEP_S])[: len(t)]
        updates = np.arange(0.3 * period + window, end - delay, period)
        box = (np.interp(updates, t, joules) - np.interp(updates - window, t, joules)) / window
        self.update_s, self.update_w = updates + delay, box + noise_w * rng.standard_normal(len(updates))
        ticks = np.arange(0.7 * tick, end - delay - period, tick)
        if covers:
            counted = np.interp(ticks, t, joules)
        else:
            held = np.concatenate([[0.0], np.cumsum(self.update_w[:-1] * np.diff(updates))])
            index = np.maximum(np.searchsorted(updates, ticks, side="right") - 1, 0)
            counted = held[index] + self.update_w[index] * (ticks - updates[index])
        self.tick_s, self.tick_mj = ticks, np.rint(counted * 1e3)

    def power(self, keep=None, zero_every=0):
        polls = np.arange(self.update_s[0], self.update_s[-1], POLL_S)
        values = np.rint(self.update_w * 1e3).astype(int)
        shown = np.searchsorted(self.update_s, polls, side="right") - 1
        if keep is not None:  # stale updates show the value before
            shown = np.maximum.accumulate(np.where(keep[shown], shown, 0))
        readings = values[shown]
        if zero_every:
            readings = np.where(np.arange(len(readings)) % zero_every == 0, 0, readings)
        return PowerTrace(
            t_ns=tuple(int(t * NS) for t in polls), instant_mw=tuple(readings.tolist()), average_mw=(), reasons=()
        )

    def counter(self):
        polls = np.arange(self.tick_s[0], self.tick_s[-1], POLL_S)
        after = polls[np.minimum(np.searchsorted(polls, self.tick_s), len(polls) - 1)]
        return CounterTrace(
            before_ns=tuple(int((t - POLL_S) * NS) for t in after),
            t_ns=tuple(int(t * NS) for t in after),
            energy_mj=tuple(int(e) for e in self.tick_mj),
        )


def told(pulses, *, first_of_beat=None, power=None, **traits):
    sensor = MadeUp(pulses, **traits)
    return identify(
        Traces(
            pulses=tuple((round(a * NS), round(b * NS)) for a, b in pulses),
            power=sensor.power() if power is None else power(sensor),
            counter=sensor.counter(),
            beat="not wanted" if first_of_beat is None else (first_of_beat, len(pulses)),
            call_ns=4000,
        ),
        KNOWN,
    )


@pytest.mark.parametrize(
    ("period", "window", "tau"),
    [
        (0.1, 0.025, 0.04),
        (0.101, 0.018, 0.03),
        (0.1, 0.1, 0.04),
        (0.02, 0.0105, 0.03),
        (0.1, 0.025, 0.0),
        (0.1, 1.0, 0.04),
    ],
)
def test_period_window_tick_delay_and_rise_are_those_of_the_sensor(period, window, tau):
    it = told(random_pulses(18), period=period, window=window, tau=tau)
    assert it.update_period_s == pytest.approx(period, rel=0.002)
    assert it.window_s == pytest.approx(window, rel=0.1)
    assert it.counter_tick_s == pytest.approx(0.1, rel=0.002)
    assert it.delay_s == pytest.approx(0.05, abs=0.004)
    assert it.rise_s == pytest.approx(2.197 * tau, abs=0.008)
    assert it.call_latency_s == pytest.approx(4e-6)
    assert (it.source, it.gain_uncertainty) == ("nvml", 0.05)


def test_a_window_too_small_for_the_noise_is_unidentified_and_the_rest_is_not():
    it = told(random_pulses(18), window=0.002, noise_w=5.0)
    assert it.window_s is None
    assert it.update_period_s == pytest.approx(0.1, rel=0.002)
    assert "unidentified: window_s" in it.method
    assert "window_s unidentified: about " in it.reason
    assert "standard error" in it.reason


def test_readings_that_deviate_from_the_model_are_unidentified_however_well_it_fits_them():
    it = told(random_pulses(18), window=0.1, noise_w=30.0)
    assert it.window_s is None
    assert "readings deviate by 1" in it.reason


def test_readings_that_follow_no_load_are_unidentified():
    rng = np.random.default_rng(1)

    def scrambled(sensor):
        sensor.update_w = rng.permutation(sensor.update_w)
        return sensor.power()

    it = told(random_pulses(18), power=scrambled)
    assert it.window_s is it.delay_s is it.rise_s is None
    assert "window_s unidentified" in it.reason


def test_stale_and_zero_readings_change_nothing():
    rng = np.random.default_rng(2)
    it = told(random_pulses(18), power=lambda s: s.power(keep=rng.random(len(s.update_s)) > 0.25, zero_every=7))
    assert it.update_period_s == pytest.approx(0.1, rel=0.002)
    assert it.window_s == pytest.approx(0.025, rel=0.15)


@pytest.mark.parametrize("tick", [0.01, 0.13])
@pytest.mark.parametrize("covers", [True, False])
@pytest.mark.parametrize(("period", "window"), [(0.1, 0.025), (0.1, 0.07), (0.02, 0.0105)])
def test_the_beat_test_tells_a_part_time_counter_from_one_of_all_time(period, window, covers, tick):
    first = random_pulses(15)
    pulses = first + wave(first[-1][1] + 1.0, period, 3.3 if period == 0.1 else 9)
    it = told(pulses, first_of_beat=len(first), period=period, window=window, covers=covers, tick=tick)
    assert it.counter_covers_all_time is covers
    assert it.method == "switched load and beat test"
    assert it.reason is None


def test_a_window_as_long_as_the_period_leaves_a_counter_nothing_to_miss():
    first = random_pulses(15)
    pulses = first + wave(first[-1][1] + 1.0, 0.1, 3.3)
    for covers in (True, False):
        assert told(pulses, first_of_beat=len(first), window=0.1, covers=covers).counter_covers_all_time is True


@pytest.mark.parametrize("factor", [1.0, 1.0002])
def test_a_load_at_exactly_the_sensors_period_is_no_beat_test(factor):
    """There a part-time counter's joules per tick are level too: a test that looked for swings would pass it."""
    first = random_pulses(15)
    pulses = first + wave(first[-1][1] + 1.0, 0.1, 0.1, factor)
    it = told(pulses, first_of_beat=len(first), covers=False)
    assert it.counter_covers_all_time is None
    assert "beats, 3 are needed" in it.reason


def test_an_irregular_load_is_no_beat_test():
    rng = np.random.default_rng(3)
    first = random_pulses(15)
    late = [
        (a + d, b + d) for (a, b), d in zip(wave(first[-1][1] + 1, 0.1, 3.3), rng.uniform(0, 0.04, 999), strict=False)
    ]
    it = told(first + late, first_of_beat=len(first), covers=False)
    assert it.counter_covers_all_time is None
    assert "could not be switched regularly" in it.reason


def test_nothing_readable_is_unidentified_with_the_codes():
    it = identify(
        Traces(pulses=((0, 10**9),), unreadable={"counter": "NOT_SUPPORTED", "instant_mw": "NO_PERMISSION"}), KNOWN
    )
    assert it.method == "unidentified"
    assert (it.update_period_s, it.window_s, it.counter_tick_s, it.counter_covers_all_time) == (None, None, None, None)
    assert "update_period_s unidentified: NO_PERMISSION" in it.reason
    assert "counter_covers_all_time unidentified: NOT_SUPPORTED" in it.reason


def changes_at(t_s, width=1.5e-3):
    t_s = np.asarray(t_s, dtype=float)
    return Changes(t_s, np.full(len(t_s), width), np.zeros(len(t_s)))


def test_a_period_is_told_with_changes_missing_and_jitter():
    rng = np.random.default_rng(4)
    at = np.arange(300) * 0.101 + rng.normal(0, 1e-3, 300)
    assert rhythm.period(changes_at(at[rng.random(300) > 0.4])) == pytest.approx(0.101, rel=0.002)


@pytest.mark.parametrize(
    ("at", "width", "reason"),
    [
        (np.arange(10) * 0.1, 1.5e-3, "10 changes seen, 20 are needed"),
        (np.cumsum(np.random.default_rng(0).uniform(0.02, 0.3, 200)), 1.5e-3, "keep no rhythm"),
        (np.arange(200) * 0.0016, 1.5e-3, "too slow to tell"),
    ],
)
def test_what_keeps_no_rhythm_has_no_period(at, width, reason):
    with pytest.raises(Unidentified, match=reason):
        rhythm.period(changes_at(at, width))


def test_a_period_is_counted_where_readings_are_slow():
    at = np.ceil(np.arange(1, 250) * 0.1 / 0.06) * 0.06
    assert rhythm.period(changes_at(at, 0.06)) == pytest.approx(0.1, rel=0.005)


def test_slow_readings_bear_a_missed_change_but_not_a_period_as_short_as_theirs():
    at = np.ceil(np.arange(1, 250) * 0.1 / 0.06) * 0.06
    assert rhythm.period(changes_at(np.delete(at, [100, 180]), 0.06)) == pytest.approx(0.1, rel=0.002)
    with pytest.raises(Unidentified, match="60 ms apart are too slow"):
        rhythm.period(changes_at(np.arange(250) * 0.06, 0.06))


def test_the_thresholds_leave_room_between_covering_and_part_time():
    assert beat.COVERS_BELOW < beat.PART_ABOVE / 2
    assert beat.OVER_LEAK * beat.COVERS_BELOW >= 1, "a counter of all time must pass beside the weakest readings judged"
