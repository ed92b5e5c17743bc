"""The calibration file as frozen, typed records: one JSON, every number checked when it is read."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.forest import Forest
from flopwatt.analysis.calibrate.smooth import Process
from flopwatt.runs.frozen import Frozen

FORMAT: Final = "flopwatt-calibration"
SCHEMA_VERSION: Final = 1
"""History: 1 (2026-11) the first."""

Kind: TypeAlias = Literal["kernel", "layer", "end_to_end"]
Share: TypeAlias = Annotated[float, msgspec.Meta(ge=0)]


class Interval95(Frozen, frozen=True, kw_only=True):
    """Half a 95 % interval, in logarithms: quantile × exp(spread) × (1 + growth × octaves).

    spread: trees over the features that say where errors are large; floor, ceiling bound exp(spread). octaves: how far
    outside the measured domain. quantile: conformal, of held-out errors over exp(spread).
    """

    quantile: Annotated[float, msgspec.Meta(ge=0, le=1000)]
    spread: Forest
    floor: Annotated[float, msgspec.Meta(gt=0, le=100)]
    ceiling: Annotated[float, msgspec.Meta(gt=0, le=100)]
    growth: Annotated[float, msgspec.Meta(ge=0, le=100)]


class Transfer(Frozen, frozen=True, kw_only=True):
    """What another GPU's calibration lends: its core and trees, and the weight of its residual here."""

    gpu: str
    chip: Chip
    core: tuple[float, ...]
    trees: Forest
    weight: float


class Residual(Frozen, frozen=True, kw_only=True):
    """What is added to the logarithm of the core: constant, transfers, trees, a Gaussian process, each its share."""

    constant: float = 0.0
    transfers: tuple[Transfer, ...] = ()
    trees: Forest = Forest()
    process: Process | None = None
    process_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0


class Quantity(Frozen, frozen=True, kw_only=True):
    """A residual and its interval, and the mean absolute percentage error on shapes held out."""

    residual: Residual
    interval: Interval95


class Domain(Frozen, frozen=True, kw_only=True):
    """What was measured, as lowest and highest log₂ of m, n, k, batch and FLOP; layouts by name."""

    low: tuple[float, float, float, float, float]
    high: tuple[float, float, float, float, float]
    layouts: tuple[str, ...]


class Site(Frozen, frozen=True, kw_only=True):
    """Held-out error of one group of shapes, in percent, and how many. n, k or size_gflop say which group."""

    count: int
    mape: Share
    p90: Share
    n: int | None = None
    k: int | None = None
    size_gflop: float | None = None


class Errors(Frozen, frozen=True, kw_only=True):
    """Held-out errors of one quantity in percent; beside them a plain roofline's, and the share inside intervals."""

    count: int
    mape: Share
    p90: Share
    mape_large: Share | None = None
    roofline_mape: Share | None = None
    coverage: Annotated[float, msgspec.Meta(ge=0, le=1)]
    by_size: tuple[Site, ...] = ()
    by_site: tuple[Site, ...] = ()


class Fitted(Frozen, frozen=True, kw_only=True):
    """Everything of one number format.

    core: logarithms, in the order of `core.PARAMETERS`. floor_memory: operands came from DRAM, so that its roof is a
    floor of time. points, power_points: shapes fitted. left_out: reasons and counts. sustained_bytes_per_s: the best
    of all shapes, where memory ruled. errors_*: None where nothing was held out, `unvalidated` then.
    """

    dtype: str
    chip: Chip
    chip_source: str
    core: tuple[float, ...]
    time: Quantity
    power: Quantity | None = None
    energy_interval: Interval95 | None = None
    idle_w: Annotated[float, msgspec.Meta(ge=0, le=1e5)] | None = None
    limit_w: Annotated[float, msgspec.Meta(gt=0, le=1e5)] | None = None
    floor_memory: bool = False
    domain: Domain | None = None
    points: int = 0
    power_points: int = 0
    left_out: dict[str, int] = msgspec.field(default_factory=dict)
    sustained_bytes_per_s: float | None = None
    sustained_flop_per_s: float | None = None
    errors_time: Errors | None = None
    errors_power: Errors | None = None
    errors_energy: Errors | None = None
    shapes: tuple[tuple[int, int, int, int], ...] = ()
    measured_s: tuple[float, ...] = ()
    held_out_s: tuple[float, ...] = ()


class Source(Frozen, frozen=True, kw_only=True):
    """A run file that went in: its id, SHA-256, origin, and for imports where it is from and under which licence."""

    run_id: str
    sha256: str
    origin: str
    created: str
    source: str | None = None
    licence: str | None = None


class CalibrationFile(Frozen, frozen=True, kw_only=True):
    """A calibration as it lies on disk.

    identity: form factor, board_id (hash of the UUID), vbios, driver, versions, backend, as far as known. state: power
    limit, clock, temperature, throttling, cache, inputs, regime. commit: of flopwatt, where it was fitted from a
    checkout.
    """

    format: Literal["flopwatt-calibration"] = FORMAT
    schema: int = SCHEMA_VERSION
    kind: Kind = "kernel"
    gpu: str
    unvalidated: bool = False
    created: str
    flopwatt: str
    commit: str | None = None
    identity: dict[str, str] = msgspec.field(default_factory=dict)
    state: dict[str, str] = msgspec.field(default_factory=dict)
    sources: tuple[Source, ...] = ()
    fitted: tuple[Fitted, ...]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a calibration file."""
    schema = msgspec.json.schema(CalibrationFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "flopwatt calibration", **schema}
