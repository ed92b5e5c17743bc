"""The calibration file as frozen, typed records: one JSON, every number checked when it is read."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.forest import Forest
from flopwatt.analysis.calibrate.smooth import Process
from flopwatt.runs.frozen import Frozen
from flopwatt.runs.records import Origin

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
    """A residual and its interval."""

    residual: Residual
    interval: Interval95


class Domain(Frozen, frozen=True, kw_only=True):
    """What was measured, as lowest and highest log₂ of m, n, k, batch and FLOP; layouts by name."""

    low: tuple[float, float, float, float, float]
    high: tuple[float, float, float, float, float]
    layouts: tuple[str, ...]


class Growth(Frozen, frozen=True, kw_only=True):
    """Seconds of shapes on a lattice, which a prediction of any shape that contains one of them may not fall below.

    m, n, k: the lattice's sizes, ascending. log_s: by layout, logarithms of the longest lower end of predicted time
    among the lattice's shapes up to each, m slowest and k fastest. reversal: by size class of validation, how far
    measured shapes themselves fall below smaller ones, in logarithms.
    """

    m: tuple[int, ...]
    n: tuple[int, ...]
    k: tuple[int, ...]
    log_s: dict[str, tuple[float, ...]]
    reversal: tuple[Share, ...]


class Site(Frozen, frozen=True, kw_only=True):
    """Held-out error of one group of shapes, in percent, and how many. n, k or size_gflop say which group.

    size_gflop: the least of the group. coverage: the share inside intervals that were fitted to other sites.
    """

    count: int
    mape: Share
    p90: Share
    coverage: Annotated[float, msgspec.Meta(ge=0, le=1)]
    n: int | None = None
    k: int | None = None
    size_gflop: float | None = None


class Errors(Frozen, frozen=True, kw_only=True):
    """Held-out errors of one quantity in percent; beside them a plain roofline's.

    mape_large: of at least 16 GFLOP. coverage: the share inside intervals that were fitted to other sites.
    """

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

    core: logarithms, in the order of `core.PARAMETERS`. kind: where it is not the file's, as of an imported table that
    times whole layers in one format. floor_memory: operands came from DRAM, so that its roof is a
    floor of time. points, power_points: shapes fitted; watts without any are a law's, not measured. left_out: reasons
    why rows or their watts were not used, and how many. sustained_bytes_per_s: the best of all shapes, where memory
    ruled. errors_*: None where nothing was held out, `unvalidated` then. shapes: (batch, m, n, k) of the points, beside
    them what was measured and what a fit that had not seen their site said.
    """

    dtype: str
    chip: Chip
    chip_source: str
    core: tuple[float, ...]
    kind: Kind | None = None
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
    layouts: tuple[str, ...] = ()
    measured_w: tuple[float | None, ...] = ()
    held_out_w: tuple[float | None, ...] = ()
    growth: Growth | None = None


class Source(Frozen, frozen=True, kw_only=True):
    """A run file that went in: its id, SHA-256, origin, and for imports where it is from and under which licence.

    prior: it is another GPU's, and taught the calibration that this one learned from.
    """

    file: str
    run_id: str
    sha256: str
    origin: Origin
    created: str
    gpu: str
    source: str | None = None
    licence: str | None = None
    prior: bool = False


class Identity(Frozen, frozen=True, kw_only=True):
    """What was measured, as far as the files tell; several values where they differ.

    boards: hashes of their UUIDs. frameworks: versions by name. kernels: backends, or the stack of an imported table.
    """

    form_factor: str | None = None
    boards: tuple[str, ...] = ()
    vbios: tuple[str, ...] = ()
    driver: tuple[str, ...] = ()
    cuda: tuple[str, ...] = ()
    frameworks: dict[str, tuple[str, ...]] = msgspec.field(default_factory=dict)
    kernels: tuple[str, ...] = ()


class Spread(Frozen, frozen=True, kw_only=True):
    """The least, the middle one and the most of a quantity over the rows that tell it, and how many those are."""

    low: float
    median: float
    high: float
    count: int


class State(Frozen, frozen=True, kw_only=True):
    """How the GPU was while it was measured; None for what the files do not tell.

    throttle_power, throttle_thermal: the share of a measured window in which the power cap, or heat, held the clock.
    """

    regime: str | None = None
    inputs: str | None = None
    cache: str | None = None
    power_limit_w: Spread | None = None
    clock_hz: Spread | None = None
    temp_c: Spread | None = None
    throttle_power: Spread | None = None
    throttle_thermal: Spread | None = None


class CalibrationFile(Frozen, frozen=True, kw_only=True):
    """A calibration as it lies on disk.

    origin: of the rows, None for a spec sheet alone. flopwatt, commit: what fitted it, the commit where that ran from a
    checkout (`-dirty` where that had changes of its own).
    """

    format: Literal["flopwatt-calibration"] = FORMAT
    schema: int = SCHEMA_VERSION
    kind: Kind = "kernel"
    gpu: str
    origin: Origin | None = None
    unvalidated: bool = False
    created: str
    flopwatt: str
    commit: str | None = None
    identity: Identity = Identity()
    state: State = State()
    sources: tuple[Source, ...] = ()
    fitted: tuple[Fitted, ...]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a calibration file."""
    schema = msgspec.json.schema(CalibrationFile)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "flopwatt calibration", **schema}
