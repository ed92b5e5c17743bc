"""How a power sensor answers a load: delay, lag and averaging window fitted to readings under a known on-off load.

Model: board power follows the load through a short lag; the sensor's electronics follow that through a second one; each
update is the mean of the result over a window, seen a delay later:

    reading(t) = offset + slope·t + (swing + slope'·t) · mean over [t − delay − window, t − delay] of lag(load)

Everything in front of the mean is linear and eliminated exactly; delay, lag and window remain for a least-squares fit.
Pure arithmetic. The window after Yang, Adamek and Armour, SC'24 (arXiv 2312.02741), who fit it without the lags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

RISE_PER_TAU: Final = 2.1972245773362196
"""A first-order lag climbs from 10 to 90 % in ln 9 time constants."""

PRIOR_MISFIT: Final = 0.01
"""What readings usually deviate by, relative to the swing: how much the guess above weighs against them."""

POWER_TAU_S: Final = 2e-3
POWER_TAU_SPREAD: Final = 1.0
"""Time constant with which a board's own power follows a load (capacitors, regulators): a few milliseconds, give or
take a factor of e. A guess that readings correct: behind a slower lag they say little of it."""

WINDOWS_S: Final = (0.005, 0.012, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0)
LAGS_S: Final = (0.004, 0.04)
"""Where fits start from: one finds only the nearest minimum."""

LAGS_APART: Final = 1e-3
"""Equal lags need another formula, and lags that differ by 0.1 % cannot be told from equal ones."""

DELAY_MOST_S: Final = 0.5
DELAY_STEP_S: Final = 0.02
READINGS_LEAST: Final = 40
"""Fewer do not bear seven parameters and an error of theirs."""

OUTLIER: Final = 12.0
"""Readings further off than so many median deviations (8 standard ones) are something else's doing."""

STARTS: Final = 4
STEPS_MOST: Final = 40
LEVELS_KEPT: Final = 32
SMALLEST_S: Final = 1e-4
LARGEST_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Response:
    """A fitted answer. Seconds and watts; window_error: relative standard error of the window.

    misfit: root mean square of what the model leaves, relative to the swing. taus_s: time constants of the two lags.
    """

    delay_s: float
    taus_s: tuple[float, float]
    window_s: float
    window_error: float
    swing_w: float
    misfit: float

    @property
    def rise_s(self) -> float:
        """Seconds from 10 to 90 % of the slower lag alone."""
        return RISE_PER_TAU * max(self.taus_s)

    def passes(self, frequency_hz: float) -> float:
        """What the lags leave of a sine of that frequency, 0 to 1."""
        turn = 2 * np.pi * frequency_hz
        return float(1 / np.prod([np.hypot(1.0, turn * tau) for tau in self.taus_s]))


class Load:
    """When a load was on: pairs of instants, in order and apart, in seconds."""

    def __init__(self, starts_s: FloatArray, ends_s: FloatArray) -> None:
        self._edges_s = np.stack([starts_s, ends_s], axis=1).ravel()
        self._on = np.tile([1.0, 0.0], len(starts_s))
        self._gaps_s = np.diff(self._edges_s)
        self._on_s = np.concatenate([[0.0], np.cumsum(self._gaps_s * self._on[:-1])])
        self._levels: dict[float, FloatArray] = {}

    def integral(self, t_s: FloatArray, tau_s: float) -> FloatArray:
        """Seconds of load up to each instant, as seen through a lag of that time constant; off before the first edge.

        The lagged load is x' = (load − x)/τ, so its integral is that of the load, less τ·x.
        """
        level = self._level(tau_s)
        index = np.searchsorted(self._edges_s, t_s, side="right") - 1
        before = index < 0
        index = np.maximum(index, 0)
        since = np.maximum(t_s - self._edges_s[index], 0.0)
        on = self._on[index]
        lagged = on + (level[index] - on) * np.exp(-since / tau_s)
        total: FloatArray = np.where(before, 0.0, self._on_s[index] + on * since - tau_s * lagged)
        return total

    def _level(self, tau_s: float) -> FloatArray:
        """The lagged load at each edge. Kept: a fit asks for the same few lags again and again."""
        if tau_s not in self._levels:
            if len(self._levels) >= LEVELS_KEPT:
                self._levels.clear()
            level = [0.0]
            for on, kept in zip(self._on.tolist(), np.exp(-self._gaps_s / tau_s).tolist(), strict=False):
                level.append(on + (level[-1] - on) * kept)
            self._levels[tau_s] = np.array(level)
        return self._levels[tau_s]

    def seen(self, t_s: FloatArray, delay_s: float, lags_s: tuple[float, float], window_s: float) -> FloatArray:
        """What a sensor would show at each instant of a load that swings from 0 to 1."""
        one_s, other_s = lags_s
        if abs(one_s / other_s - 1) < LAGS_APART:
            one_s = other_s * (1 + LAGS_APART)
        ends = np.concatenate([t_s - delay_s, t_s - delay_s - window_s])
        both = (one_s * self.integral(ends, one_s) - other_s * self.integral(ends, other_s)) / (one_s - other_s)
        n = len(t_s)
        mean: FloatArray = (both[:n] - both[n:]) / window_s
        return mean


