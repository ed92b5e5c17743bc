"""Trees and processes as arrays answer as the libraries that learned them; arrays that do not fit together are told."""

import msgspec
import numpy as np
import pytest

from flopwatt.analysis.calibrate import forest, smooth
from flopwatt.analysis.calibrate.forest import Forest, Tree


def data(rows=600, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 4))
    return x, np.sin(2 * x[:, 0]) + (x[:, 1] > 0.3) + 0.05 * rng.normal(size=rows)


def test_a_hand_made_tree_answers_by_its_thresholds():
    tree = Tree(feature=(0, 1), threshold=(1.0, -2.0), left=(1, -1), right=(-3, -2), value=(10.0, 20.0, 30.0))
    assert tree.problem(2) is None
    x = np.array([[1.0, -2.0], [1.0, -1.9], [1.1, -5.0]])
    assert Forest(trees=(tree, tree), scale=0.5).evaluate(x).tolist() == [10.0, 20.0, 30.0]


def test_stored_trees_answer_as_lightgbm_does():
    import lightgbm

    x, y = data()
    booster = lightgbm.train(
        {"num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 1},
        lightgbm.Dataset(x, y, params={"verbose": -1}),
        50,
    )
    trees = tuple(forest._tree(one["tree_structure"]) for one in booster.dump_model()["tree_info"])
    fresh = data(1000, seed=5)[0]
    assert np.allclose(Forest(trees=trees).evaluate(fresh), booster.predict(fresh), rtol=0, atol=1e-6)
    assert all(tree.problem(4) is None for tree in trees)


def test_a_forest_learns_and_survives_json():
    x, y = data(2000)
    learned = forest.joined([forest.learn(x, y, leaves=31, rounds=150, seed=s, rate=0.1, sparse=False) for s in (0, 1)])
    fresh, truth = data(500, seed=3)
    assert np.abs(learned.evaluate(fresh) - truth).mean() < 0.12
    again = msgspec.json.decode(msgspec.json.encode(learned), type=Forest)
    assert (again.evaluate(fresh) == learned.evaluate(fresh)).all()


def test_a_feature_is_looked_at_in_few_steps():
    x, y = data(3000)
    learned = forest.learn(x, y, leaves=31, rounds=60, seed=0, rate=0.1, sparse=False)
    asked = {(f, t) for tree in learned.trees for f, t in zip(tree.feature, tree.threshold, strict=True)}
    steps = [sum(f == one for f, _ in asked) for one in range(4)]
    assert 30 < max(steps) <= 62


def test_absolute_errors_ask_for_the_middle_and_relative_ones_for_less():
    rng = np.random.default_rng(0)
    y = rng.exponential(0.5, 20_000)
    x = rng.integers(0, 2, (len(y), 2)).astype(float)
    settings = {"leaves": 2, "rounds": 100, "seed": 0, "rate": 0.1, "sparse": False}
    squared, absolute, relative = (
        forest.learn(x, y, median=median, noisy=noisy, **settings).evaluate(x).mean()
        for median, noisy in ((False, False), (True, False), (True, True))
    )
    assert absolute == pytest.approx(np.log(2) * 0.5, abs=0.02)
    assert squared > absolute + 0.03
    # |exp(answer - y) - 1| weighs a row by exp(-y), which makes of an exponential law of rate 2 one of rate 3.
    assert relative == pytest.approx(np.log(2) / 3, abs=0.02)


def test_a_stored_process_answers_as_scikit_learn_does():
    from sklearn.gaussian_process.kernels import Matern

    x, y = data(80)
    learned = smooth.learn(x, y)
    kernel = learned.variance * Matern(1.0, nu=1.5)
    known = np.array(learned.points)
    fresh, truth = data(50, seed=9)
    expected = kernel((fresh - learned.offset) / learned.length, known) @ np.array(learned.weight)
    assert np.allclose(learned.evaluate(fresh), expected, atol=1e-6)
    assert np.corrcoef(learned.evaluate(fresh), truth)[0, 1] > 0.7
    assert sorted(known[:, 0]) == pytest.approx(sorted((x[:, 0] - learned.offset[0]) / learned.length[0]), abs=1e-6)


GOOD = {"feature": (0, 0), "threshold": (1.0, 2.0), "left": (1, -1), "right": (-3, -2), "value": (1.0, 2.0, 3.0)}


@pytest.mark.parametrize(
    "damage",
    [
        {"feature": (0, 9)},
        {"feature": (0, -1)},
        {"left": (0, -1)},  # a loop
        {"left": (1, -9)},
        {"left": (5, -1)},
        {"right": (-1, -2)},  # one leaf twice, another never
        {"value": (1.0, 2.0)},
        {"threshold": (1.0,)},
    ],
)
def test_trees_that_do_not_hang_together_are_told(damage):
    assert Tree(**GOOD).problem(1) is None
    assert Tree(**{**GOOD, **damage}).problem(1) is not None
