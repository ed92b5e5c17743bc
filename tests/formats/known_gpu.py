"""A calibration of an H100 whose predictions are a known law: waves of 128×128 tiles beside memory, and its watts."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from flopwatt.analysis.calibrate import calibrating
from flopwatt.analysis.calibrate.points import make_shapes
from flopwatt.analysis.calibrate.predictor import Calibration, Prediction
from flopwatt.analysis.calibrate.records import Domain

PEAK = 700e12
BYTES_PER_S = 3.0e12
SMS = 132
HALF_WIDTH = 0.05


@dataclass(frozen=True)
class Known(Calibration):
    """slower: what every time is multiplied by."""

    slower: float = 1.0

    def predict(self, m, n, k, *, batch=1, dtype="bf16", layout=None):
        shapes = make_shapes(m, n, k, batch, dtype)
        fitted = self.fitted(dtype)
        time_s = law_s(shapes) * self.slower
        watts = 200 + 400 * law_busy(shapes)
        low, high = 1 - HALF_WIDTH, 1 + HALF_WIDTH
        lowest, highest = 2.0 ** fitted.domain.low[4], 2.0 ** fitted.domain.high[4]
        outside = (shapes.flop < lowest) | (shapes.flop > highest)
        energy = watts * time_s
        return Prediction(
            time_s, time_s * low, time_s * high, outside,
            watts, watts * low, watts * high, energy, energy * low, energy * high,
        )  # fmt: skip


def law_s(shapes):
    waves = np.ceil(np.ceil(shapes.m / 128) * np.ceil(shapes.n / 128) * shapes.batch / SMS)
    compute = waves * 128 * 128 * 2 * shapes.k / (PEAK / SMS)
    memory = shapes.bytes / BYTES_PER_S
    return 3e-6 + (compute**3 + memory**3) ** (1 / 3)


def law_busy(shapes):
    return shapes.flop / law_s(shapes) / PEAK


def known(gpu="H100-SXM5-80GB", dtypes=("bf16",), slower=1.0, power_points=500, kind="kernel", layers=(), **changes):
    """changes: fields of the file over a spec sheet's. power_points: 0 for one whose watts are only a law's.

    layers: formats whose times are a whole layer's.
    """
    sheet = calibrating.from_spec_sheet(gpu, "0.1.0")
    domain = Domain(low=(0.0, 6.0, 6.0, 0.0, 13.0), high=(15.0, 16.0, 16.0, 0.0, 45.0), layouts=("nt",))
    fitted = tuple(
        msgspec.structs.replace(
            one, domain=domain, power_points=power_points, limit_w=700.0, idle_w=80.0, floor_memory=True,
            sustained_bytes_per_s=BYTES_PER_S, kind="layer" if one.dtype in layers else None,
        )
        for one in sheet.fitted
        if one.dtype in dtypes
    )  # fmt: skip
    return Known(msgspec.structs.replace(sheet, kind=kind, unvalidated=False, fitted=fitted, **changes), slower)
