"""What one side of a comparison knows of each case: a sample a process, read from its runs.

A failed or incorrect row has no quantities here, and refused energy none of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final, Literal, NamedTuple, TypeAlias

from flopwatt.runs.records import Record, Segment, Use
from flopwatt.runs.stats import Interval
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import Row, record_row

Quantity: TypeAlias = Literal["time_s", "power_w", "energy_j"]
Unit: TypeAlias = tuple[str, int]
"""What is sampled: a fresh process (run id, process), or a board (its id, 0)."""


class Identity(NamedTuple):
    """What the two measurements of a pair have in common. A sequence has no sizes: FLOPs and bytes tell it.

    accumulation: of fp8, `fast` or `promoted`; None for other formats, and where a table does not say. backend: empty
    where pairs are made across backends.
    """

    m: int | None
    n: int | None
    k: int | None
    batch: int | None
    dtype: str | None
    out_dtype: str | None
    layout: str | None
    flop: int
    bytes: int
    scaling: str | None
    accumulation: str | None
    regime: str
    inputs: str
    cache: str
    origin: str
    backend: str

    @property
    def label(self) -> str:
        """A name for lists and messages."""
        sizes = "sequence" if self.m is None else f"{self.m}x{self.n}x{self.k}"
        shape = f"{self.batch}x{sizes}" if self.batch not in (None, 1) else sizes
        kind = (self.dtype, self.layout, self.scaling, self.accumulation)
        words = (shape, *kind, self.backend, self.regime, f"{self.inputs} inputs")
        return " ".join(filter(None, words))


_OF_ROW: Final = itemgetter(*(name for name in Identity._fields if name != "accumulation"))
_ACCUMULATION: Final = Identity._fields.index("accumulation")


class Sample(NamedTuple):
    """One record of a case. A quantity is None where it may not be used; energy_j is joules of one launch."""

    record: str
    process: Unit
    board_id: str | None
    gpu: str | None
    config: str | None
    effort: str | None
    status: str
    reason: str | None
    energy_status: str
    energy_reason: str | None
    time_s: Interval | None
    power_w: Interval | None
    energy_j: Interval | None
    energy_source: str | None
    power_systematic: float | None


@dataclass(frozen=True, slots=True)
class CaseSide:
    """All that one side knows of a case: a sample a process, and where suites use it.

    by_board: whether boards are what is sampled, and not the processes of one board.
    """

    identity: Identity
    samples: tuple[Sample, ...]
    uses: tuple[Use, ...]
    by_board: bool = False

    @property
    def timed(self) -> tuple[Sample, ...]:
        """The samples that have a time: those of failed or incorrect rows have none."""
        if len(self.samples) == 1:
            return self.samples if self.samples[0].time_s is not None else ()
        return tuple(sample for sample in self.samples if sample.time_s is not None)

    @property
    def metered(self) -> tuple[Sample, ...]:
        """The samples that have energy."""
        return tuple(sample for sample in self.samples if sample.energy_j is not None)

    def restricted(self, quantity: Quantity) -> CaseSide:
        """Only the samples that have the quantity."""
        having = tuple(sample for sample in self.samples if getattr(sample, quantity) is not None)
        return self if len(having) == len(self.samples) else replace(self, samples=having)

    @property
    def failure(self) -> str | None:
        """Why there is no time at all; None where there is one."""
        if self.timed:
            return None
        worst = next((s for s in self.samples if s.status == "failed"), self.samples[0])
        return f"{worst.status}: {worst.reason or 'no reason given'}"

    @property
    def failed(self) -> bool:
        """Whether it has no time because it failed, and not because it was skipped."""
        return not self.timed and any(sample.status == "failed" for sample in self.samples)

    @property
    def config(self) -> str | None:
        """What ran; several where processes chose differently."""
        if len(self.samples) == 1:
            return self.samples[0].config if self.timed else None
        return " | ".join(sorted({sample.config for sample in self.timed if sample.config})) or None

    @property
    def effort(self) -> str | None:
        """How long the case was held; None for an import."""
        if len(self.samples) == 1:
            return self.samples[0].effort
        return " | ".join(sorted({sample.effort for sample in self.samples if sample.effort})) or None

    def by_unit(self, quantity: Quantity) -> dict[Unit, Interval]:
        """The quantity as each process found it, or each board; a case repeated within one is its mean there."""
        if len(self.samples) == 1:
            only: Interval | None = getattr(self.samples[0], quantity)
            return {} if only is None else {self._unit(self.samples[0]): only}
        found: dict[Unit, list[Interval]] = defaultdict(list)
        for sample in self.samples:
            value: Interval | None = getattr(sample, quantity)
            if value is not None:
                found[self._unit(sample)].append(value)
        return {unit: values[0] if len(values) == 1 else _mean(values) for unit, values in found.items()}

    def _unit(self, sample: Sample) -> Unit:
        return (sample.board_id or sample.process[0], 0) if self.by_board else sample.process

    def mean_time_s(self) -> float:
        """Seconds of a launch, for choosing the fastest; infinite where nothing was timed."""
        times = [interval.value for interval in self.by_unit("time_s").values()]
        return sum(times) / len(times) if times else float("inf")


class Side:
    """Gathers the cases of one side from its runs, in the order of their first records. only_backend: None for all."""

    def __init__(self, only_backend: str | None = None) -> None:
        self._only_backend = only_backend
        self._samples: dict[Identity, list[Sample]] = defaultdict(list)
        self._uses: dict[Identity, dict[tuple[str, str | None, str, str | None], Use]] = defaultdict(dict)

    def add(self, run: RunFile) -> None:
        """The records of one more run."""
        segments = {segment.segment: segment for segment in run.segments}
        for record in run.records:
            if self._only_backend is not None and record.case.backend != self._only_backend:
                continue
            identity, sample = _read(run, record, segments.get(record.segment))
            self._samples[identity].append(sample)
            for use in record.uses:
                self._uses[identity].setdefault((use.suite, use.dtype, use.role, use.phase), use)

    @property
    def boards(self) -> int:
        """How many boards are known to be among the samples."""
        return len({sample.board_id for samples in self._samples.values() for sample in samples} - {None})

    def cases(self, by_board: bool = False) -> list[CaseSide]:
        """The cases gathered so far."""
        return [
            CaseSide(identity, _one_config(samples), tuple(self._uses.get(identity, {}).values()), by_board)
            for identity, samples in self._samples.items()
        ]


def part_of(run: RunFile, on: Callable[[Segment], bool], which: Callable[[Record], bool]) -> RunFile | None:
    """The run with only such records, of only such segments; None where none is left."""
    inside = {segment.segment for segment in run.segments if on(segment)}
    records = tuple(record for record in run.records if record.segment in inside and which(record))
    return replace(run, records=records) if records else None


def _read(run: RunFile, record: Record, segment: Segment | None) -> tuple[Identity, Sample]:
    row = record_row(run.header.id, record, segment)
    fields = _OF_ROW(row)
    identity = Identity._make((*fields[:_ACCUMULATION], _accumulation(record), *fields[_ACCUMULATION:]))
    usable = row["status"] == "ok"
    return identity, Sample(
        record.id, (run.header.id, record.process), row["board_id"], row["gpu"], row["config"], row["effort"],
        row["status"], row["reason"], row["energy_status"], row["energy_reason"],
        _interval(row, "time_s") if usable else None,
        _interval(row, "power_w") if usable else None,
        _energy(row) if usable else None,
        row["energy_source"], row["power_systematic"],
    )  # fmt: skip


def _accumulation(record: Record) -> str | None:
    case = record.case
    if not any(problem.dtype.startswith("fp8") for problem in case.problems):
        return None
    fast = (case.config or {}).get("fast_accumulation")
    if fast is None:
        if record.origin == "imported":
            return None
        fast = case.backend.endswith("-fast")  # a library that was not asked says it by its backend's name alone
    return "fast" if fast else "promoted"


def _interval(row: Row, name: str) -> Interval | None:
    value = row[name]
    return Interval(value, row[f"{name}_low"], row[f"{name}_high"]) if value else None


def _energy(row: Row) -> Interval | None:
    """Joules of a launch; their ends are those of TFLOPS/W, inverted, which the columns hold."""
    per_watt = _interval(row, "tflops_per_w")
    return per_watt.reciprocal(row["flop"] * 1e-12) if per_watt else None


def _mean(values: Sequence[Interval]) -> Interval:
    mean = sum(value.value for value in values) / len(values)
    half = max(value.relative_half_width for value in values)
    return Interval(mean, mean * (1 - half), mean * (1 + half)) if half < 1 else Interval(mean)


def _one_config(samples: Sequence[Sample]) -> tuple[Sample, ...]:
    """The samples of one configuration: a process that tried several is a sweep, of which the fastest counts.

    Processes that chose differently, one each, all count: choice is part of what a fresh process does.
    """
    tried: dict[tuple[str, int], set[str | None]] = defaultdict(set)
    for sample in samples:
        if sample.time_s is not None:
            tried[sample.process].add(sample.config)
    if all(len(configs) == 1 for configs in tried.values()):
        return tuple(samples)
    times: dict[str | None, list[float]] = defaultdict(list)
    for sample in samples:
        if sample.time_s is not None:
            times[sample.config].append(sample.time_s.value)
    fastest = min(times, key=lambda config: sum(times[config]) / len(times[config]))
    return tuple(sample for sample in samples if sample.time_s is not None and sample.config == fastest)
