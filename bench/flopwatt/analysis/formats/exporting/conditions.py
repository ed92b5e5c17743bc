"""The sidecar of an export: on which GPU, in which state, for which shapes and how surely its numbers hold."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec
import numpy as np

from flopwatt.analysis.calibrate.core import Array
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.calibrate.records import Errors, Fitted, Identity, Kind, Source, State
from flopwatt.analysis.formats.exporting.gemms import Predicted, half_widths
from flopwatt.runs.frozen import Frozen
from flopwatt.runs.records import Origin

FORMAT: Final = "flopwatt-export-conditions"
SCHEMA_VERSION: Final = 1
"""History: 1 (2026-11) the first."""

AXES: Final = ("m", "n", "k", "batch", "flop")

Value: TypeAlias = float | int | str | bool | None


class Stated(Frozen, frozen=True, kw_only=True):
    """A figure that the consumer needs and no calibration measures, and where it is from."""

    value: Value
    source: str


def cited(source: str, confidence: str) -> str:
    """A source, saying so where nobody checked the figure against it."""
    return source if confidence == "checked" else f"{source}; unverified"


class HeldOut(Frozen, frozen=True, kw_only=True):
    """Errors in percent on shapes held out when the calibration was fitted; coverage: share inside the intervals."""

    count: int
    mape: float
    p90: float
    coverage: float


class Numbers(Frozen, frozen=True, kw_only=True):
    """What was exported in one number format.

    kind: of what its times are. gemms: predicted for it. extrapolated_share: of these, outside of what was measured.
    time_95, power_95: median half-width of their 95 % intervals, relative. watts_from: measured shapes that the watts
    rest on; 0 where they are a law's. peak_flop_per_s, bytes_per_s: the chip's, as the calibration took them, from
    chip_source. domain: lowest and highest size measured, by axis. power_limit_w: that watts stay below.
    """

    dtype: str
    kind: Kind
    gemms: int
    extrapolated_share: float
    time_95: float
    power_95: float | None
    watts_from: int
    peak_flop_per_s: float
    bytes_per_s: float
    chip_source: str
    layouts: tuple[str, ...]
    domain: dict[str, tuple[float, float]] | None
    power_limit_w: float | None
    idle_w: float | None
    time_held_out: HeldOut | None
    power_held_out: HeldOut | None


class Conditions(Frozen, frozen=True, kw_only=True):
    """Everything a reader of an exported file needs to know and its format has no place for.

    to, consumer: the format, and whose it is. formula: the consumer's, which was inverted. kind: of the numbers:
    `kernel` (a GEMM alone), `layer` or `end_to_end` (a whole model). calibration: SHA-256, age and author of the
    calibration file. gpu, origin, identity, state: as in that file: measured or not, board, driver, versions, power
    limit, clocks, inputs, regime, cache. stated: figures that were not measured. sources: the run files below it, each
    with its licence.
    """

    format: Literal["flopwatt-export-conditions"] = FORMAT
    schema: int = SCHEMA_VERSION
    flopwatt: str
    to: str
    consumer: str
    formula: str
    kind: Kind
    gpu: str
    unvalidated: bool
    origin: Origin | None
    identity: Identity
    state: State
    calibration: dict[str, Value]
    numbers: tuple[Numbers, ...]
    stated: dict[str, Stated] = msgspec.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()

    def to_json(self) -> bytes:
        """As it is written."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def numbers(calibration: Calibration, predicted: Predicted) -> Numbers:
    """What there is to say of one number format's predictions."""
    fitted, found = calibration.fitted(predicted.dtype), predicted.found
    return Numbers(
        dtype=fitted.dtype,
        kind=calibration.kind(fitted.dtype),
        gemms=len(found),
        extrapolated_share=float(np.mean(found.extrapolated)),
        time_95=_spread(found.time_s, found.time_s_low, found.time_s_high),
        power_95=None if found.power_w is None else _spread(found.power_w, found.power_w_low, found.power_w_high),
        watts_from=fitted.power_points,
        peak_flop_per_s=fitted.chip.flop_per_s,
        bytes_per_s=fitted.chip.bytes_per_s,
        chip_source=fitted.chip_source,
        layouts=fitted.domain.layouts if fitted.domain else (),
        domain=_domain(fitted),
        power_limit_w=fitted.limit_w,
        idle_w=fitted.idle_w,
        time_held_out=_held_out(fitted.errors_time),
        power_held_out=_held_out(fitted.errors_power),
    )


def _spread(value: Array, low: Array | None, high: Array | None) -> float:
    assert low is not None
    assert high is not None
    return float(f"{np.median(half_widths(value, low, high)):.4g}")


def _domain(fitted: Fitted) -> dict[str, tuple[float, float]] | None:
    if fitted.domain is None:
        return None
    ends = zip(AXES, fitted.domain.low, fitted.domain.high, strict=True)
    return {axis: (float(round(2.0**low)), float(round(2.0**high))) for axis, low, high in ends}


def _held_out(errors: Errors | None) -> HeldOut | None:
    if errors is None:
        return None
    return HeldOut(count=errors.count, mape=errors.mape, p90=errors.p90, coverage=errors.coverage)
