"""The calibration suite: even over its domain, in every prefix, the same for a seed and another for another."""

import numpy as np
import pytest

from flopwatt.runs.plan import Choices, build
from flopwatt.runs.suites import load_suite
from flopwatt.runs.suites.calibration import Domain, _sobol, design, suite_toml


def at_random(count, seed):
    rng = np.random.default_rng(seed)
    domain, found = Domain(), []
    while len(found) < count:
        m, n, k = (2 ** rng.uniform(*np.log2(bounds)) for bounds in (domain.m, domain.n, domain.k))
        if 2 * m * n * k <= domain.flop_most and m * k + n * k + m * n <= domain.elements_most:
            found.append((m, n, k))
    return found


def gaps(shapes):
    """How far, in octaves, shapes anywhere in the domain are from the nearest of these: the mean and the most."""
    wanted, have = (np.log2(np.array(found, dtype=float)) for found in (at_random(3000, 9), shapes))
    nearest = np.sqrt(((wanted[:, None] - have) ** 2).sum(axis=2)).min(axis=1)
    return nearest.mean(), nearest.max()


@pytest.mark.parametrize("count", [20, 50, 100, 200, 500, 1000])
def test_every_first_part_leaves_smaller_gaps_than_chance(count):
    mean, most = gaps(design(1000, 1)[:count])
    by_chance = np.mean([gaps(at_random(count, seed)) for seed in range(1, 6)], axis=0)
    assert most < 0.9 * by_chance[1]
    assert count == 20 or mean < by_chance[0]


def test_more_of_the_design_leaves_smaller_gaps():
    whole = design(1000, 1)
    most = [gaps(whole[:count])[1] for count in (20, 50, 100, 200, 500, 1000)]
    assert most == sorted(most, reverse=True)
    assert most[-1] < 0.25 * most[0]


def test_a_longer_design_starts_with_the_shorter_and_seeds_differ():
    assert design(300, 1)[:100] == design(100, 1)
    assert len(set(design(300, 1))) == 300
    assert len(set(design(300, 1)) & set(design(300, 2))) < 30


def test_sizes_are_such_as_layers_have_and_some_are_ragged():
    shapes = np.array(design(1000, 1))
    assert (shapes[:, 1:] % 64 == 0).all()
    assert (shapes[shapes[:, 1] >= 2048][:, 1] % 256 == 0).all()
    ragged = (shapes[:, 0] >= 16) & (shapes[:, 0] % 16 > 0)
    assert 0.05 < ragged.mean() < 0.2
    assert (2.0 * shapes.prod(axis=1, dtype=float) <= Domain().flop_most).all()


def test_the_sequence_is_evener_than_chance():
    qmc = pytest.importorskip("scipy.stats").qmc
    assert qmc.discrepancy(_sobol(0, 256, 0)) < 0.1 * qmc.discrepancy(np.random.default_rng(0).random((256, 4)))


@pytest.mark.parametrize(("name", "count", "seed"), [("calibration", 1000, 1), ("calibration-check", 300, 2)])
def test_the_shipped_suites_are_the_designs_and_are_measured_in_their_order(name, count, seed, tmp_path):
    path = tmp_path / f"{name}.toml"
    path.write_text(suite_toml(count, seed))
    shipped, made = load_suite(name), load_suite(path)
    assert shipped.items == made.items
    planned = build([shipped], Choices(processes=1)).cases
    assert [(p.case.problem.m, p.case.problem.n, p.case.problem.k) for p in planned] == design(count, seed)
