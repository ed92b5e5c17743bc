"""Watts by what time sees of a GEMM and how busy its predicted time leaves the chip, and the energy that follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from flopwatt.analysis.calibrate import intervals, residual, validation
from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.core import Array, Shapes
from flopwatt.analysis.calibrate.points import Points
from flopwatt.analysis.calibrate.records import Errors, Interval95, Quantity
from flopwatt.analysis.calibrate.residual import Seen

POINTS_LEAST: Final = 8
POWER_COLUMNS: Final = 4
BUSY_COLUMN: Final = 3
"""Which of them says how busy tensor cores and DRAM are together."""

POWER_SMOOTH_COLUMNS: Final = 3
"""What `see_power` adds to the columns of time."""


@dataclass(frozen=True, slots=True)
class PowerModel:
    """Fitted watts. low_w, high_w: bounds of every prediction. count: shapes with watts.

    held_out_w: of every point, by a fit that had not seen its site; NaN for those without watts.
    """

    quantity: Quantity
    energy_interval: Interval95
    low_w: float
    high_w: float
    count: int
    held_out_w: Array
    errors_power: Errors
    errors_energy: Errors


def see_power(seen: Seen, shapes: Shapes, time_s: Array, chip: Chip) -> Seen:
    """What the residual of power sees: what that of time does, and how busy the predicted time leaves the chip."""
    compute = shapes.flop / time_s / chip.flop_per_s
    memory = shapes.bytes / time_s / chip.bytes_per_s
    columns = np.log(np.stack([time_s, compute, memory, compute + memory], axis=1))
    return Seen(
        np.concatenate([seen.trees, columns], axis=1),
        np.concatenate([seen.smooth, columns[:, :3]], axis=1),
        np.zeros((len(time_s), 0)),
    )


def fit_power(
    points: Points,
    chip: Chip,
    time_s: Array,
    seen: Seen,
    time_error: Array,
    idle_w: float | None,
    limit_w: float | None,
) -> PowerModel | None:
    """Power fitted to the points that have watts; None where too few do.

    time_s: as predicted for shapes held out, which is what power will be predicted from. time_error: its logarithmic
    error. Predictions stay between idle (without one, the least that was measured) and the limit or the most measured.
    """
    known = np.isfinite(points.power_w)
    if known.sum() < POINTS_LEAST:
        return None
    part, watts = points.take(known), points.power_w[known]
    x = see_power(seen.take(known), part.shapes, time_s[known], chip)
    low = idle_w if idle_w is not None else float(watts.min())
    high = max(limit_w or 0.0, float(watts.max()))
    target = np.log(watts / high)
    held, share = _held_out(x, target, part.sites)
    predicted = np.clip(high * np.exp(held), low, high)
    error = np.log(watts / predicted)
    joint = error + time_error[known]
    width, energy_width = intervals.fit(x.trees, error), intervals.fit(x.trees, joint)
    joules = watts * part.time_s
    everywhere = np.full(len(points), np.nan)
    everywhere[known] = predicted
    return PowerModel(
        Quantity(residual=residual.with_share(residual.fit(x, target, noisy=True), share), interval=width),
        energy_width,
        low,
        high,
        len(part),
        everywhere,
        validation.errors(
            part.shapes, watts, predicted, validation.covered(x.trees, error, part.sites), None, part.sites
        ),
        validation.errors(
            part.shapes, joules, predicted * time_s[known],
            validation.covered(x.trees, joint, part.sites), None, part.sites,
        ),
    )  # fmt: skip


def _held_out(x: Seen, target: Array, sites: Any) -> tuple[Array, float]:
    """As `residual.held_out`."""

    def predict(test: Any, shares: Sequence[float]) -> Array:
        model = residual.fit(x.take(~test), target[~test], forests=1, noisy=True)
        return residual.evaluate_shares(model, x.take(test), shares)

    return residual.held_out(sites, target, predict)
