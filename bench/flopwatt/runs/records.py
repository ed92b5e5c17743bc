"""The lines of a run file as frozen, typed records, and their JSON.

Only raw samples are stored; every statistic is derived when a file is read. Quantities carry their unit in their
name. Traces are parallel integer arrays in the sensor's native units (mW, mJ, MHz), with CLOCK_MONOTONIC
nanoseconds counted from the measurement's `origin_ns`.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from flopwatt.runs.frozen import Frozen
from flopwatt.runs.samples import Measurement
from gemmkernels.backend import ConfigValue
from gemmkernels.problem import Problem

SCHEMA_VERSION: Final = 1
"""History: 1 (2026-11) the first."""

Origin: TypeAlias = Literal["measured", "imported", "simulated"]
Status: TypeAlias = Literal["ok", "skipped", "failed"]
EnergyStatus: TypeAlias = Literal["ok", "disputed", "unsteady", "refused", "unidentified", "unsupported"]
Regime: TypeAlias = Literal["burst", "sustained"]
RecordedRegime: TypeAlias = Literal["burst", "sustained", "unknown"]
"""`unknown` is for imports only, of tables that do not say how long the GPU had been at work."""
EffortName: TypeAlias = Literal["fast", "normal", "publish"]
Phase: TypeAlias = Literal["forward", "input_grad", "weight_grad"]
EndReason: TypeAlias = Literal["done", "budget", "interrupted", "failed"]

ENERGY_USABLE: Final = ("ok", "disputed", "unsteady")
"""Energy statuses under which watts are shown; a row with any other has nulls and a reason."""

REGIMES: Final = ("burst", "sustained")
EFFORTS: Final = ("fast", "normal", "publish")


class SequenceItem(Frozen, frozen=True, kw_only=True):
    """One GEMM of a `sequence` case, which replays a layer's GEMMs in order as one launch."""

    problem: Problem
    role: str
    phase: Phase | None = None


class Use(Frozen, frozen=True, kw_only=True):
    """Where a case comes from: a suite, the GEMM's role in it, and how often one step runs it.

    dtype: the format that the suite was asked for, in which single GEMMs may differ from it. headline: counts towards
    the suite's totals (attention's batched GEMMs do not: real training fuses them).
    """

    suite: str
    dtype: str | None = None
    role: str
    phase: Phase | None = None
    count: Annotated[int, msgspec.Meta(ge=1, le=2**40)] = 1
    headline: bool = True


