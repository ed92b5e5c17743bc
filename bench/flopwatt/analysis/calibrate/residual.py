"""The learned residual on the physical core: what is fitted to how many points, and how it is evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np

from flopwatt.analysis.calibrate import features, forest, smooth
from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.core import Array, Shapes, core_time
from flopwatt.analysis.calibrate.forest import Forest
from flopwatt.analysis.calibrate.records import Fitted, Residual, Transfer

SPARSE_MOST: Final = 3000
"""Points up to which a Gaussian process and other GPUs' calibrations take part: beyond, the trees know better."""

FORESTS_SCALE: Final = 0.5
"""Scale of two forests joined, which is what a fit to many points has."""

FEW_MOST: Final = 500
"""Points up to which trees stay small, and several forests are averaged for it."""

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the Gaussian process beside the trees, of which held-out errors choose."""

PRIORS_MOST: Final = 2
"""Other GPUs' calibrations that a fit keeps: each costs as much at predicting as the fit itself."""

LOGARITHM_MOST: Final = 80.0
"""|ln| of any second, watt or ratio: e⁸⁰ leaves room for none that is real."""

_RIDGE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Seen:
    """GEMMs as the residual sees them.

    trees: [rows, FEATURES + 2 a prior]. smooth: [rows, SMOOTH_FEATURES]. lent: [rows, priors], each prior's residual.
    """

    trees: Array
    smooth: Array
    lent: Array

    def take(self, rows: Array) -> Seen:
        """Those of `rows`."""
        return Seen(self.trees[rows], self.smooth[rows], self.lent[rows])


@dataclass(frozen=True, slots=True)
class Prior:
    """Another GPU's calibration as a fit uses it: what it lends, and what it predicted, held out, of its own shapes.

    held_out_s: seconds by (batch, m, n, k). A shape that it was itself fitted to would else be predicted better than
    any other, here too where chips are alike, and the fit would trust it too far.
    """

    transfer: Transfer
    held_out_s: Mapping[tuple[int, int, int, int], float]


class _Way(NamedTuple):
    """How a forest is grown: leaves of a tree, trees, learning rate, and how many times the forests asked for."""

    leaves: int
    rounds: int
    rate: float
    times: int


def _way(points: int) -> _Way:
    if points > SPARSE_MOST:
        return _Way(leaves=127, rounds=350, rate=0.07, times=1)
    if points > FEW_MOST:
        return _Way(leaves=31, rounds=350, rate=0.05, times=1)
    return _Way(leaves=8, rounds=150, rate=0.05, times=2)


def lender(gpu: str, fitted: Fitted) -> Prior:
    """What a GPU's calibration lends to another's: its core and one half of its trees, which are two of a kind."""
    forests = fitted.time.residual.trees
    half = len(forests.trees) // 2 if forests.scale == FORESTS_SCALE else len(forests.trees)
    trees = Forest(trees=forests.trees[:half], scale=1.0 if half < len(forests.trees) else forests.scale)
    transfer = Transfer(gpu=gpu, chip=fitted.chip, core=fitted.core, trees=trees, weight=1.0)
    return Prior(transfer, dict(zip(fitted.shapes, fitted.held_out_s, strict=True)))


def see(
    shapes: Shapes, layout: Array, core_s: Array, chip: Chip, priors: Sequence[Transfer], learning: Sequence[Prior] = ()
) -> Seen:
    """What the residual sees of these GEMMs, other GPUs' predictions of them included.

    learning: the priors that these are to be fitted with; empty once they have been.
    """
    columns = [features.matrix(shapes, core_s, chip, layout)]
    lent = []
    for number, prior in enumerate(priors):
        theirs_s = core_time(np.asarray(prior.core), shapes, prior.chip)
        residual = prior.trees.evaluate(features.matrix(shapes, theirs_s, prior.chip, layout))
        if learning:
            _hold_out(residual, learning[number].held_out_s, shapes, theirs_s)
        lent.append(residual)
        columns.append(np.stack([residual, np.log(theirs_s) + residual - np.log(core_s)], axis=1))
    together = np.stack(lent, axis=1) if lent else np.zeros((len(shapes), 0))
    return Seen(np.concatenate(columns, axis=1), features.smooth(shapes, core_s, chip), together)


