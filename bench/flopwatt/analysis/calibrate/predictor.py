"""A loaded calibration: time, power and energy of any GEMM, with intervals that say how far to trust them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from flopwatt.analysis.calibrate import intervals, monotone, residual
from flopwatt.analysis.calibrate.core import Array, Shapes, core_view
from flopwatt.analysis.calibrate.points import LAYOUT_CODES, make_shapes
from flopwatt.analysis.calibrate.power import see_power
from flopwatt.analysis.calibrate.records import CalibrationFile, Fitted, Kind
from flopwatt.errors import InputError
from gemmkernels.problem import DTYPES, MAX_DIMENSION

Sizes: TypeAlias = npt.ArrayLike

CHUNK: Final = 50_000
THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class Prediction:
    """Time (s), power (W) and energy (J) of each GEMM, in the order asked, with 95 % intervals; all [rows].

    Power and energy are None where the calibration has no watts. extrapolated: outside of what was measured.
    """

    time_s: Array
    time_s_low: Array
    time_s_high: Array
    extrapolated: npt.NDArray[np.bool_]
    power_w: Array | None = None
    power_w_low: Array | None = None
    power_w_high: Array | None = None
    energy_j: Array | None = None
    energy_j_low: Array | None = None
    energy_j_high: Array | None = None

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass(frozen=True, slots=True)
class Calibration:
    """A fitted, validated predictor of GEMMs on one GPU; `file` holds all that is known of it."""

    file: CalibrationFile

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Number formats that it predicts."""
        return tuple(fitted.dtype for fitted in self.file.fitted)

    def fitted(self, dtype: str) -> Fitted:
        """What was fitted for `dtype`. Raises InputError where nothing was."""
        for one in self.file.fitted:
            if one.dtype == dtype:
                return one
        what = f"unknown dtype {dtype!r}" if dtype not in DTYPES else f"this calibration has no {dtype}"
        raise InputError(f"{what}: choose one of {', '.join(self.dtypes)}")

    def kind(self, dtype: str) -> Kind:
        """Of what the times of `dtype` are. Raises InputError where nothing was fitted for it."""
        return self.fitted(dtype).kind or self.file.kind

    def predict(
        self, m: Sizes, n: Sizes, k: Sizes, *, batch: Sizes = 1, dtype: str = "bf16", layout: str | None = None
    ) -> Prediction:
        """Time, power and energy of C[m, n] = A[m, k] @ B[k, n], `batch` times, on this GPU.

        m, n, k, batch: whole numbers or arrays that broadcast together, flattened. dtype: of A and B. layout: nn, nt
        or tn; None for the one that was measured. Time is never below the tensor cores' peak at the highest clock.
        Raises InputError for sizes outside 1 to 2²⁴ or a dtype or layout that there is not.
        """
        fitted = self.fitted(dtype)
        shapes = _checked(m, n, k, batch, dtype)
        codes = np.full(len(shapes), LAYOUT_CODES[self.layout(fitted, layout)])
        starts = range(0, max(len(shapes), 1), CHUNK)
        parts = [(shapes.take(slice(at, at + CHUNK)), codes[at : at + CHUNK]) for at in starts]
        if len(parts) == 1:
            return predict(fitted, *parts[0])
        with ThreadPoolExecutor(THREADS) as threads:
            done = list(threads.map(lambda part: predict(fitted, *part), parts))
        return _together(done)

    def layout(self, fitted: Fitted, layout: str | None) -> str:
        """The layout to predict. Raises InputError for one that there is not."""
        if layout is None:
            return fitted.domain.layouts[0] if fitted.domain else "nt"
        if layout not in LAYOUT_CODES:
            raise InputError(f"unknown layout {layout!r}: choose one of {', '.join(sorted(LAYOUT_CODES))}")
        return layout


def predict(fitted: Fitted, shapes: Shapes, layout: Array) -> Prediction:
    """What one number format's fit says of these shapes. layout: codes [rows]."""
    chip = fitted.chip
    view = core_view(np.asarray(fitted.core), shapes, chip)
    seen = residual.see(shapes, layout, view, chip, fitted.time.residual.transfers)
    known = [LAYOUT_CODES[name] for name in fitted.domain.layouts] if fitted.domain else []
    octaves = intervals.octaves_outside(fitted.domain, shapes, np.isin(layout, known))
    roof = shapes.flop / chip.flop_per_s
    if fitted.floor_memory:
        roof = np.maximum(roof, shapes.bytes / chip.bytes_per_s)
    floor = roof
    raw = view.seconds * np.exp(residual.evaluate(fitted.time.residual, seen))
    if fitted.domain is not None and fitted.sustained_flop_per_s is not None:
        beyond = shapes.flop > 2.0 ** fitted.domain.high[-1] * (1 + 1e-9)
        floor = np.where(beyond, np.maximum(floor, shapes.flop / fitted.sustained_flop_per_s), floor)
    half = intervals.half_width(fitted.time.interval, seen.trees, octaves)
    time = np.maximum(raw, floor)
    if fitted.growth is not None:
        time = monotone.raised(fitted.growth, shapes, layout, time, half)
    low, high = np.maximum(time * np.exp(-half), roof), time * np.exp(half)
    outside = octaves > 0
    if fitted.power is None or fitted.energy_interval is None or fitted.limit_w is None:
        return Prediction(time, low, high, outside)
    x = see_power(seen, shapes, raw, chip)
    bottom, top = fitted.idle_w or 0.0, fitted.limit_w
    power = np.clip(top * np.exp(residual.evaluate(fitted.power.residual, x)), bottom, top)
    spread = np.exp(intervals.half_width(fitted.power.interval, x.trees, octaves))
    energy, wide = power * time, np.exp(intervals.half_width(fitted.energy_interval, x.trees, octaves))
    return Prediction(
        time, low, high, outside,
        power, np.maximum(power / spread, bottom), np.minimum(power * spread, np.maximum(top, power)),
        energy, np.maximum(energy / wide, bottom * low), np.minimum(energy * wide, top * high),
    )  # fmt: skip


def _checked(m: Sizes, n: Sizes, k: Sizes, batch: Sizes, dtype: str) -> Shapes:
    try:
        shapes = make_shapes(m, n, k, batch, dtype)
    except (TypeError, ValueError):
        raise InputError("m, n, k and batch: give whole numbers, or arrays that broadcast together") from None
    for name in ("m", "n", "k", "batch"):
        sizes = getattr(shapes, name)
        if not (np.isfinite(sizes) & (sizes >= 1) & (sizes <= MAX_DIMENSION) & (sizes == np.floor(sizes))).all():
            raise InputError(f"{name}: give whole numbers from 1 to {MAX_DIMENSION}")
    return shapes


def _together(parts: list[Prediction]) -> Prediction:
    joined: dict[str, Any] = {}
    for field in fields(Prediction):
        values = [getattr(part, field.name) for part in parts]
        joined[field.name] = None if values[0] is None else np.concatenate(values)
    return Prediction(**joined)
