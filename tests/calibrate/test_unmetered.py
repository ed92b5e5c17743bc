"""Watts where none were measured lie between a fifth of the limit and all of it, and say that they are unsure."""

import msgspec
import numpy as np
import pytest
from made_up_gpu import CHIP, wrapped

from flopwatt.analysis.calibrate import fitting
from flopwatt.analysis.calibrate.residual import lender
from flopwatt.analysis.calibrate.unmetered import LEAST_SHARE, STEPS, with_watts


@pytest.fixture(scope="module")
def published():
    return wrapped(with_watts(fitting.unmeasured(CHIP, "bf16", "made up", CHIP.limit_w)))


def test_watts_follow_how_busy_the_chip_is(published):
    found = published.predict([1, 4096], [64, 4096], [64, 4096])
    idle, busy = found.power_w / CHIP.limit_w
    assert idle == pytest.approx(LEAST_SHARE, rel=0.15)
    assert 0.7 < busy <= 1
    sizes = 2 ** np.arange(6, 14)
    assert (np.diff(published.predict(sizes, sizes, sizes).power_w) >= 0).all()


def test_the_staircase_is_the_line_to_half_a_step(published):
    sizes = np.unique(np.round(2 ** np.linspace(5, 13, 300)))
    found = published.predict(sizes, sizes, sizes)
    flop, moved = 2 * sizes**3, 6 * sizes**2
    used = flop / found.time_s / CHIP.flop_per_s + moved / found.time_s / CHIP.bytes_per_s
    share = LEAST_SHARE + (1 - LEAST_SHARE) * np.minimum(used, 1)
    assert np.abs(found.power_w / CHIP.limit_w - share).max() <= 0.51 * (1 - LEAST_SHARE) / STEPS


def test_the_interval_reaches_from_near_idle_to_the_limit(published):
    rng = np.random.default_rng(0)
    found = published.predict(*(np.round(2 ** rng.uniform(0, 14, 500)) for _ in range(3)))
    assert (found.power_w_high <= CHIP.limit_w).all()
    assert (found.power_w_high / found.power_w_low > 2.5).all()
    assert (found.energy_j_high / found.energy_j_low > 8).all()
    assert (found.energy_j <= found.time_s * CHIP.limit_w * 1.000001).all()


def test_measured_watts_and_unknown_limits_are_left_alone(fitted):
    assert with_watts(fitted) is fitted
    unlimited = fitting.unmeasured(CHIP, "bf16", "made up", None)
    assert with_watts(unlimited) is unlimited


def test_times_without_watts_get_the_law_beside_the_priors_of_their_times(fitted):
    replace = msgspec.structs.replace
    lent = (lender("sibling", fitted).transfer,)
    residual = replace(fitted.time.residual, transfers=lent, process=None, process_share=0.0)
    one = replace(fitted, power=None, energy_interval=None, time=replace(fitted.time, residual=residual))
    lawful = with_watts(one)
    assert 100 <= wrapped(lawful).predict(64, 64, 64).power_w[0] < 130
    assert replace(lawful, power=None, energy_interval=None) == one