def chosen(
    shapes: Shapes, layout: Array, time_s: Array, core_s: Array, chip: Chip, priors: Sequence[Prior]
) -> Sequence[Prior]:
    """Those priors that together say most of these points, at most PRIORS_MOST, one after the other."""
    if len(priors) <= PRIORS_MOST:
        return priors
    lent = see(shapes, layout, core_s, chip, [prior.transfer for prior in priors], priors).lent
    target = np.log(time_s / core_s)
    kept: list[int] = []
    while len(kept) < PRIORS_MOST:
        left = [i for i in range(len(priors)) if i not in kept]
        kept.append(min(left, key=lambda i: _misfit(lent[:, [*kept, i]], target)))
    return [priors[i] for i in sorted(kept)]


def fit(seen: Seen, target: Array, priors: Sequence[Prior] = (), forests: int = 2, *, median: bool = False) -> Residual:
    """The residual fitted to target [rows], the logarithm of measured over core. median: as for `forest.learn`."""
    constant, weights = _ridge(seen.lent, target)
    rest = target - constant - seen.lent @ weights
    lenders = tuple(msgspec.structs.replace(p.transfer, weight=float(w)) for p, w in zip(priors, weights, strict=True))
    sparse = len(target) <= SPARSE_MOST
    if len(target) < 20:
        return Residual(constant=constant, transfers=lenders)
    way = _way(len(target))
    grown = [
        forest.learn(
            seen.trees,
            rest,
            leaves=way.leaves,
            rounds=way.rounds,
            seed=seed,
            rate=way.rate,
            sparse=sparse,
            median=median,
        )
        for seed in range(way.times * forests)
    ]
    trees = forest.joined(grown)
    if not sparse:
        return Residual(constant=constant, transfers=lenders, trees=trees)
    return Residual(
        constant=constant, transfers=lenders, trees=trees, process=smooth.learn(seen.smooth, rest), process_share=0.5
    )


def evaluate(residual: Residual, seen: Seen) -> Array:
    """The logarithm of predicted over core [rows]."""
    share = residual.process_share if residual.process else 0.0
    logs = evaluate_shares(residual, seen, (share,))[0]
    return np.asarray(np.clip(logs, -LOGARITHM_MOST, LOGARITHM_MOST))


def evaluate_shares(residual: Residual, seen: Seen, shares: Sequence[float]) -> Array:
    """The same with each of these shares of the process in place of its own [shares, rows]."""
    weights = np.array([lender.weight for lender in residual.transfers])
    lent = residual.constant + seen.lent @ weights
    trees = residual.trees.evaluate(seen.trees) if min(shares) < 1 or not residual.process else 0.0
    process = residual.process.evaluate(seen.smooth) if residual.process and max(shares) > 0 else trees
    return np.stack([lent + (1 - share) * trees + share * process for share in shares])


def best_share(logs: Array, target: Array) -> int:
    """Which of the rows of logs [shares, rows] is nearest to target in the mean."""
    return int(np.abs(np.expm1(logs - target)).mean(axis=1).argmin())


def _hold_out(
    residual: Array, held_out_s: Mapping[tuple[int, int, int, int], float], shapes: Shapes, core_s: Array
) -> None:
    """Puts what a prior said of a shape before it had seen it in place of what it says since."""
    sizes = (shapes.batch, shapes.m, shapes.n, shapes.k)
    for row, shape in enumerate(zip(*(size.astype(int).tolist() for size in sizes), strict=True)):
        seconds = held_out_s.get(shape)
        if seconds is not None:
            residual[row] = np.log(seconds / core_s[row])


def _ridge(lent: Array, target: Array) -> tuple[float, Array]:
    """Constant and weights of a ridge regression on what is lent."""
    mean = float(np.mean(target)) if len(target) else 0.0
    if not lent.shape[1] or len(target) < 20:
        return mean, np.zeros(lent.shape[1])
    centre = lent.mean(axis=0)
    x = lent - centre
    weights = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ (target - mean))
    return mean - float(centre @ weights), weights


def _misfit(lent: Array, target: Array) -> float:
    """Mean absolute error of the ridge regression."""
    constant, weights = _ridge(lent, target)
    return float(np.abs(target - constant - lent @ weights).mean())
