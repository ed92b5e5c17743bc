"""Intervals: Student's t against tabulated points, coverage on samples whose mean is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats as scipy_stats
from synthetic import MS, measurement

from flopwatt.runs.samples import Load, RawMeasurement, Window
from flopwatt.runs.stats import (
    RUN_TO_RUN,
    Interval,
    across_processes,
    launch_time,
    launches_at,
    mean_interval,
    student_t,
    symmetric,
)


@pytest.mark.parametrize("degrees", [1, 2, 5, 10, 30, 31, 40, 100, 1000])
def test_student_t_is_the_tabulated_quantile(degrees: int) -> None:
    assert student_t(degrees) == pytest.approx(scipy_stats.t.ppf(0.975, degrees), rel=5e-4)


def test_no_interval_from_one_sample() -> None:
    assert mean_interval([3.0]) == Interval(3.0)
    assert mean_interval([3.0]).relative_half_width == math.inf


def test_mean_interval_covers_the_mean_95_times_in_100() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(2000):
        interval = mean_interval(rng.normal(10.0, 1.0, 8))
        assert interval.low is not None
        assert interval.high is not None
        covered += interval.low <= 10.0 <= interval.high
    assert 0.935 < covered / 2000 < 0.965


def test_reciprocal_swaps_the_ends() -> None:
    rate = Interval(2.0, 1.0, 4.0).reciprocal(8.0)
    assert (rate.value, rate.low, rate.high) == (4.0, 2.0, 8.0)
    assert symmetric(1.0, 2.0).reciprocal(8.0).high is None


def test_launches_between_marks_by_proportion() -> None:
    load = Load(t_ns=(0, 100, 300), launches=(0, 10, 20))
    assert launches_at(load, np.array([50.0, 100.0, 200.0])).tolist() == [5.0, 10.0, 15.0]


def test_sustained_time_is_the_mean_over_the_window() -> None:
    time = launch_time(measurement(launch_ms=2.0), "sustained")
    assert time is not None
    assert time.value == pytest.approx(2e-3, rel=1e-9)
    # Nothing wandered, and still 2.6 s do not show that nothing ever does.
    assert 0.0003 < time.relative_half_width < 0.0015


def test_time_before_the_window_does_not_count() -> None:
    slow_start = Load(t_ns=(0, 1000 * MS, *range(1010 * MS, 2001 * MS, 10 * MS)), launches=tuple(range(0, 1020, 10)))
    raw = RawMeasurement(
        timer="x", origin_ns=0, loads=(slow_start,), windows=(Window(load=0, start_ns=1000 * MS, end_ns=2000 * MS),)
    )
    time = launch_time(raw, "sustained")
    assert time is not None
    assert time.value == pytest.approx(1e-3, rel=1e-6)


def test_burst_time_is_the_mean_of_the_bursts_medians() -> None:
    def burst(launch_ns: int, outlier_ns: int) -> Load:
        steps = [launch_ns] * 9 + [outlier_ns]
        return Load(t_ns=(0, *np.cumsum(steps).tolist()), launches=tuple(range(11)))

    loads = (burst(1000, 9000), burst(1100, 1100), burst(1200, 1200))
    windows = tuple(Window(load=i, start_ns=0, end_ns=load.t_ns[-1]) for i, load in enumerate(loads))
    time = launch_time(RawMeasurement(timer="x", origin_ns=0, loads=loads, windows=windows), "burst")
    assert time is not None
    assert time.value == pytest.approx(1.1e-6)
    assert time.relative_half_width > 0.05


def test_several_processes_are_a_students_interval_of_their_results() -> None:
    results = [Interval(value, value - 1e-9, value + 1e-9) for value in (9.0, 10.0, 11.0)]
    board = across_processes(results)
    assert board.value == 10.0
    assert board.relative_half_width == pytest.approx(student_t(2) / math.sqrt(3) / 10)


def test_one_process_is_widened_by_the_run_to_run_spread() -> None:
    board = across_processes([Interval(10.0, 9.7, 10.3)])
    assert board.relative_half_width == pytest.approx(math.hypot(0.03, 1.96 * RUN_TO_RUN), rel=1e-4)
    known = across_processes([Interval(10.0, 9.7, 10.3)], run_to_run=0.02)
    assert known.relative_half_width == pytest.approx(math.hypot(0.03, 1.96 * 0.02), rel=1e-4)
    assert across_processes([Interval(10.0)]).low is None


def test_a_window_without_two_marks_has_no_time() -> None:
    load = Load(t_ns=(0, 5000), launches=(0, 1))
    raw = RawMeasurement(timer="x", origin_ns=0, loads=(load,), windows=(Window(load=0, start_ns=10, end_ns=20),))
    assert launch_time(raw, "sustained") is None
    assert launch_time(raw, "burst") is None
