"""Held-out figures: right by hand, and coverage of errors that the interval has not seen."""

import numpy as np
import pytest

from flopwatt.analysis.calibrate import intervals, validation
from flopwatt.analysis.calibrate.points import make_shapes


def test_figures_by_hand():
    shapes = make_shapes([64, 64, 4096, 4096], [64, 64, 4096, 8192], [64, 64, 4096, 4096])
    predicted = np.array([1.1, 0.8, 1.0, 1.3])
    inside = np.array([True, False, True, True])
    found = validation.errors(shapes, np.ones(4), predicted, inside, np.full(4, 0.5), np.array([2, 2, 0, 1]))
    assert (found.count, found.mape, found.mape_large, found.roofline_mape, found.coverage) == (4, 15, 15, 50, 0.75)
    assert [(s.size_gflop, s.count, s.mape, s.coverage) for s in found.by_size] == [
        (0, 2, 15, 0.5), (64, 1, 0, 1), (256, 1, 30, 1),
    ]  # fmt: skip
    assert [(s.n, s.k, s.count, s.mape) for s in found.by_site] == [
        (4096, 4096, 1, 0), (8192, 4096, 1, 30), (64, 64, 2, 15),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [60, 400])
def test_coverage_is_of_errors_that_the_interval_has_not_seen(count):
    shares = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        x, sites = rng.normal(size=(count, 6)), rng.integers(0, count // 3, count)
        error = rng.standard_t(4, count) * 0.02
        shares.append(validation.covered(x, error, np.unique(sites, return_inverse=True)[1]).mean())
    assert 0.935 < np.mean(shares) < 0.985


def test_an_interval_that_learned_its_own_errors_would_flatter_itself():
    """Errors that a site has in common: within a site all alike, so that judging inside one says nothing."""
    rng = np.random.default_rng(0)
    sites = np.repeat(np.arange(40), 10)
    size = np.exp(rng.normal(0, 1, 40))[sites] * 0.01
    x = np.stack([sites + 0.0, rng.normal(size=400)], axis=1)
    error = size * rng.choice([-1, 1], 400)
    itself = np.abs(error) <= intervals.half_width(intervals.fit(x, error), x, np.zeros(400))
    assert validation.covered(x, error, sites).mean() < itself.mean()


def test_few_rows_and_one_site_are_judged_row_by_row():
    rng = np.random.default_rng(0)
    assert validation.covered(np.zeros((3, 2)), rng.normal(size=3), np.zeros(3, dtype=int)).all()
    found = validation.covered(rng.normal(size=(40, 2)), rng.normal(0, 0.05, 40), np.zeros(40, dtype=int))
    assert 0.8 < found.mean() <= 1