class Case(Frozen, frozen=True, kw_only=True):
    """What is measured: a problem (or a sequence of them) by a backend under one regime.

    config: as planned, None lets the backend choose; as recorded, what ran. inputs: the distribution of A and B.
    cache: `rotating`, operands cycle through more than twice the L2; `hot`, the same operands each time. Where an
    imported table does not tell them, regime, inputs and cache are `unknown`.
    """

    problem: Problem | None = None
    sequence: tuple[SequenceItem, ...] = ()
    backend: str
    config: dict[str, ConfigValue] | None = None
    regime: RecordedRegime = "sustained"
    effort: EffortName = "normal"
    inputs: str = "normal"
    cache: Literal["rotating", "hot", "unknown"] = "rotating"

    def __post_init__(self) -> None:
        if (self.problem is None) != bool(self.sequence):
            raise ValueError("a case has a problem or a sequence of them, not both and not neither")

    @property
    def flop(self) -> int:
        """Floating-point operations of one launch."""
        return sum(problem.flop for problem in self.problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The GEMMs of one launch, in order."""
        return (self.problem,) if self.problem else tuple(item.problem for item in self.sequence)

    @property
    def label(self) -> str:
        """A short name for progress lines and messages."""
        if self.problem is None:
            what = f"sequence of {len(self.sequence)}"
        else:
            what = f"{self.problem.shape} {self.problem.dtype} {self.problem.layout}"
        return f"{what} {self.backend} {self.regime}"


def case_id(case: Case) -> str:
    """The identity of a case as planned: 16 hexadecimal digits, the same for the same case on every machine."""
    canonical = msgspec.json.encode(case, order="deterministic")
    return hashlib.sha256(canonical).hexdigest()[:16]


class Planned(Frozen, frozen=True, kw_only=True):
    """One entry of a plan: a case, where it is used, and which process of `--processes` measures it."""

    case_id: str
    case: Case
    uses: tuple[Use, ...] = ()
    process: int = 0


class SuiteFact(Frozen, frozen=True, kw_only=True):
    """What a headline needs to know of a suite: its model, the tokens of one micro-batch, the layers it covers."""

    name: str
    dtype: str | None = None
    model: str | None = None
    tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    layers: int | None = None
    description: str = ""


class Policy(Frozen, frozen=True, kw_only=True):
    """How the run was asked for, beyond its cases. budget_s: None for no limit."""

    seed: int = 0
    processes: int = 1
    budget_s: float | None = None
    shared: bool = False


class RunHeader(Frozen, frozen=True, kw_only=True, tag_field="type", tag="run"):
    """The first line: what was planned, before anything was measured."""

    schema: int
    id: str
    created: str
    origin: Origin
    flopwatt: str
    plan: tuple[Planned, ...] = ()
    suites: tuple[SuiteFact, ...] = ()
    policy: Policy = Policy()
    source: str | None = None
    licence: str | None = None


class Environment(Frozen, frozen=True, kw_only=True):
    """The machine and software of a segment. Names no host, user or path; a board only by the hash of its UUID.

    gpu: the driver's name for it, or the CPU model on a CPU. spec: key in the table of known GPUs, None if unknown.
    shared_with: other processes on the GPU at the start. monitoring: programs seen that may profile the GPU.
    """

    kind: Literal["cuda", "cpu"]
    gpu: str
    spec: str | None = None
    capability: tuple[int, int] | None = None
    sm_count: int | None = None
    l2_bytes: int | None = None
    memory_bytes: int | None = None
    max_clock_mhz: int | None = None
    power_limit_mw: int | None = None
    power_limit_default_mw: int | None = None
    vbios: str | None = None
    driver: str | None = None
    cpu: str | None = None
    cpu_threads: int | None = None
    os: str | None = None
    versions: dict[str, str] = msgspec.field(default_factory=dict)
    mig: bool | None = None
    shared_with: int | None = None
    monitoring: tuple[str, ...] = ()
    unreadable: dict[str, str] = msgspec.field(default_factory=dict)


class SensorIdentity(Frozen, frozen=True, kw_only=True):
    """What is known of the power sensor. None where it could not be told.

    source: `nvml`, `rapl`, `simulated`, `none`. method: how it was learnt. gain_uncertainty: relative, common to all
    readings of one board. window_s: what instant power is the mean over; average_window_s: the same of the running
    average. delay_s: from an update's end to its showing. rise_s: 10 to 90 % of the sensor's answer to a step.
    idle_w: the board's, when it was identified. sampling_effect: throughput with the sampler on over that with it off,
    minus 1, with its 95 % interval.
    """

    source: str
    method: str = "not identified"
    update_period_s: float | None = None
    window_s: float | None = None
    counter_tick_s: float | None = None
    counter_covers_all_time: bool | None = None
    call_latency_s: float | None = None
    average_window_s: float | None = None
    delay_s: float | None = None
    idle_w: float | None = None
    sampling_effect: float | None = None
    sampling_effect_low: float | None = None
    sampling_effect_high: float | None = None
    rise_s: float | None = None
    gain_uncertainty: float | None = None
    reason: str | None = None

    def settled_s(self, window_s: float) -> float:
        """How long after a load began readings that average over window_s hold nothing any more of what came before."""
        return window_s + (self.update_period_s or 0.0) + (self.rise_s or 0.0) + (self.delay_s or 0.0)

    @property
    def readings_settle_s(self) -> float:
        """The same of the readings that are summed where the counter is none, or no integral; 0 where none are."""
        counts = self.counter_tick_s is not None and self.counter_covers_all_time is not False
        return 0.0 if counts else self.rest_s

    @property
    def rest_s(self) -> float:
        """How long after a load ended power readings hold nothing any more of it; 0 while unidentified."""
        window_s = self.window_s or self.average_window_s
        return 0.0 if window_s is None else self.settled_s(window_s)

    @property
    def slowest_period_s(self) -> float:
        """The longer of power's and the counter's identified periods; 0 while neither is."""
        return max(self.update_period_s or 0.0, self.counter_tick_s or 0.0)


class Segment(Frozen, frozen=True, kw_only=True, tag_field="type", tag="segment"):
    """One line at each start or resume of a run: where its records come from. idle_w: mean watts before any load."""

    segment: int
    started: str
    environment: Environment
    board_id: str | None = None
    sensor: SensorIdentity | None = None
    idle_w: float | None = None
    idle_context_w: float | None = None


class Correctness(Frozen, frozen=True, kw_only=True):
    """Outcome of the check before timing. relative_error: None when it was infinite or not a number."""

    relative_error: float | None
    bound: float
    method: str


class Record(Frozen, frozen=True, kw_only=True, tag_field="type", tag="record"):
    """One measured case, or why there is none. `status` judges time and correctness, `energy_status` the watts.

    settings: process-wide settings in force (TF32, reduced-precision accumulation, threads); under `TIMED`, what an
    imported time holds besides the GEMM.
    """

    id: str
    case_id: str
    segment: int
    origin: Origin
    started: str
    process: int = 0
    case: Case
    uses: tuple[Use, ...] = ()
    status: Status
    reason: str | None = None
    energy_status: EnergyStatus = "unsupported"
    energy_reason: str | None = None
    correctness: Correctness | None = None
    settings: dict[str, str] = msgspec.field(default_factory=dict)
    input_audit: dict[str, float] = msgspec.field(default_factory=dict)
    measurement: Measurement | None = None


class Event(Frozen, frozen=True, kw_only=True, tag_field="type", tag="event"):
    """Something a reader should know: throttling, a worker replaced, a warning."""

    at: str
    what: str
    message: str
    case_id: str | None = None


class End(Frozen, frozen=True, kw_only=True, tag_field="type", tag="end"):
    """Why measuring stopped. A file without one was cut off.

    idle_after_w: mean watts with a CUDA context, two seconds after the last load; to be held against the segment's
    idle_context_w. idle_after_reason: why there is none.
    """

    at: str
    reason: EndReason
    message: str = ""
    idle_after_w: float | None = None
    idle_after_reason: str | None = None


Line: TypeAlias = RunHeader | Segment | Record | Event | End
TIMED: Final = "timed"

LINE_TYPES: Final = frozenset({"run", "segment", "record", "event", "end"})

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def encode(line: Line) -> bytes:
    """One JSON line without its newline. NaN and infinity never occur: they have no JSON."""
    return _encoder.encode(line)


def decode(data: bytes) -> Line:
    """The record in one JSON line. Raises msgspec.DecodeError or msgspec.ValidationError, which say what is wrong."""
    line: Line = _decoder.decode(data)
    return line
