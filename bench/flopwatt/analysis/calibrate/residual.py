"""The learned residual on the physical core: what is fitted to how many points, and how it is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np

from flopwatt.analysis.calibrate import features, forest, smooth
from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.core import Array, Shapes, View, core_view
from flopwatt.analysis.calibrate.forest import Forest
from flopwatt.analysis.calibrate.points import folds
from flopwatt.analysis.calibrate.records import Fitted, Residual, Transfer

SPARSE_MOST: Final = 3000
"""Points up to which a Gaussian process and other GPUs' calibrations take part: beyond, the trees know better."""

LEARNED_LEAST: Final = 20
"""Points below which a constant is all that is learned: no trees, no process, nothing from other GPUs."""

FORESTS_SCALE: Final = 0.5
"""Scale of two forests joined, which is what a fit to many points has."""

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the Gaussian process beside the trees, of which held-out errors choose."""

PRIORS_MOST: Final = 2
"""Other GPUs' calibrations that a fit keeps: each costs as much at predicting as the fit itself."""

LOGARITHM_MOST: Final = 80.0
"""|ln| of any second, watt or ratio: e⁸⁰ leaves room for none that is real."""

_RIDGE: Final = 0.1

_TRUST: Final = 0.5
"""Share of what is lent that is taken everywhere: the trees, which see it too, take the rest where it holds."""


@dataclass(frozen=True, slots=True)
class Seen:
    """GEMMs as the residual sees them.

    trees: [rows, FEATURES + 2 a prior]. smooth: [rows, SMOOTH_FEATURES + priors].
    lent: [rows, priors], each prior's residual.
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
    return _Way(leaves=31, rounds=350, rate=0.05, times=2)


def lender(gpu: str, fitted: Fitted) -> Prior:
    """What a GPU's calibration lends to another's: its core and its trees, of two forests the first."""
    forests = fitted.time.residual.trees
    half = len(forests.trees) // 2 if forests.scale == FORESTS_SCALE else len(forests.trees)
    trees = Forest(trees=forests.trees[:half], scale=1.0 if half < len(forests.trees) else forests.scale)
    transfer = Transfer(gpu=gpu, chip=fitted.chip, core=fitted.core, trees=trees, weight=1.0)
    return Prior(transfer, dict(zip(fitted.shapes, fitted.held_out_s, strict=True)))


def see(
    shapes: Shapes, layout: Array, view: View, chip: Chip, priors: Sequence[Transfer], learning: Sequence[Prior] = ()
) -> Seen:
    """What the residual sees of these GEMMs, other GPUs' predictions of them included.

    learning: the priors that these are to be fitted with; empty once they have been.
    """
    columns = [features.matrix(shapes, view, chip, layout)]
    lent = []
    for number, prior in enumerate(priors):
        theirs = core_view(np.asarray(prior.core), shapes, prior.chip)
        residual = prior.trees.evaluate(features.matrix(shapes, theirs, prior.chip, layout))
        if learning:
            _hold_out(residual, learning[number].held_out_s, shapes, theirs.seconds)
        lent.append(residual)
        columns.append(np.stack([residual, np.log(theirs.seconds / view.seconds) + residual], axis=1))
    together = np.stack(lent, axis=1) if lent else np.zeros((len(shapes), 0))
    smooth_columns = np.concatenate([features.smooth(shapes, view, chip), together], axis=1)
    return Seen(np.concatenate(columns, axis=1), smooth_columns, together)


def chosen(
    shapes: Shapes, layout: Array, time_s: Array, view: View, chip: Chip, priors: Sequence[Prior]
) -> Sequence[Prior]:
    """Those priors that together say most of these points, at most PRIORS_MOST, one after the other."""
    if len(priors) <= PRIORS_MOST:
        return priors
    lent = see(shapes, layout, view, chip, [prior.transfer for prior in priors], priors).lent
    target = np.log(time_s / view.seconds)
    kept: list[int] = []
    while len(kept) < PRIORS_MOST:
        left = [i for i in range(len(priors)) if i not in kept]
        kept.append(min(left, key=lambda i: _misfit(lent[:, [*kept, i]], target)))
    return [priors[i] for i in sorted(kept)]


def fit(seen: Seen, target: Array, priors: Sequence[Prior] = (), forests: int = 2, *, noisy: bool = False) -> Residual:
    """The residual fitted to target [rows], the logarithm of measured over core.

    noisy: as for `forest.learn`; every forest then minimises absolute error, not only each second.
    """
    constant, weights = _ridge(seen.lent, target)
    if len(target) < LEARNED_LEAST:
        return Residual(constant=constant)
    rest = target - constant - seen.lent @ weights
    lenders = tuple(msgspec.structs.replace(p.transfer, weight=float(w)) for p, w in zip(priors, weights, strict=True))
    sparse = len(target) <= SPARSE_MOST
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
            median=noisy or seed % 2 == 1,
            noisy=noisy,
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


def held_out(sites: Any, target: Array, predict: Callable[[Any, Sequence[float]], Array]) -> tuple[Array, float]:
    """The target of each point by a fit that never saw its site, and the share of the process that suits them best.

    sites: numbers [rows]. target: a logarithm [rows]. predict: from a mask of points to leave out of a fit, and shares,
    to what that fit says of them [shares, rows left out].
    """
    shares = SHARES if len(target) <= SPARSE_MOST else (0.0,)
    held: Array = np.empty((len(shares), len(target)))
    fold = folds(sites)
    for one in np.unique(fold):
        held[:, fold == one] = predict(fold == one, shares)
    best = int(np.abs(np.expm1(held - target)).mean(axis=1).argmin())
    return held[best], shares[best]


def with_share(learned: Residual, share: float) -> Residual:
    """The same with this share of its process, which is dropped where that is none."""
    process = learned.process if share > 0 else None
    return msgspec.structs.replace(learned, process=process, process_share=share if process else 0.0)


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
    if not lent.shape[1] or len(target) < LEARNED_LEAST:
        return mean, np.zeros(lent.shape[1])
    centre = lent.mean(axis=0)
    x = lent - centre
    weights = _TRUST * np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ (target - mean))
    return mean - float(centre @ weights), weights


def _misfit(lent: Array, target: Array) -> float:
    """Mean absolute error of the ridge regression."""
    constant, weights = _ridge(lent, target)
    return float(np.abs(target - constant - lent @ weights).mean())
