"""Is a run file whole, and could it be true: identities, order of time, and the limits of physics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from flopwatt.runs import gpus
from flopwatt.runs.order import counter_disorder, marks_disorder, readings_disorder
from flopwatt.runs.records import Planned, Record, Segment, case_id
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import Row, record_row

PEAK_TOLERANCE: Final = 0.01
"""The clock is polled and moves between polls: a rate this much above the peak at the mean clock may still be true."""

POWER_TOLERANCE: Final = 0.10
"""Control lets power overshoot its limit for moments, and a sensor's gain is off by some percent; not both by more."""

CONSISTENCY: Final = 0.01
"""Energy of a launch against power × time: they span the same window but for its first and last sensor period."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and with which record; None for the file as a whole."""

    what: str
    record: str | None = None


def check(run: RunFile) -> list[Fault]:
    """Everything that is wrong with a run file that could be read; empty when it is whole and sane."""
    faults = [*_plan(run), *_ending(run)]
    segments = {segment.segment: segment for segment in run.segments}
    for record in run.records:
        segment = segments.get(record.segment)
        formal = [what for judge in _FORMAL for what in judge(record, segment)]
        # Arithmetic on a record that is not in order would only say the same again, less clearly.
        faults.extend(Fault(what, record.id) for what in formal or _physics(record, segment))
    return faults


def _plan(run: RunFile) -> Iterator[Fault]:
    """Each planned case carries its own hash; each record answers to one planned case and process, once."""
    for planned in run.header.plan:
        if case_id(planned.case) != planned.case_id:
            yield Fault(f"planned case {planned.case_id} does not match its own hash: the file was altered")
    known = {(planned.case_id, planned.process): planned for planned in run.header.plan}
    seen = Counter((record.case_id, record.process) for record in run.records)
    for (identity, process), count in seen.items():
        if known and (identity, process) not in known:
            yield Fault(f"case {identity} of process {process} is not in the plan")
        if count > 1:
            yield Fault(f"case {identity} of process {process} was recorded {count} times")
    for record in run.records:
        if record.origin != run.header.origin:
            yield Fault(f"a {record.origin} record in a {run.header.origin} run", record.id)
        if not _answers_to(record, known.get((record.case_id, record.process))):
            yield Fault(f"it measured {record.case.label}, not the case {record.case_id} it answers to", record.id)


def _answers_to(record: Record, planned: Planned | None) -> bool:
    """Whether a record's case is the one its id names, but for the configuration that a plan may leave open."""
    if planned is None:
        return case_id(record.case) == record.case_id
    case = record.case
    if planned.case.config is None:
        case = msgspec.structs.replace(case, config=None)
    return case == planned.case


def _ending(run: RunFile) -> Iterator[Fault]:
    if run.torn:
        yield Fault("the last line is cut off: continue with --resume")
    elif run.end is None and run.header.origin != "imported":
        yield Fault("no end was written: the run was cut off; continue with --resume")


def _references(record: Record, segment: Segment | None) -> Iterator[str]:
    if segment is None:
        yield f"segment {record.segment} is missing: what was measured on is unknown"
    if record.status == "ok" and record.measurement is None:
        yield "status ok without a measurement"
    if record.status != "ok" and not record.reason:
        yield f"status {record.status} without a reason"


def _correct(record: Record, _: Segment | None) -> Iterator[str]:
    found = record.correctness
    if (
        record.status == "ok"
        and found is not None
        and (found.relative_error is None or found.relative_error > found.bound)
    ):
        yield f"status ok with a relative error of {found.relative_error} over its bound {found.bound}"


def _order_of_time(record: Record, _: Segment | None) -> Iterator[str]:
    raw = record.measurement
    if not isinstance(raw, RawMeasurement):
        return
    yield from filter(None, (marks_disorder(raw), counter_disorder(raw), readings_disorder(raw)))


def _physics(record: Record, segment: Segment | None) -> Iterator[str]:
    """No rate above the dense peak at the observed clock, no power above the limit, energy = power × time."""
    if record.status != "ok" or segment is None:
        return
    row = record_row("", record, segment)
    if isinstance(record.measurement, RawMeasurement):
        yield from _statuses(record, row)
    yield from _rate(row, segment)
    limit = row["power_limit_w"] or (segment.environment.power_limit_mw or 0) * 1e-3
    if row["power_w"] is not None and limit and row["power_w"] > limit * (1 + POWER_TOLERANCE):
        yield f"{row['power_w']:.0f} W is over the power limit of {limit:.0f} W by more than {POWER_TOLERANCE:.0%}"
    if row["energy_j"] is not None and row["time_s"]:
        product_j = row["power_w"] * row["time_s"]
        if abs(row["energy_j"] - product_j) > CONSISTENCY * product_j:
            yield (
                f"{row['energy_j']:.4g} J a launch differ from power × time, {product_j:.4g} J, "
                f"by more than {CONSISTENCY:.0%}"
            )


def _statuses(record: Record, row: Row) -> Iterator[str]:
    """Statuses that the record's own samples contradict."""
    if row["status"] != record.status:
        yield f"status {record.status}, but {row['reason']}"
    if row["energy_status"] != record.energy_status:
        yield f"energy status {record.energy_status}, but {row['energy_reason']}"


def _rate(row: Row, segment: Segment) -> Iterator[str]:
    environment = segment.environment
    spec = gpus.find(environment.gpu, environment.memory_bytes, environment.sm_count)
    if spec is None or row["tflops"] is None or row["dtype"] is None:
        return
    # A burst is over before the clock has been read often: held against the highest one.
    observed_mhz = row["clock_mhz"] if row["regime"] == "sustained" else None
    clock_hz = observed_mhz * 1e6 if observed_mhz else spec.max_clock_hz
    peak = spec.peak_at_clock(row["dtype"], clock_hz) if clock_hz else None
    if peak is not None and clock_hz is not None and row["tflops"] * 1e12 > peak * (1 + PEAK_TOLERANCE):
        yield (
            f"{row['tflops']:.0f} TFLOPS is over the dense {row['dtype']} peak of {peak * 1e-12:.0f} "
            f"at {clock_hz * 1e-6:.0f} MHz"
        )


_FORMAL: Final[tuple[Callable[[Record, Segment | None], Iterator[str]], ...]] = (
    _references,
    _correct,
    _order_of_time,
)
