"""Fitting one number format: core, residual and intervals of time, power and energy, judged on sites held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from flopwatt.analysis.calibrate import intervals, monotone, residual, validation
from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.core import START, Array, Shapes, core_time, core_view, fit_core
from flopwatt.analysis.calibrate.features import roofline
from flopwatt.analysis.calibrate.points import LAYOUT_CODES, LAYOUTS, Points
from flopwatt.analysis.calibrate.power import fit_power
from flopwatt.analysis.calibrate.records import Fitted, Interval95, Quantity, Residual
from flopwatt.analysis.calibrate.residual import Prior, Seen

CORE_POINTS_MOST: Final = 1500
_LARGE: Final = 4.0
_BUSY_LEAST: Final = 0.5


@dataclass(frozen=True, slots=True)
class TimeModel:
    """Core and residual of time, and what they predict."""

    core: Array
    residual: Residual

    def seconds(self, shapes: Shapes, layout: Array, chip: Chip) -> tuple[Array, Seen]:
        """Predicted seconds, and what the residual saw."""
        view = core_view(self.core, shapes, chip)
        seen = residual.see(shapes, layout, view, chip, self.residual.transfers)
        return view.seconds * np.exp(residual.evaluate(self.residual, seen)), seen


def fit_time(
    points: Points, chip: Chip, priors: Sequence[Prior] = (), forests: int = 2, share: float = 0.5
) -> TimeModel:
    """Core, then residual, of these points alone. share: of the Gaussian process, where there is one."""
    step = max(1, len(points) // CORE_POINTS_MOST)
    core = fit_core(points.shapes.take(slice(None, None, step)), points.time_s[::step], chip)
    view = core_view(core, points.shapes, chip)
    seen = residual.see(points.shapes, points.layout, view, chip, [prior.transfer for prior in priors], priors)
    learned = residual.fit(seen, np.log(points.time_s / view.seconds), priors, forests)
    return TimeModel(core, residual.with_share(learned, share))


def fit(
    points: Points,
    chip: Chip,
    dtype: str,
    *,
    chip_source: str,
    priors: Sequence[Prior] = (),
    idle_w: float | None = None,
    limit_w: float | None = None,
    cold: bool = False,
) -> Fitted:
    """Everything of one number format. cold: operands came from DRAM each time, so that its roof is a floor of time.

    priors: what other GPUs' calibrations lend; used where points are few. Of no points at all the physical core is
    left as it starts, with an interval to match, and nothing validated.
    """
    if not len(points):
        return unmeasured(chip, dtype, chip_source, limit_w)
    priors = _chosen(points, chip, priors)
    held_s, share = _held_out(points, chip, priors)
    model = fit_time(points, chip, priors, share=share)
    seen = model.seconds(points.shapes, points.layout, chip)[1]
    error = np.log(points.time_s / held_s)
    width = intervals.fit(seen.trees, error)
    power = fit_power(points, chip, held_s, seen, error, idle_w, limit_w)
    memory_bound = points.shapes.bytes / chip.bytes_per_s > points.shapes.flop / chip.flop_per_s
    return Fitted(
        dtype=dtype,
        chip=chip,
        chip_source=chip_source,
        core=tuple(model.core.tolist()),
        time=Quantity(residual=model.residual, interval=width),
        power=power.quantity if power else None,
        energy_interval=power.energy_interval if power else None,
        idle_w=power.low_w if power else idle_w,
        limit_w=power.high_w if power else limit_w,
        floor_memory=cold,
        domain=intervals.domain_of(points.shapes, _layouts(points)),
        points=len(points),
        power_points=power.count if power else 0,
        left_out=points.left_out,
        sustained_flop_per_s=sustained_rate(points, chip),
        sustained_bytes_per_s=_best(points.shapes.bytes / points.time_s, memory_bound),
        errors_time=validation.errors(
            points.shapes, points.time_s, held_s, validation.covered(seen.trees, error, points.sites),
            roofline(points.shapes, chip), points.sites,
        ),
        errors_power=power.errors_power if power else None,
        errors_energy=power.errors_energy if power else None,
        shapes=tuple(zip(*(size.astype(int).tolist() for size in _sizes(points.shapes)), strict=True)),
        measured_s=_short(points.time_s),
        held_out_s=_short(held_s),
        layouts=tuple(LAYOUTS[int(code)] for code in points.layout),
        measured_w=_known(points.power_w) if power else (),
        held_out_w=_known(power.held_out_w) if power else (),
        growth=monotone.learn(points, lambda shapes, layout: _shortest(model, width, chip, shapes, layout)),
    )  # fmt: skip


def _shortest(model: TimeModel, width: Interval95, chip: Chip, shapes: Shapes, layout: Array) -> Array:
    """The lower ends of the intervals of time: what larger GEMMs must not fall below has to be sure itself."""
    seconds, seen = model.seconds(shapes, layout, chip)
    return np.asarray(seconds * np.exp(-intervals.half_width(width, seen.trees, np.zeros(len(shapes)))))


def sustained_rate(points: Points, chip: Chip) -> float | None:
    """FLOP/s that large shapes hold: the 97th percentile of those within a factor of four of the largest.

    Beyond what was measured nothing is taken to run faster: by then power, not parallelism, limits the clock. None
    where it is less than half of the chip's peak: launches or DRAM limit such shapes, and larger ones may run faster.
    """
    flop = points.shapes.flop
    large = flop >= flop.max() / _LARGE
    rate = float(np.quantile(flop[large] / points.time_s[large], 0.97))
    return rate if rate >= _BUSY_LEAST * chip.flop_per_s else None


def unmeasured(chip: Chip, dtype: str, chip_source: str, limit_w: float | None) -> Fitted:
    """What a spec sheet alone gives."""
    nothing = Quantity(residual=Residual(), interval=intervals.unknown())
    return Fitted(
        dtype=dtype, chip=chip, chip_source=chip_source, core=tuple(START.tolist()), time=nothing, limit_w=limit_w
    )


def _chosen(points: Points, chip: Chip, priors: Sequence[Prior]) -> Sequence[Prior]:
    """The priors worth keeping; none where there are points enough without."""
    if len(points) > residual.SPARSE_MOST or not priors:
        return ()
    view = core_view(fit_core(points.shapes, points.time_s, chip), points.shapes, chip)
    return residual.chosen(points.shapes, points.layout, points.time_s, view, chip, priors)


def _held_out(points: Points, chip: Chip, priors: Sequence[Prior]) -> tuple[Array, float]:
    """Seconds of each point by a fit that never saw its site, and the share of the process that suits them best."""
    if len(points) < 2:
        return core_time(START, points.shapes, chip), 0.5

    def predict(test: Any, shares: Sequence[float]) -> Array:
        model = fit_time(points.take(~test), chip, priors, forests=1)
        part = points.take(test)
        view = core_view(model.core, part.shapes, chip)
        seen = residual.see(part.shapes, part.layout, view, chip, model.residual.transfers, priors)
        return np.asarray(np.log(view.seconds) + residual.evaluate_shares(model.residual, seen, shares))

    held, share = residual.held_out(points.sites, np.log(points.time_s), predict)
    return np.exp(held), share


def _layouts(points: Points) -> tuple[str, ...]:
    return tuple(name for name, code in LAYOUT_CODES.items() if (points.layout == code).any())


def _sizes(shapes: Shapes) -> tuple[Array, Array, Array, Array]:
    return shapes.batch, shapes.m, shapes.n, shapes.k


def _best(rate: Array, rows: npt.NDArray[np.bool_]) -> float | None:
    return float(rate[rows].max()) if rows.any() else None


def _short(seconds: Array) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in seconds)


def _known(watts: Array) -> tuple[float | None, ...]:
    return tuple(float(f"{value:.5g}") if np.isfinite(value) else None for value in watts)
