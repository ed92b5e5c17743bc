"""Intervals of a mean that wanders: covariances in closed form, coverage over processes whose long-run mean is 1."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flopwatt.runs import drift
from flopwatt.runs.drift import Stretch, mean_rate, relative_half_width

STEP_S = 0.02


def wandering(rng: np.random.Generator, sigma: float, tau_s: float, edge_s: float = 0.0) -> list[Stretch]:
    """Two 5 s windows of an Ornstein-Uhlenbeck process about 1, seen every 0.1 s at instants known to ± edge_s."""
    steps = round(10.3 / STEP_S)
    kept = math.exp(-STEP_S / tau_s)
    noise = rng.standard_normal(steps) * sigma
    level = noise[0]
    total = [0.0]
    for fresh in noise:
        total.append(total[-1] + (1 + level) * STEP_S)
        level = level * kept + fresh * math.sqrt(1 - kept * kept)
    t_s = np.arange(steps + 1) * STEP_S
    stretches = []
    for start_s in (0.1, 5.2):
        seen_s = np.arange(start_s, start_s + 5.0, 0.1)
        true_s = seen_s + rng.uniform(-1, 1, len(seen_s)) * edge_s * math.sqrt(3)
        stretches.append(Stretch(seen_s, np.interp(true_s, t_s, total), seen_s, np.full(len(seen_s), edge_s)))
    return stretches


def coverage(sigma: float, tau_s: float, edge_s: float, seeds: int) -> float:
    covered = 0
    for seed in range(seeds):
        stretches = wandering(np.random.default_rng(seed), sigma, tau_s, edge_s)
        covered += abs(mean_rate(stretches) - 1) < relative_half_width(stretches)
    return covered / seeds


@pytest.mark.parametrize(("sigma", "edge_s"), [(0.001, 0.0), (0.002, 0.0004), (0.004, 0.0004)])
def test_drift_as_long_as_the_window_is_covered(sigma: float, edge_s: float) -> None:
    assert 0.90 <= coverage(sigma, 4.0, edge_s, 300) <= 0.99


def test_batches_taken_as_independent_would_not_cover_it() -> None:
    covered = 0
    for seed in range(300):
        stretches = wandering(np.random.default_rng(seed), 0.002, 4.0)
        batches = np.concatenate([stretch.batched(10).rates for stretch in stretches])
        error = batches.std(ddof=1) / math.sqrt(len(batches))
        covered += abs(mean_rate(stretches) - 1) < 2.09 * error
    assert covered / 300 < 0.65


def test_slower_drift_than_any_window_shows_is_mostly_covered_and_faster_drift_always() -> None:
    assert coverage(0.002, 8.0, 0.0004, 200) > 0.80
    assert coverage(0.002, 0.5, 0.0004, 200) > 0.95


def moving_mean_covariance(
    one: tuple[float, float], other: tuple[float, float], tau_s: float, average_s: float
) -> float:
    """Integrated numerically: the mean of exp(−|s − t|/τ) over two batches, and over the averages that end in them."""
    weights = []
    t_s = np.arange(-1.2, 4.2, 0.0125) + 0.00625
    for start_s, end_s in (one, other):
        lags_s = np.arange(0.0, average_s, 0.0125) if average_s else np.zeros(1)
        weight = sum((t_s + lag_s > start_s) & (t_s + lag_s < end_s) for lag_s in lags_s)
        weights.append(weight / weight.sum())
    return float(weights[0] @ np.exp(-abs(t_s[:, None] - t_s) / tau_s) @ weights[1])


@pytest.mark.parametrize("average_s", [0.0, 0.025, 1.0])
def test_covariance_of_the_batches_is_that_of_the_process(average_s: float) -> None:
    """Batches of unequal length, the first two side by side, the third after a gap."""
    batches = [(0.0, 0.5), (0.5, 1.2), (3.0, 4.0)]
    ends = [np.array([0.0, 0.5, 1.2]), np.array([3.0, 4.0])]
    found = drift._drift([Stretch(t_s, t_s, t_s, 0 * t_s, average_s) for t_s in ends])
    assert found.shape == (len(drift.TAU_S), 3, 3)
    for tau in (2, 4, 8):
        expected = [[moving_mean_covariance(a, b, drift.TAU_S[tau], average_s) for b in batches] for a in batches]
        assert found[tau] == pytest.approx(np.array(expected), rel=5e-3, abs=1e-4)


@pytest.mark.parametrize(("average_s", "least"), [(0.0, 0.0), (1.0, 0.9)])
def test_a_running_average_hides_drift_and_the_interval_knows(average_s: float, least: float) -> None:
    """One window of 3 s of 1 s averages: taken for plain readings, their smoothness would look like certainty."""
    covered = 0
    for seed in range(200):
        whole = wandering(np.random.default_rng(seed), 0.002, 4.0)[1]
        t_s, summed = whole.t_s, whole.above
        averages = (np.interp(t_s[10:], t_s, summed) - np.interp(t_s[10:] - 1.0, t_s, summed)) / 1.0
        t_s = t_s[10:41]
        joules = np.concatenate([[0.0], np.cumsum(averages[1:31] * np.diff(t_s))])
        seen = [Stretch(t_s, joules, t_s, 0 * t_s, average_s)]
        covered += abs(mean_rate(seen) - 1) < relative_half_width(seen)
    assert covered / 200 >= least
    assert average_s or covered / 200 < 0.93


def test_white_noise_is_told_from_edges() -> None:
    rng = np.random.default_rng(3)
    t_s = np.arange(0.0, 50.0, 0.1)
    edge_s = np.full(len(t_s), 0.001)
    shaken = Stretch(t_s, t_s + rng.normal(0, 0.001, len(t_s)), t_s, edge_s)
    noisy = Stretch(t_s, t_s + np.cumsum(rng.normal(0, 0.02 * 0.1, len(t_s))), t_s, 0 * edge_s)
    assert drift._white([noisy], 1.0) == pytest.approx(0.02**2 * 0.1, rel=0.15)
    assert drift._white([shaken], 1.0) < 0.1 * drift._white([Stretch(t_s, shaken.above, t_s, 0 * edge_s)], 1.0)


def test_the_mixture_of_one_normal_is_that_normal() -> None:
    assert drift._mixture_half_width(np.array([1.0]), np.array([0.01])) == pytest.approx(0.0196, rel=1e-3)


def test_the_mean_is_what_rose_over_what_rose() -> None:
    """Of stretches of unequal length: their totals, not the mean of their rates."""
    one = Stretch(np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.zeros(2))
    two = Stretch(np.array([2.0, 5.0]), np.array([0.0, 3.0]), np.array([0.0, 3.0]), np.zeros(2))
    assert mean_rate([one, two]) == pytest.approx(5 / 4)


def test_no_interval_from_one_sample_or_from_counts_that_stand() -> None:
    one = Stretch(np.array([0.0, 1.0]), np.array([0.0, 2.0]), np.array([0.0, 1.0]), np.zeros(2))
    stuck = Stretch(np.arange(4.0), np.arange(4.0), np.array([0.0, 1.0, 1.0, 2.0]), np.zeros(4))
    assert relative_half_width([one]) == math.inf
    assert relative_half_width([stuck]) == math.inf


@pytest.mark.parametrize("still", ["t_s", "below"])
def test_no_interval_and_no_warning_where_two_of_many_samples_are_one(still: str) -> None:
    """Between the batches' ends, where only the scatter of neighbours sees it."""
    rises = np.arange(100.0)
    stands = np.array([*range(42), 41.0, *range(43, 100)])
    values = {"t_s": rises, "above": rises, "below": rises, still: stands}
    assert relative_half_width([Stretch(**values, edge_s=np.zeros(100))]) == math.inf


def test_no_interval_where_batches_are_too_unlike_for_floating_point() -> None:
    t_s = np.concatenate([np.arange(5.0), 5.0 + 1e-9 * np.arange(1.0, 6.0)])
    edge_s = np.full(10, 1e9)
    assert relative_half_width([Stretch(t_s, t_s, t_s, edge_s)]) == math.inf
