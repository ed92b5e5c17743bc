"""Ratios and verdicts: Student's t on logarithms, gains in quadrature, and what each word means."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from flopwatt.analysis.comparing.ratios import Ratio, quantile, ratio, verdict
from flopwatt.runs.stats import RUN_TO_RUN, Z975, Interval, symmetric


def results(*values: float) -> list[Interval]:
    return [symmetric(value, value * 0.001) for value in values]


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 8, 9, 60])
@pytest.mark.parametrize("comparisons", [1, 13, 1000])
def test_quantiles_are_those_of_student(degrees: int, comparisons: int) -> None:
    assert quantile(comparisons, degrees) == pytest.approx(stats.t.ppf(1 - 0.025 / comparisons, degrees), rel=1e-9)


def test_without_degrees_the_quantile_is_normal() -> None:
    assert quantile(50, None) == pytest.approx(stats.norm.ppf(1 - 0.0005))


def test_several_processes_give_students_interval_of_the_logarithms() -> None:
    base, new = (1.00, 1.01, 0.99), (1.04, 1.02, 1.03)
    found = ratio(results(*base), results(*new), (9.0, 9.0))
    expected = stats.ttest_ind(np.log(new), np.log(base)).confidence_interval(0.95)
    half = (expected.high - expected.low) / 2
    assert found.degrees == 4
    assert found.value == pytest.approx(1.03, rel=1e-4)
    assert found.interval().low == pytest.approx(found.value * math.exp(-half), rel=1e-4)
    assert found.interval().high == pytest.approx(found.value * math.exp(half), rel=1e-4)


def test_one_process_a_side_carries_both_boards_run_to_run_spread() -> None:
    found = ratio(results(1.0), results(1.03), (RUN_TO_RUN, 0.005))
    assert found.half == pytest.approx(math.hypot(0.001, 0.001, Z975 * RUN_TO_RUN, Z975 * 0.005), rel=1e-3)


def test_a_result_without_an_interval_carries_the_spread_alone() -> None:
    found = ratio([Interval(1.0)], [Interval(0.5)], (RUN_TO_RUN, RUN_TO_RUN))
    assert found.half == pytest.approx(math.sqrt(2) * Z975 * RUN_TO_RUN)


def test_one_process_against_three_keeps_both_errors() -> None:
    three, one = results(1.0, 1.02, 0.98), results(1.0)
    alone = stats.t.ppf(0.975, 2) * np.std(np.log([1.0, 1.02, 0.98]), ddof=1) / math.sqrt(3)
    found = ratio(three, one, (9.0, 0.01))
    assert found.half == pytest.approx(math.hypot(alone, 0.001, Z975 * 0.01), rel=1e-3)


def test_gains_widen_the_total_and_not_the_statistical_interval() -> None:
    found = Ratio(1.0, 1.8, 0.02, 4, math.hypot(0.05, 0.05))
    assert found.interval().high == pytest.approx(1.8 * math.exp(0.02))
    assert found.total().high == pytest.approx(1.8 * math.exp(math.hypot(0.02, 0.05, 0.05)))


def test_many_comparisons_widen_only_the_statistical_part() -> None:
    found = Ratio(1.0, 1.8, 0.02, 4, 0.07)
    wider = 0.02 * stats.t.ppf(1 - 0.0025, 4) / stats.t.ppf(0.975, 4)
    assert found.total(10).low == pytest.approx(1.8 * math.exp(-math.hypot(wider, 0.07)))


def test_tflops_are_time_inverted() -> None:
    found = Ratio(2.0, 1.0, 0.01).inverted(4.0)
    assert (found.base, found.new, found.value) == (2.0, 4.0, 2.0)


@pytest.mark.parametrize(
    ("value", "half", "expected"),
    [
        (1.03, 0.012, "slower"),
        (0.97, 0.012, "faster"),
        (1.000, 0.009, "same"),
        (1.004, 0.003, "same"),  # surely not equal, and equal for all practical purposes
        (1.000, 0.012, "inconclusive"),
        (1.03, 0.05, "inconclusive"),
        (1.009, 0.005, "inconclusive"),  # surely slower, not surely by less than 1 %
        (1.012, 0.005, "slower"),
        (1.5, None, "inconclusive"),
    ],
)
def test_verdicts(value: float, half: float | None, expected: str) -> None:
    assert verdict(Ratio(1.0, value, half), "time", 0.01) == expected


@pytest.mark.parametrize(
    ("metric", "more"),
    [("time", "slower"), ("tflops", "faster"), ("power", "worse"), ("energy", "worse"), ("tflops-per-w", "better")],
)
def test_what_more_of_a_metric_is_called(metric: str, more: str) -> None:
    assert verdict(Ratio(1.0, 1.1, 0.01), metric, 0.01) == more


def test_an_unknown_gain_gives_no_verdict() -> None:
    assert verdict(Ratio(1.0, 2.0, 0.01, systematic=None), "energy", 0.01) == "inconclusive"


def test_the_threshold_decides_what_is_the_same() -> None:
    assert verdict(Ratio(1.0, 1.03, 0.005), "time", 0.05) == "same"
    assert verdict(Ratio(1.0, 1.03, 0.005), "time", 0.01) == "slower"


def test_equal_and_slower_runs_are_told_apart_as_promised() -> None:
    rng = np.random.default_rng(1)
    counts = {"equal": 0, "slower": 0}
    for _ in range(1000):
        base, same, slow = rng.normal(1, 0.005, (3, 3))
        equal = ratio(results(*base), results(*same), (0.01, 0.01))
        later = ratio(results(*base), results(*(slow * 1.03)), (0.01, 0.01))
        counts["equal"] += verdict(equal, "time", 0.01) in ("slower", "faster")
        counts["slower"] += verdict(later, "time", 0.01) == "slower"
    assert counts["equal"] <= 50
    assert counts["slower"] >= 950
