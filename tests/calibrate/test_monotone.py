"""Times grow with M, N and K but for noise, whatever the residual learned: on a made-up GPU, on sabotaged fits."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_gpu import true_time, wrapped

from flopwatt.analysis.calibrate import monotone
from flopwatt.analysis.calibrate.forest import Forest, Tree
from flopwatt.analysis.calibrate.points import Points, make_shapes
from flopwatt.analysis.calibrate.validation import SIZES_GFLOP


def grown(factor, seed=4, count=3000, smallest=0, largest=13):
    """Pairs of shapes of which the second is the first, longer in one dimension."""
    rng = np.random.default_rng(seed)
    sizes = np.round(2 ** rng.uniform(smallest, largest, (count, 3)))
    longer = sizes.copy()
    which = rng.integers(0, 3, count)
    longer[np.arange(count), which] = np.ceil(longer[np.arange(count), which] * factor)
    return sizes.T, longer.T


@pytest.mark.parametrize("factor", [1.1, 1.5, 2, 4, 64])
def test_longer_shapes_take_longer_but_for_noise(calibration, factor):
    sizes, longer = grown(factor)
    base, more = calibration.predict(*sizes), calibration.predict(*longer)
    fallen = np.log(base.time_s / more.time_s)
    assert (fallen <= np.log(base.time_s_high / base.time_s)).all()
    assert np.mean(fallen > 0.05) < 0.01


def sabotaged(fitted):
    """A fit with one more tree, by which shapes of more than 2¹² rows take a tenth of their time."""
    cut = Tree(feature=(0,), threshold=(12.0,), left=(-1,), right=(-2,), value=(0.0, np.log(0.1)))
    residual = fitted.time.residual
    trees = Forest(trees=(*residual.trees.trees, cut), scale=residual.trees.scale)
    residual = msgspec.structs.replace(residual, trees=trees, process_share=0.0)
    return msgspec.structs.replace(fitted, time=msgspec.structs.replace(fitted.time, residual=residual))


@pytest.mark.parametrize("broken", [False, True])
def test_no_shape_is_predicted_below_any_on_the_lattice_inside_it(calibration, fitted, broken):
    used = wrapped(sabotaged(fitted)) if broken else calibration
    axes = (fitted.growth.m, fitted.growth.n, fitted.growth.k)
    rng = np.random.default_rng(6)
    sizes = np.round(2 ** rng.uniform(0, 15, (3, 20_000)))
    inside = np.array([rng.choice(axis, 20_000) for axis in axes])
    contained = (inside <= sizes).all(axis=0)
    assert contained.sum() > 1000
    small, found = calibration.predict(*inside[:, contained]), used.predict(*sizes[:, contained])
    allowed = np.maximum(np.log(found.time_s_high / found.time_s), max(fitted.growth.reversal))
    assert (found.time_s >= small.time_s_low * np.exp(-allowed) * 0.9999).all()


def test_a_residual_that_falls_off_a_cliff_is_held(fitted):
    broken = sabotaged(fitted)
    m = np.array([4096, 4608])
    held = wrapped(broken).predict(m, 512, 64).time_s
    free = wrapped(msgspec.structs.replace(broken, growth=None)).predict(m, 512, 64).time_s
    assert free[1] < 0.6 * free[0]
    assert held[1] > 0.75 * held[0]
    assert held[0] == free[0]


@settings(max_examples=60, deadline=None)
@given(*(st.lists(st.integers(0, most), min_size=3, max_size=3) for most in (15, 4)))
def test_powers_of_two_grow(fitted, calibration, exponents, more):
    small = [2**e for e in exponents]
    large = [2 ** (e + d) for e, d in zip(exponents, more, strict=True)]
    found = calibration.predict(*np.array([small, large]).T)
    allowed = max(np.log(found.time_s_high / found.time_s)[1], *fitted.growth.reversal)
    assert found.time_s[1] >= found.time_s_low[0] * np.exp(-allowed) * 0.9999


def test_the_reversals_that_were_measured_are_allowed_and_no_others():
    shapes = make_shapes(*np.meshgrid(2.0 ** np.arange(5, 13), [256, 512, 1024], [256, 512, 1024]))
    time_s = true_time(shapes)
    smooth = Points(shapes, np.zeros(len(shapes)), time_s, np.full(len(shapes), np.nan))
    slow = Points(shapes, smooth.layout, np.where(shapes.m == 32, time_s * 2, time_s), smooth.power_w)
    least, most = (monotone.learn(one, lambda s, layout: true_time(s)).reversal for one in (smooth, slow))
    assert set(least) == {monotone.REVERSAL_LEAST}
    assert len(least) == len(SIZES_GFLOP)
    assert 0.3 < max(most) < 0.8


def test_a_layout_that_was_not_measured_and_a_shape_below_all_are_left_alone(fitted):
    growth = msgspec.structs.replace(fitted.growth, m=(64, *range(65, 64 + len(fitted.growth.m))))
    time_s = np.full(2, 1e-9)
    shapes = make_shapes([32, 64], 4096, 4096)
    raised = monotone.raised(growth, shapes, np.zeros(2), time_s, np.zeros(2))
    assert raised[0] == 1e-9
    assert raised[1] > 1e-6
    assert (monotone.raised(growth, shapes, np.ones(2), time_s, np.zeros(2)) == time_s).all()
