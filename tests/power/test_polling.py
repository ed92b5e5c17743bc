"""What is polled when, in virtual time, against a sensor whose ticks are known."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from flopwatt.measurement.clock import VirtualClock
from flopwatt.measurement.power.collected import KEPT
from flopwatt.measurement.power.polling import NEVER, Poller
from flopwatt.measurement.power.sensor import PowerReading, SensorLost, SlowReading

MS = 1_000_000
S = 1_000_000_000


class TickingSensor:
    """A counter that jumps by 69 J a tick at stated instants; every call takes its own time, value read halfway."""

    source = "simulated"

    def __init__(self, clock: VirtualClock, ticks_ns: list[int], *, counter_call_ns=20_000, power_call_ns=300_000):
        self.unreadable: dict[str, str] = {}
        self.clock, self.ticks_ns = clock, ticks_ns
        self.counter_call_ns, self.power_call_ns = counter_call_ns, power_call_ns
        self.counter_at: list[int] = []
        self.power_at: list[int] = []
        self.slow_at: list[int] = []
        self.value: Callable[[int], int | None] = lambda ticks: 1000 + 69_000 * ticks
        self.lost_at_ns = NEVER
        self._passed = 0

    def read_counter(self) -> int | None:
        self._check()
        self.counter_at.append(self.clock.now_ns())
        self.clock.sleep_ns(self.counter_call_ns // 2)
        while self._passed < len(self.ticks_ns) and self.ticks_ns[self._passed] <= self.clock.now_ns():
            self._passed += 1
        self.clock.sleep_ns(self.counter_call_ns // 2)
        return self.value(self._passed)

    def read_power(self) -> PowerReading:
        self._check()
        self.power_at.append(self.clock.now_ns())
        self.clock.sleep_ns(self.power_call_ns)
        return PowerReading(690_000, None, 1700, 50, 4)

    def read_slow(self) -> SlowReading:
        self._check()
        self.slow_at.append(self.clock.now_ns())
        return SlowReading(700_000, self.clock.now_ns(), 0, 2619)

    def close(self) -> None:
        """Nothing to close."""

    def _check(self) -> None:
        if self.clock.now_ns() >= self.lost_at_ns:
            raise SensorLost("GPU_IS_LOST")


def ticking(period_ms: float, seconds: float, jitter_ms: float = 0.0, phase_ms: float = 37.0, **calls: int):
    chance = random.Random(7)
    start = 5 * S
    ticks = [
        start + round((phase_ms + n * period_ms + chance.uniform(-jitter_ms, jitter_ms)) * MS)
        for n in range(int(seconds * 1e3 / period_ms))
    ]
    clock = VirtualClock(start)
    return clock, TickingSensor(clock, ticks, **calls)


def drive(poller: Poller, clock: VirtualClock, seconds: float) -> None:
    end_ns = clock.now_ns() + round(seconds * S)
    due_ns = clock.now_ns()
    while due_ns <= end_ns:
        clock.sleep_ns(due_ns - clock.now_ns())
        due_ns = poller.poll()
    clock.sleep_ns(end_ns - clock.now_ns())


def edges(poller: Poller) -> list[tuple[int, int, int]]:
    counter = poller.samples().counter
    assert counter is not None
    return list(zip(counter.before_ns, counter.t_ns, counter.energy_mj, strict=True))


@pytest.mark.parametrize("period_ms", [10.0, 20.0, 50.0, 100.0, 101.0, 104.0])
@pytest.mark.parametrize("jitter_ms", [0.0, 1.0])
@pytest.mark.parametrize("counter_call_us", [0, 20, 1000])
def test_every_kept_edge_brackets_its_tick_tightly(period_ms, jitter_ms, counter_call_us):
    clock, sensor = ticking(period_ms, 10, jitter_ms, counter_call_ns=counter_call_us * 1000)
    poller = Poller(sensor, clock)
    drive(poller, clock, 9)
    kept = edges(poller)[1:]
    assert len(kept) >= 0.97 * min(9000 / period_ms, 9000 / max(45, period_ms * -(-40.5 // period_ms))) - 1
    for before, after, energy in kept:
        tick = sensor.ticks_ns[(energy - 1000) // 69_000 - 1]
        assert before < tick <= after
        assert after - before <= 1.5 * MS + 2 * counter_call_us * 1000 + 400_000


def test_the_bracket_reaches_from_the_start_of_one_call_to_the_end_of_the_next():
    clock, sensor = ticking(100, 3, counter_call_ns=600_000)
    poller = Poller(sensor, clock)
    drive(poller, clock, 2.5)
    for before, after, _ in edges(poller)[1:]:
        assert before in sensor.counter_at
        assert after - 600_000 in sensor.counter_at
        assert sensor.counter_at.index(after - 600_000) == sensor.counter_at.index(before) + 1


def test_once_the_period_is_learnt_only_predicted_edges_are_hunted():
    clock, sensor = ticking(100, 10, jitter_ms=0.5)
    poller = Poller(sensor, clock)
    drive(poller, clock, 1)
    dense = len(sensor.counter_at)
    assert 200 < dense < 420, "dense for the first four ticks of ten"
    drive(poller, clock, 8)
    assert len(sensor.counter_at) - dense < 8 * 10 * 8, "under eight readings a tick"
    nearest = [min(abs(at - tick) for tick in sensor.ticks_ns) for at in sensor.counter_at[dense:]]
    assert max(nearest) < 15 * MS


def test_a_tick_that_comes_off_beat_is_found_again():
    clock, sensor = ticking(100, 10)
    sensor.ticks_ns[40:] = [tick + 43 * MS for tick in sensor.ticks_ns[40:]]
    poller = Poller(sensor, clock)
    drive(poller, clock, 8)
    kept = edges(poller)
    assert {(energy - 1000) // 69_000 for _, _, energy in kept} >= set(range(45, 78))
    assert all(after - before < 2.5 * MS for before, after, _ in kept)


def test_a_tick_that_comes_early_is_no_edge_and_costs_at_most_two():
    clock, sensor = ticking(100, 10)
    sensor.ticks_ns[30] -= 30 * MS
    poller = Poller(sensor, clock)
    drive(poller, clock, 8)
    kept = edges(poller)
    assert all(after - before < 2.5 * MS for before, after, _ in kept)
    assert len(kept) >= 76


def test_a_period_that_changes_is_learnt_anew():
    clock, sensor = ticking(100, 4)
    last = sensor.ticks_ns[-1]
    sensor.ticks_ns += [last + n * 30 * MS for n in range(1, 200)]
    poller = Poller(sensor, clock)
    drive(poller, clock, 9)
    late = [edge for edge in edges(poller) if edge[0] > last + S]
    assert len(late) > 55
    assert all(after - before < 2.5 * MS for before, after, _ in late)


def test_power_readings_keep_out_of_the_way_of_an_expected_edge():
    clock, sensor = ticking(100, 10, power_call_ns=3_000_000, phase_ms=51.0)
    poller = Poller(sensor, clock)
    drive(poller, clock, 8)
    assert max(after - before for before, after, _ in edges(poller)[8:]) < 2 * MS
    gaps = [b - a for a, b in pairwise(sensor.power_at)]
    assert len(sensor.power_at) == pytest.approx(152, abs=8)
    assert min(gaps) >= 50 * MS
    assert max(gaps) < 75 * MS


def test_power_is_polled_at_twenty_hertz_and_slow_quantities_once_a_second():
    clock, sensor = ticking(100, 11)
    poller = Poller(sensor, clock)
    drive(poller, clock, 10)
    poller.finish()
    samples = poller.samples()
    assert len(samples.power.t_ns) == pytest.approx(202, abs=1)
    assert len(samples.slow.t_ns) == 12
    assert samples.slow.t_ns[-1] == clock.now_ns(), "the end of the stretch is read, whatever was due"
    assert samples.slow.power_violation_ns[-1] - samples.slow.power_violation_ns[0] >= 10 * S * 0.999
    assert samples.power.average_mw == (), "a quantity never readable takes no room"


@pytest.mark.parametrize("seconds", [30.0, 90.0])
def test_a_long_stretch_keeps_little_exact_energy_and_a_dense_end(seconds):
    clock, sensor = ticking(100, seconds + 1)
    poller = Poller(sensor, clock)
    drive(poller, clock, seconds)
    samples = poller.samples()
    kept = edges(poller)
    assert len(kept) <= KEPT
    assert len(samples.power.t_ns) <= KEPT
    end = clock.now_ns()
    recent = [edge for edge in kept if edge[0] > end - 22 * S]
    assert len(recent) == pytest.approx(220, abs=2), "both windows of the longest effort have every edge"
    recent_power = [t for t in samples.power.t_ns if t > end - 10 * S]
    assert len(recent_power) >= 10 * 9
    for (_, t, energy), (_, later, more) in pairwise(kept[1:]):
        assert more - energy == pytest.approx((later - t) / (100 * MS) * 69_000, rel=0.03)
    assert kept[0][1] - 5 * S < 10 * MS, "the first reading stays"


def test_a_fast_counter_is_stored_at_a_spacing_it_can_afford():
    clock, sensor = ticking(10, 40, jitter_ms=0.2)
    poller = Poller(sensor, clock)
    drive(poller, clock, 15)
    gaps = [b[1] - a[1] for a, b in pairwise(edges(poller)[6:])]
    assert sum(gap < 40 * MS for gap in gaps) == 0
    assert sorted(gaps)[len(gaps) // 2] == pytest.approx(50 * MS, rel=0.1)
    drive(poller, clock, 24)
    assert len(edges(poller)) <= KEPT


def test_a_counter_that_never_changes_is_left_out_with_its_reason_and_seldom_read():
    clock, sensor = ticking(100, 10)
    sensor.value = lambda ticks: 1234
    poller = Poller(sensor, clock)
    drive(poller, clock, 1.5)
    assert poller.samples().counter.energy_mj == (1234,)
    drive(poller, clock, 2)
    already = len(sensor.counter_at)
    drive(poller, clock, 5)
    assert poller.samples().counter is None
    assert poller.samples().unreadable == {"counter": "does not count: 1234 mJ throughout"}
    assert len(sensor.counter_at) - already <= 101


def test_a_counter_that_wakes_up_is_used_after_all():
    clock, sensor = ticking(100, 4)
    sensor.ticks_ns = [tick + 3 * S for tick in sensor.ticks_ns]
    poller = Poller(sensor, clock)
    drive(poller, clock, 6)
    assert poller.samples().unreadable == {}
    assert len(edges(poller)) > 25


def test_a_counter_that_goes_backwards_is_left_out_and_read_no_more():
    clock, sensor = ticking(100, 10)
    sensor.value = lambda ticks: 1000 + 69_000 * ticks if ticks < 20 else 3
    poller = Poller(sensor, clock)
    drive(poller, clock, 4)
    already = len(sensor.counter_at)
    drive(poller, clock, 2)
    assert poller.samples().counter is None
    assert poller.samples().unreadable == {"counter": "fell from 1312000 to 3 mJ: it was reset, or wrapped"}
    assert len(sensor.counter_at) == already
    assert len(sensor.power_at) == pytest.approx(120, abs=2), "power goes on without it"


def test_a_counter_that_stops_is_left_out_and_one_that_goes_on_again_is_not():
    clock, sensor = ticking(100, 4)
    poller = Poller(sensor, clock)
    drive(poller, clock, 4.2)
    assert poller.samples().unreadable == {}, "a tick or two late is no stop"
    drive(poller, clock, 1.2)
    poller.finish()
    assert poller.samples().counter is None
    assert poller.samples().unreadable == {"counter": "stopped 1.5 s before the end"}

    clock, sensor = ticking(100, 8)
    del sensor.ticks_ns[30:45]
    poller = Poller(sensor, clock)
    drive(poller, clock, 4.2)
    assert poller.samples().counter is None
    drive(poller, clock, 3)
    poller.finish()
    assert poller.samples().unreadable == {}
    assert len(edges(poller)) > 50


def test_a_counter_that_ceases_to_answer_is_left_out_with_its_code():
    clock, sensor = ticking(100, 10)
    fine = sensor.value

    def value(ticks: int) -> int | None:
        if ticks < 30:
            return fine(ticks)
        sensor.unreadable["counter"] = "UNKNOWN"
        return None

    sensor.value = value
    poller = Poller(sensor, clock)
    drive(poller, clock, 5)
    poller.finish()
    assert poller.samples().counter is None
    assert poller.samples().unreadable == {"counter": "stopped 2.2 s before the end: UNKNOWN"}


def test_the_drivers_own_times_are_kept_counted_from_the_first():
    clock, sensor = ticking(100, 4)
    stamps = iter([None, *range(1_795_000_000_000_000, 1_795_000_009_000_000, 50_003)])
    plain = sensor.read_power
    sensor.read_power = lambda: plain()._replace(stamp_us=next(stamps))
    poller = Poller(sensor, clock)
    drive(poller, clock, 1)
    power = poller.samples().power
    assert power.stamp_origin_us == 1_795_000_000_000_000
    assert power.stamp_us[:4] == (None, 0, 50_003, 100_006)
    assert len(power.stamp_us) == len(power.t_ns)


def test_a_counter_that_cannot_be_read_is_asked_ever_less_often():
    clock, sensor = ticking(100, 10)
    sensor.value = lambda ticks: None
    sensor.unreadable["counter"] = "NO_PERMISSION"
    poller = Poller(sensor, clock)
    drive(poller, clock, 5)
    assert len(sensor.counter_at) == pytest.approx(11, abs=1)
    already = len(sensor.counter_at)
    drive(poller, clock, 10)
    assert len(sensor.counter_at) - already == pytest.approx(10, abs=1)
    assert poller.samples().counter is None
    assert poller.samples().unreadable == {"counter": "NO_PERMISSION"}
    assert len(sensor.power_at) == pytest.approx(300, abs=3)


def test_a_reading_that_fails_now_and_then_leaves_no_false_edge():
    clock, sensor = ticking(100, 20)
    fine = sensor.value
    sensor.value = lambda ticks: None if len(sensor.counter_at) % 50 == 49 else fine(ticks)
    poller = Poller(sensor, clock)
    drive(poller, clock, 15)
    assert len(edges(poller)) > 30
    for before, after, energy in edges(poller)[1:]:
        assert before < sensor.ticks_ns[(energy - 1000) // 69_000 - 1] <= after
        assert after - before < 13 * MS


def test_a_lost_sensor_stops_polling_and_keeps_what_was_read():
    clock, sensor = ticking(100, 10)
    sensor.lost_at_ns = 5 * S + 2 * S
    poller = Poller(sensor, clock)
    drive(poller, clock, 5)
    calls = len(sensor.counter_at), len(sensor.power_at)
    assert poller.poll() == NEVER
    poller.finish()
    assert (len(sensor.counter_at), len(sensor.power_at)) == calls
    samples = poller.samples()
    assert samples.lost == "GPU_IS_LOST"
    assert len(samples.power.t_ns) == pytest.approx(40, abs=2)
    assert len(samples.counter.t_ns) == pytest.approx(20, abs=2)


def test_a_counter_too_fast_to_follow_is_read_at_a_fixed_spacing():
    clock, sensor = ticking(1, 21, phase_ms=0.3)
    poller = Poller(sensor, clock, counter_tick_ns=1 * MS)
    drive(poller, clock, 15)
    kept = edges(poller)
    assert len(sensor.counter_at) == pytest.approx(15 / 0.045, rel=0.02)
    for before, after, energy in kept[1:]:
        assert before < sensor.ticks_ns[(energy - 1000) // 69_000 - 1] <= after
        assert after - before == 1_020_000