def fit(load: Load, t_s: FloatArray, watts: FloatArray) -> Response | None:
    """The response that explains readings `watts` seen at `t_s` best; None where there are too few of them."""
    if len(t_s) < READINGS_LEAST:
        return None
    problem = _Fit(load, t_s, watts)
    best = min((problem.refine(start) for start in problem.starts()), key=lambda one: one[1])[0]
    left = np.abs(problem.residual(best)[:-1])
    keep = left <= max(OUTLIER * float(np.median(left)), 1e-6)
    if not keep.all():
        problem = _Fit(load, t_s[keep], watts[keep])
        best = problem.refine(best)[0]
    return problem.response(best)


class _Fit:
    """Least squares over (delay, ln tau, ln window, ln tau of the board), the linear part solved for each."""

    def __init__(self, load: Load, t_s: FloatArray, watts: FloatArray) -> None:
        self._load, self._t, self._watts = load, t_s, watts
        self._drift = (t_s - t_s.mean()) / max(float(np.ptp(t_s)), 1e-9)

    def starts(self) -> list[FloatArray]:
        grid = [
            np.array([delay, np.log(tau), np.log(window), np.log(POWER_TAU_S)])
            for window in WINDOWS_S
            for tau in LAGS_S
            for delay in np.arange(0.0, DELAY_MOST_S, DELAY_STEP_S)
        ]
        costs = np.array([float((self.residual(one) ** 2).sum()) for one in grid])
        best: list[FloatArray] = []
        for i in np.argsort(costs):
            if all(abs(grid[i][2] - one[2]) > 0.1 or abs(grid[i][1] - one[1]) > 0.1 for one in best):
                best.append(grid[i])
            if len(best) == STARTS:
                break
        return best

    def residual(self, x: FloatArray) -> FloatArray:
        fitted, parts = self._linear(x)
        guess = (x[3] - np.log(POWER_TAU_S)) / POWER_TAU_SPREAD * PRIOR_MISFIT * abs(parts[1])
        left: FloatArray = np.append(self._watts - fitted, guess)
        return left

    def refine(self, x: FloatArray) -> tuple[FloatArray, float]:
        """Levenberg and Marquardt's descent; where it ends, and the sum of squares there."""
        damping, cost = 1e-2, float((self.residual(x) ** 2).sum())
        for _ in range(STEPS_MOST):
            slope, left = self._jacobian(x), self.residual(x)
            normal, pull = slope.T @ slope, slope.T @ left
            step = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-12), -pull)
            there = self._bounded(x + step)
            new = float((self.residual(there) ** 2).sum())
            if new < cost:
                done = cost - new < 1e-9 * cost
                x, cost, damping = there, new, damping * 0.3
                if done:
                    break
            else:
                damping *= 4
                if damping > 1e8:
                    break
        return x, cost

    def response(self, x: FloatArray) -> Response:
        left = self.residual(x)
        slope = self._jacobian(x)
        variance = float((left**2).sum()) / max(len(left) - 7, 1)
        try:
            covariance = np.linalg.inv(slope.T @ slope) * variance
            window_error = float(np.sqrt(covariance[2, 2]))
        except np.linalg.LinAlgError:
            window_error = float("inf")
        swing = float(self._linear(x)[1][1])
        misfit = float(np.sqrt((left[:-1] ** 2).mean()) / max(abs(swing), 1e-9))
        tau, window, power_tau = np.exp(x[1:]).tolist()
        return Response(float(x[0]), (tau, power_tau), window, window_error, swing, misfit)

    def _linear(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        tau, window, power_tau = np.exp(x[1:]).tolist()
        seen = self._load.seen(self._t, x[0], (tau, power_tau), window)
        basis = np.stack([np.ones_like(seen), seen, self._drift, self._drift * seen], axis=1)
        parts = np.linalg.lstsq(basis, self._watts, rcond=None)[0]
        return basis @ parts, parts

    def _jacobian(self, x: FloatArray) -> FloatArray:
        columns = []
        for i, width in enumerate((2e-4, 1e-3, 1e-3, 1e-3)):
            up, down = x.copy(), x.copy()
            up[i] += width
            down[i] -= width
            columns.append((self.residual(up) - self.residual(down)) / (2 * width))
        return np.stack(columns, axis=1)

    def _bounded(self, x: FloatArray) -> FloatArray:
        low, high = np.log(SMALLEST_S), np.log(LARGEST_S)
        return np.array([np.clip(x[0], -0.05, 2.0), *np.clip(x[1:], low, high)])
