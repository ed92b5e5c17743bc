"""How a residual is put together: which forests, how far a sibling is trusted, the process's share, who is held out."""

import msgspec
import numpy as np
import pytest
from made_up_gpu import CHIP

from flopwatt.analysis.calibrate import fitting, forest, residual, smooth
from flopwatt.analysis.calibrate.forest import Forest, Tree
from flopwatt.analysis.calibrate.records import Residual
from flopwatt.analysis.calibrate.residual import Seen
from flopwatt.analysis.calibrate.smooth import Process

STUMPS = tuple(Tree(feature=(), threshold=(), left=(), right=(), value=(value,)) for value in (1.0, 2.0, 3.0, 4.0))
PROCESS = Process(offset=(0.0,), length=(1.0,), variance=1.0, points=((0.0,),), weight=(1.0,))


@pytest.fixture
def grown(monkeypatch):
    """The settings of every forest that is asked for; none is grown."""
    asked = []
    monkeypatch.setattr(forest, "learn", lambda x, y, **settings: asked.append(settings) or Forest())
    monkeypatch.setattr(smooth, "learn", lambda x, y: PROCESS)
    return asked


@pytest.fixture
def published():
    return fitting.unmeasured(CHIP, "bf16", "made up", CHIP.limit_w)


def seen(rows, lent=0, seed=0):
    rng = np.random.default_rng(seed)
    return Seen(rng.normal(size=(rows, 3)), rng.normal(size=(rows, 1)), rng.normal(size=(rows, lent)))


@pytest.mark.parametrize(("noisy", "median"), [(False, [False, True, False, True]), (True, [True] * 4)])
def test_every_second_forest_is_of_absolute_error_and_all_of_noisy_ones(grown, noisy, median):
    residual.fit(seen(100), np.zeros(100), noisy=noisy)
    assert [one["median"] for one in grown] == median
    assert {one["noisy"] for one in grown} == {noisy}
    assert len({one["seed"] for one in grown}) == 4


def test_many_points_get_larger_trees_and_no_process(grown):
    few, many = (residual.fit(seen(rows), np.zeros(rows)) for rows in (3000, 3001))
    assert (few.process, many.process) == (PROCESS, None)
    assert [one["leaves"] for one in grown] == [31] * 4 + [127] * 2


def test_half_of_what_is_lent_is_taken(grown, published):
    lenders = [residual.lender("sibling", published)] * 2
    x = seen(200, lent=2)
    learned = residual.fit(x, 0.3 + x.lent @ [1.0, -0.4], lenders)
    assert [lent.weight for lent in learned.transfers] == pytest.approx([0.5, -0.2], abs=0.005)
    rest = residual.evaluate_shares(learned, x, (0.0,))[0] - 0.5 * x.lent @ [1.0, -0.4]
    assert rest == pytest.approx(np.full(200, rest[0]), abs=0.02)


def test_few_points_teach_a_constant_and_keep_no_lender(grown, published):
    few = residual.fit(seen(19, lent=1), np.ones(19), [residual.lender("sibling", published)])
    assert few == Residual(constant=1.0)
    assert not grown


def test_a_process_without_a_share_is_dropped():
    learned = Residual(process=PROCESS, process_share=0.5)
    assert residual.with_share(learned, 0.25) == Residual(process=PROCESS, process_share=0.25)
    assert residual.with_share(learned, 0.0) == Residual()
    assert residual.with_share(Residual(), 0.75) == Residual()


def test_held_out_points_are_whole_sites_and_choose_the_share():
    sites = np.repeat(np.arange(20), 3)
    left_out = []

    def predict(test, shares):
        left_out.append(test)
        return np.stack([np.full(test.sum(), 0.1 if share == 0.75 else 1.0) for share in shares])

    held, share = residual.held_out(sites, np.zeros(60), predict)
    assert share == 0.75
    assert (held == 0.1).all()
    assert (np.sum(left_out, axis=0) == 1).all()
    assert all(len({*test[sites == site]}) == 1 for test in left_out for site in range(20))


@pytest.mark.parametrize(("trees", "scale", "lent"), [(4, 0.5, 3.0), (4, 0.25, 2.5), (1, 1.0, 1.0)])
def test_a_lender_gives_the_first_of_two_forests_and_all_of_a_sparse_fit(published, trees, scale, lent):
    learned = Residual(trees=Forest(trees=STUMPS[:trees], scale=scale))
    time = msgspec.structs.replace(published.time, residual=learned)
    prior = residual.lender("x", msgspec.structs.replace(published, time=time))
    assert prior.transfer.trees.evaluate(np.zeros((1, 1)))[0] == lent
