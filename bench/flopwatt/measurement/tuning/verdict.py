"""What a tuning run decides: from its records to an entry of the tuning store, or why there is none."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec

from flopwatt.measurement.tuned.records import (
    Entry,
    Estimate,
    Evidence,
    Measured,
    Objective,
    Tried,
    bucket_of,
    versions_of,
)
from flopwatt.measurement.tuning.search import Key, Shortlist, frozen
from flopwatt.runs.energy import judge
from flopwatt.runs.records import ENERGY_USABLE, Record, Segment
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.stats import Interval, launch_time
from gemmkernels.backend import Config


@dataclass(frozen=True, slots=True)
class Verdict:
    """What tuning one wish came to: an entry, or in one line why there is none."""

    shortlist: Shortlist
    tried: Tried
    entry: Entry | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Candidate:
    config: Config
    time: Interval
    energy: Interval | None

    def figure(self, objective: Objective) -> Interval:
        return self.time if objective == "time" or self.energy is None else self.energy


def decide(
    lists: Sequence[Shortlist], records: Iterable[Record], segment: Segment, run_id: str, objective: Objective
) -> Iterator[Verdict]:
    """A verdict for each shortlist, from the records of the run that measured them.

    The least seconds or joules win. Where the default's cannot be told from them, the default stays; what cannot be
    told from the winner is named in the evidence.
    """
    found: dict[Key, list[Record]] = defaultdict(list)
    for record in records:
        if record.case.problem is not None:
            found[record.case.problem, record.case.backend].append(record)
    for shortlist in lists:
        yield _verdict(shortlist, found[shortlist.wish.key], segment, run_id, objective)


def _verdict(
    shortlist: Shortlist, records: Sequence[Record], segment: Segment, run_id: str, objective: Objective
) -> Verdict:
    candidates = [found for record in records if (found := _candidate(record, segment, objective))]
    tried = msgspec.structs.replace(shortlist.tried, measured=len(candidates), wrong=len(records) - len(candidates))
    if not shortlist.configs:
        return Verdict(shortlist, tried, reason="no candidate compiled without spilling, within shared memory")
    if len(records) < len(shortlist.configs):
        return Verdict(shortlist, tried, reason=f"{len(records)} of {len(shortlist.configs)} candidates were measured")
    if not candidates:
        return Verdict(shortlist, tried, reason=_why_none(records))
    winner, tied = _best(candidates, shortlist.default, objective)
    default = next((found for found in candidates if frozen(found.config) == frozen(shortlist.default)), None)
    environment, problem = segment.environment, shortlist.wish.problem
    evidence = Evidence(
        origin=records[0].origin,
        run_id=run_id,
        date=records[-1].started,
        board_id=segment.board_id,
        power_limit_w=environment.power_limit_mw * 1e-3 if environment.power_limit_mw else None,
        winner=_measured(winner),
        default=_measured(default) if default else None,
        tied=tuple(dict(found.config) for found in tied),
        tried=tried,
    )
    entry = Entry(
        gpu=environment.gpu,
        backend=shortlist.wish.backend,
        objective=objective,
        problem=problem,
        bucket=bucket_of(problem),
        config=dict(winner.config),
        versions=versions_of(environment),
        evidence=evidence,
    )
    return Verdict(shortlist, tried, entry)


def _candidate(record: Record, segment: Segment, objective: Objective) -> _Candidate | None:
    """A record's figures; None where it has not the one to judge by."""
    raw = record.measurement
    if record.status != "ok" or not isinstance(raw, RawMeasurement):
        return None
    time = launch_time(raw, record.case.regime)
    energy = None
    if record.energy_status in ENERGY_USABLE:
        energy = judge(raw, segment.sensor, bool(segment.environment.mig)).energy_j
    if time is None or (objective == "energy" and energy is None):
        return None
    return _Candidate(record.case.config or {}, time, energy)


def _why_none(records: Sequence[Record]) -> str:
    reasons = Counter(record.reason or record.energy_reason or "no figure" for record in records)
    (reason, _), *_ = reasons.most_common(1)
    return reason


def _best(
    candidates: Sequence[_Candidate], default: Config, objective: Objective
) -> tuple[_Candidate, list[_Candidate]]:
    """The winner, and the others that cannot be told from it."""
    best = min(candidates, key=lambda found: found.figure(objective).value)
    for found in candidates:
        if frozen(found.config) == frozen(default) and _same(found.figure(objective), best.figure(objective)):
            best = found
    figure = best.figure(objective)
    return best, [found for found in candidates if found is not best and _same(found.figure(objective), figure)]


def _same(one: Interval, other: Interval) -> bool:
    """Whether the 95 % interval of the ratio of two figures of one process holds 1."""
    half_width = math.hypot(one.relative_half_width, other.relative_half_width)
    return abs(math.log(one.value / other.value)) <= half_width


def _measured(found: _Candidate) -> Measured:
    return Measured(
        config=dict(found.config),
        time_s=_estimate(found.time),
        energy_j=_estimate(found.energy) if found.energy else None,
    )


def _estimate(interval: Interval) -> Estimate:
    return Estimate(value=interval.value, low=interval.low, high=interval.high)
