"""Boosted regression trees as plain arrays: learned by LightGBM, kept as numbers, evaluated by numpy alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from flopwatt.analysis.calibrate.core import Array
from flopwatt.runs.frozen import Frozen

DIGITS: Final = 9
"""Significant digits of a stored number: thresholds lie between the values of a feature that occurred."""

HUBER_LEAST: Final = 0.08
"""Error from which on a row pulls no harder than linearly, or more where y varies more."""

_BINS: Final = 63
"""Steps in which a feature is looked at: four times as many take longer and, on public tables, err no less."""


class Tree(Frozen, frozen=True, kw_only=True):
    """One tree. Inner node i asks feature[i] <= threshold[i]; yes leads to left[i], no to right[i].

    A child c >= 0 is an inner node, always a later one; c < 0 is leaf ~c, whose answer is value[~c]. A tree without
    inner nodes answers value[0].
    """

    feature: tuple[int, ...]
    threshold: tuple[float, ...]
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def problem(self, features: int) -> str | None:
        """Why this is no tree over so many features; None if it is one."""
        nodes = len(self.feature)
        if not len(self.threshold) == len(self.left) == len(self.right) == nodes:
            return "arrays of a tree differ in length"
        if len(self.value) != nodes + 1:
            return "a tree has the wrong number of leaves"
        if not all(0 <= feature < features for feature in self.feature):
            return "a tree asks for a feature that is not there"
        children = [(i, child) for i in range(nodes) for child in (self.left[i], self.right[i])]
        inner = sorted(child for _, child in children if child >= 0)
        leaves = sorted(~child for _, child in children if child < 0)
        if any(0 <= child <= i for i, child in children) or inner != list(range(1, nodes)):
            return "a tree's nodes do not hang together"
        if nodes and leaves != list(range(nodes + 1)):
            return "a tree's leaves do not hang together"
        return None


class Forest(Frozen, frozen=True, kw_only=True):
    """Trees whose answers are summed, times `scale`."""

    trees: tuple[Tree, ...] = ()
    scale: float = 1.0

    def evaluate(self, x: Array) -> Array:
        """The sum at each row of x [rows, features]."""
        total: Array = np.zeros(len(x))
        if not self.trees or not len(x):
            return total
        ranks, cuts = _ranked(x, self.trees)
        everything = np.arange(len(x), dtype=np.int32)
        for tree in self.trees:
            _add(tree, ranks, cuts, everything, total)
        return total * self.scale


def learn(
    x: Array,
    y: Array,
    *,
    leaves: int,
    rounds: int,
    seed: int,
    rate: float,
    sparse: bool,
    median: bool = False,
    noisy: bool = False,
) -> Forest:
    """A forest fitted to y [rows] over x [rows, features].

    sparse: a few hundred rows rather than thousands. median: of absolute rather than squared error, for y with tails.
    noisy: the error of exp(y) relative to it is what counts, and trees look at most features: where y scatters by
    tenths, a sum of squares or of logarithms pulls the answer above what is least off.
    """
    import lightgbm

    settings: dict[str, Any] = {
        "objective": "l1" if median else "huber",
        "alpha": max(HUBER_LEAST, 0.6 * float(np.std(y))),
        "learning_rate": rate, "num_leaves": leaves,
        "min_data_in_leaf": 3 if sparse else 5, "min_data_in_bin": 1 if sparse else 3,
        "feature_fraction": 0.8 if noisy else 0.3 if sparse else 0.5, "max_bin": _BINS,
        "bagging_fraction": 0.7 if sparse else 0.8, "bagging_freq": 1,
        "verbose": -1, "num_threads": 1, "seed": seed, "deterministic": True, "force_row_wise": True,
    }  # fmt: skip
    binning = {name: settings[name] for name in ("min_data_in_bin", "max_bin", "verbose")}
    data = lightgbm.Dataset(x, y, weight=np.exp(np.median(y) - y) if noisy else None, params=binning)
    booster = lightgbm.train(settings, data, rounds)
    return Forest(trees=tuple(_tree(found["tree_structure"]) for found in booster.dump_model()["tree_info"]))


def joined(forests: list[Forest]) -> Forest:
    """The mean of several forests of scale 1."""
    return Forest(trees=tuple(tree for forest in forests for tree in forest.trees), scale=1.0 / len(forests))


def _tree(structure: Mapping[str, Any]) -> Tree:
    feature: list[int] = []
    threshold: list[float] = []
    left: list[int] = []
    right: list[int] = []
    value: list[float] = []

    def visit(node: Mapping[str, Any]) -> int:
        if "split_feature" not in node:
            value.append(_rounded(node["leaf_value"]))
            return ~(len(value) - 1)
        at = len(feature)
        feature.append(int(node["split_feature"]))
        threshold.append(_rounded(node["threshold"]))
        left.append(0)
        right.append(0)
        left[at] = visit(node["left_child"])
        right[at] = visit(node["right_child"])
        return at

    visit(structure)
    return Tree(
        feature=tuple(feature), threshold=tuple(threshold), left=tuple(left), right=tuple(right), value=tuple(value)
    )


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _ranked(x: Array, trees: tuple[Tree, ...]) -> tuple[list[Any], list[Any]]:
    """Columns of x as the number of thresholds below each value, small integers, and those thresholds."""
    thresholds: list[set[float]] = [set() for _ in range(x.shape[1])]
    for tree in trees:
        for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
            thresholds[feature].add(threshold)
    cuts = [{cut: rank for rank, cut in enumerate(sorted(found))} for found in thresholds]
    ranks = [
        np.searchsorted(np.fromiter(cut, float, len(cut)), x[:, i], side="left").astype(
            np.uint16 if len(cut) < 65536 else np.int64
        )
        for i, cut in enumerate(cuts)
    ]
    return ranks, cuts


def _add(tree: Tree, ranks: list[Any], cuts: list[Any], rows: Any, total: Array) -> None:
    """Adds one tree's answers to total: rows part at each node until they reach a leaf."""
    pending = [(0 if tree.feature else ~0, rows)]
    while pending:
        node, here = pending.pop()
        if node < 0:
            total[here] += tree.value[~node]
            continue
        feature = tree.feature[node]
        yes = ranks[feature].take(here) <= cuts[feature][tree.threshold[node]]
        for child, part in ((tree.left[node], here.compress(yes)), (tree.right[node], here.compress(~yes))):
            if len(part):
                pending.append((child, part))
