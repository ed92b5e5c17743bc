"""Named constants of the cost model fitted to some models' published steps, and judged on the others'."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import msgspec
import numpy as np
from published.rows import Row
from scipy.optimize import least_squares

from flopwatt.analysis.cost.assumptions import defaults
from flopwatt.analysis.cost.pricing import price_all
from flopwatt.analysis.cost.spans import exactly

MISFIT: Final = 0.05
"""Relative error beyond which a row counts linearly: most published rows are right, a few are not."""

PRIOR: Final = 0.05
"""Weight of staying where the fit starts, which settles what the rows cannot tell apart."""

MOST: Final = {"gemm_speed_sm_80": 1.0, "gemm_speed_sm_90": 1.0, "memory_fraction": 0.95, "score_fraction": 0.95,
               "node_fraction": 0.95, "gather_overlap": 1.0}  # fmt: skip
"""What is a share of something cannot exceed it."""

Constants = Mapping[str, float]


def ratios(rows: Sequence[Row], stated: Constants) -> np.ndarray:
    """Predicted over measured seconds of each row."""
    assumptions = defaults().with_({name: exactly(value) for name, value in stated.items()})
    prices = price_all([msgspec.structs.replace(row.request, assumptions=assumptions) for row in rows])
    return np.array([one.step_total_s.value / row.measured_s for one, row in zip(prices, rows, strict=True)])


def fit(
    rows: Sequence[Row], start: Constants, fixed: Constants, expand: Callable[[Constants], Constants] = dict
) -> dict[str, float]:
    """The constants of `start` that suit the rows best. expand: constants to assumptions."""
    names = list(start)
    origin = np.log(list(start.values()))

    def constants(logs: np.ndarray) -> dict[str, float]:
        return {
            name: min(float(value), MOST.get(name, np.inf)) for name, value in zip(names, np.exp(logs), strict=True)
        }

    def misfit(logs: np.ndarray) -> np.ndarray:
        off = (ratios(rows, {**fixed, **expand(constants(logs))}) - 1) / MISFIT
        robust = np.sign(off) * np.sqrt(2 * (np.sqrt(1 + off * off) - 1))
        return np.concatenate([robust * MISFIT, PRIOR * (logs - origin)])

    return constants(least_squares(misfit, origin, max_nfev=15).x)
