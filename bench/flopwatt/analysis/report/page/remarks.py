"""What a reader must be told before believing the page, in plain words."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import median
from typing import Final

from flopwatt.analysis.check import check
from flopwatt.analysis.report.page.content import Content, clean
from flopwatt.analysis.report.terminal import FLAGS
from flopwatt.runs.records import ENERGY_USABLE, Record, Segment
from flopwatt.runs.samples import AggregateMeasurement
from flopwatt.runs.store import RunFile

REASONS_MOST: Final = 8
"""Different reasons told one by one; of more, how many."""

EVENTS_MOST: Final = 30
"""Remarks of one file that the page holds."""

_FIGURES = re.compile(r"\d[\d.,]*")
"""What differs between faults of one kind."""


def origin_banners(content: Content) -> Iterator[tuple[str, str]]:
    """(origin, words) for each origin that is no measurement by flopwatt."""
    names = [board for board in content.boards.values() if not board.measured]
    if simulated := [board.name for board in names if board.key.origin == "simulated"]:
        yield (
            "simulated",
            f"SIMULATED: no figure of {', '.join(dict.fromkeys(simulated))} on this page was measured on a real GPU. "
            "A scenario file made them up, to try the program.",
        )
    if imported := [board.name for board in names if board.key.origin == "imported"]:
        sources = dict.fromkeys(
            clean(f"{run.header.source or 'source not stated'} (licence: {run.header.licence or 'not stated'})")
            for run in content.runs
            if run.header.origin == "imported"
        )
        yield (
            "imported",
            f"IMPORTED: the figures of {', '.join(dict.fromkeys(imported))} were published by others, and flopwatt "
            f"measured none of them. Source: {'; '.join(sources)}.",
        )
    if len(content.origins) > 1:
        yield "mixed", f"This page holds results of several origins ({', '.join(content.origins)}); each is labelled."


def remarks(content: Content) -> list[str]:
    """Throttling, sensors, failures, refused energy, what was left out: one sentence each, with counts."""
    found = [*_throttling(content), *_sensors(content), *_statuses(content), *_energy(content)]
    if content.left_out:
        found.append(
            f"The files hold {content.records:,} records; {content.left_out:,} cases are not in table and figures. "
            "Those show a sample, even over backends, formats and sizes; headlines, comparisons and counts of records "
            "are of all."
        )
    return found


def by_file(content: Content) -> dict[str, list[str]]:
    """What each file has to say of itself: how it ended, what happened, what in it is not plausible."""
    found = {name: list(_of_run(run)) for name, run in zip(content.names, content.runs, strict=True)}
    return {name: told for name, told in found.items() if told}


def _throttling(content: Content) -> Iterator[str]:
    loaded = [row for row in content.cases if row["regime"] == "sustained" and row["status"] == "ok"]
    capped = [row["throttle_power"] for row in loaded if row["throttle_power"]]
    hot = [row["throttle_thermal"] for row in loaded if row["throttle_thermal"]]
    if capped:
        yield (
            f"The power cap held the clock down in {len(capped):,} of {len(loaded):,} sustained cases (in the middle "
            f"one for {_percent(median(capped))} of its window). That is how a GPU at its limit works: its rate "
            "depends on the limit that was set."
        )
    if hot:
        yield (
            f"Heat held the clock down in {len(hot):,} of {len(loaded):,} sustained cases, at most for "
            f"{_percent(max(hot))} of a window: better cooling would give other figures."
        )


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %" if share >= 0.01 else "less than 1 %"


def _sensors(content: Content) -> Iterator[str]:
    kinds = Counter(
        clean(_sensor(segment)) for run in content.runs for segment in run.segments if run.header.origin != "imported"
    )
    for what in kinds:
        if what:
            yield what


def _sensor(segment: Segment) -> str:
    sensor, gpu = segment.sensor, segment.environment.gpu
    if sensor is None or sensor.source == "none":
        return f"No power sensor was found on {gpu}: its rows have times and no watts."
    if sensor.source == "simulated":
        return ""
    if sensor.window_s is None and sensor.average_window_s is None and sensor.counter_tick_s is None:
        return (
            f"The power sensor of {gpu} was not identified (flopwatt doctor --sensor does it in a minute): its update "
            "period and averaging window are unknown."
        )
    if sensor.counter_covers_all_time is False:
        return f"The energy counter of {gpu} does not cover all time: short loads may escape it."
    return ""


def _statuses(content: Content) -> Iterator[str]:
    reasons: Counter[tuple[str, str]] = Counter(
        (record.status, record.reason or "no reason given")
        for run in content.runs
        for record in run.records
        if record.status != "ok"
    )
    yield from _counted(reasons, "record {status}: {reason}", "records {status}: {reason}")


def _energy(content: Content) -> Iterator[str]:
    steady = [r for run in content.runs for r in run.records if r.status == "ok" and r.case.regime != "burst"]
    reasons = Counter(_energy_of(record) for record in steady)
    reasons.pop(("ok", ""), None)
    one = "record has energy status {status}: {reason}"
    yield from _counted(reasons, one, one.replace("record has", "records have"))
    flags = Counter(
        flag for run in content.runs for record in run.records for flag in getattr(record.measurement, "flags", ())
    )
    yield from (f"{count:,} × {FLAGS[flag]}." for flag, count in flags.items() if flag in FLAGS)


def _energy_of(record: Record) -> tuple[str, str]:
    """What the watts are worth; an import's are judged again, whatever its file says."""
    if isinstance(record.measurement, AggregateMeasurement) and record.energy_status in ENERGY_USABLE:
        refusal = record.measurement.why_no_watts
        if refusal:
            return "refused", refusal
    return record.energy_status, "" if record.energy_status == "ok" else record.energy_reason or "no reason given"


def _counted(reasons: Counter[tuple[str, str]], one: str, several: str) -> Iterator[str]:
    for (status, reason), count in reasons.most_common(REASONS_MOST):
        yield f"{count:,} {(one if count == 1 else several).format(status=status, reason=clean(reason))}."
    if len(reasons) > REASONS_MOST:
        left = sum(count for _, count in reasons.most_common()[REASONS_MOST:])
        yield f"{left:,} more for {len(reasons) - REASONS_MOST:,} other reasons; the table has each."


def _of_run(run: RunFile) -> Iterator[str]:
    if run.torn:
        yield "The last line was cut off while it was written, and is left out."
    if run.end is None and run.header.origin != "imported":
        yield "The run did not end by itself; cases may be missing (flopwatt run --resume continues it)."
    elif run.end is not None and run.end.reason != "done":
        yield f"Ended by {run.end.reason} before its plan was done ({clean(run.end.message)})."
    if run.header.policy.shared:
        yield "Measured beside other work on the GPU, as asked with --shared."
    events = Counter(clean(event.message) for event in run.events)
    yield from (message + (f" ({n} times)" if n > 1 else "") for message, n in events.most_common(EVENTS_MOST))
    if len(events) > EVENTS_MOST:
        yield f"And {len(events) - EVENTS_MOST:,} more remarks, which flopwatt show prints."
    faults: dict[str, list[str]] = defaultdict(list)
    for fault in check(run):
        faults[_FIGURES.sub("", fault.what)].append(fault.what)
    for alike in list(faults.values())[:REASONS_MOST]:
        more = f" (and {len(alike) - 1:,} more such)" if len(alike) > 1 else ""
        yield f"Not plausible: {clean(alike[0])}{more}"
    if len(faults) > REASONS_MOST:
        yield f"And {len(faults) - REASONS_MOST:,} more kinds of fault, which flopwatt check names."
