"""The methods paragraph, from what was really done; and the environment of every segment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from flopwatt.analysis.report.comparison_words import share
from flopwatt.analysis.report.page.boards import Board, BoardKey
from flopwatt.analysis.report.page.content import Content, clean
from flopwatt.analysis.report.quantities import significant
from flopwatt.runs.effort import BURST_LOAD_S, BURST_REST_S, EFFORT, STEADY_POWER, STEADY_SPAN_S, STEADY_TEMP_C
from flopwatt.runs.records import Record, Segment, SensorIdentity
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import Row

DTYPE_WORDS = {"fp8_e4m3": "FP8 (E4M3)", "fp8_e5m2": "FP8 (E5M2)"}
SOURCES = {"counter": "the energy counter", "power": "readings of power"}


def paragraphs(content: Content) -> list[str]:
    """One paragraph a board, ready to paste: what ran, how long, how often, how it was metered."""
    return [
        _imported(content, board) if board.key.origin == "imported" else _ran(content, board)
        for board in content.boards.values()
    ]


def _imported(content: Content, board: Board) -> str:
    runs = [run for run in content.runs if any(_key(run, segment) == board.key for segment in run.segments)]
    sources = dict.fromkeys(clean(run.header.source or "a source that the file does not name") for run in runs)
    cases = sum(row["board"] == board.label for row in content.cases)
    shown = "" if not content.left_out else ", of which a sample is shown"
    return (
        f"Figures for {board.name} ({_listed(row['dtype'] for row in _rows(content, board))}; {cases:,} cases{shown}) "
        f"were not measured by us but taken from {'; '.join(sources)}. How long the GPU had been at work, its operands "
        "and its power are as published there, and unknown where they are not."
    )


def _ran(content: Content, board: Board) -> str:
    segment, records = _of_board(content, board)
    rows = _rows(content, board)
    timed = [row for row in rows if row["status"] == "ok" and row["time_s"] is not None]
    if segment is None or not timed:
        return f"No case was timed on {board.name}."
    sentences = [
        _what(content, board, segment, timed),
        *_correct(records),
        *_sustained(timed),
        *_bursts(timed, records),
        *_metering(timed, segment.sensor),
        _errors(timed),
    ]
    return " ".join(sentences)


def _what(content: Content, board: Board, segment: Segment, timed: Sequence[Row]) -> str:
    environment = segment.environment
    cases = len({(row["m"], row["n"], row["k"], row["batch"], row["dtype"], row["layout"]) for row in timed})
    software = [f"{clean(name)} {clean(version)}" for name, version in sorted(environment.versions.items())]
    software += [f"driver {clean(environment.driver)}"] if environment.driver not in (None, "simulated") else []
    made = sorted({run.header.flopwatt for run in content.runs if run.header.origin == board.key.origin})
    limit = f", power limit {environment.power_limit_mw / 1000:.0f} W" if environment.power_limit_mw else ""
    start = "We measured" if board.measured else "In a SIMULATION, which is no measurement of any real GPU, we ran"
    operands = _listed(f"{row['inputs']}" for row in timed)
    cache = {row["cache"] for row in timed}
    rotated = ", cycled through more than twice the last-level cache" if cache == {"rotating"} else ""
    return (
        f"{start} {cases:,} GEMM shape{'s' if cases > 1 else ''} ({_listed(row['dtype'] for row in timed)}) by "
        f"{_listed(row['backend'] for row in timed)} on one {clean(environment.gpu)}{limit}, with flopwatt "
        f"{', '.join(map(clean, made))}" + (f" ({', '.join(software)})" if software else "") + ". "
        f"Operands: {operands}{rotated}."
    )


def _correct(records: Sequence[Record]) -> Iterator[str]:
    checked = [record for record in records if record.correctness is not None]
    if checked:
        methods = _listed(record.correctness.method for record in checked if record.correctness)
        yield f"{len(checked):,} of {len(records):,} results were checked before timing ({methods})."


def _sustained(timed: Sequence[Row]) -> Iterator[str]:
    for effort in EFFORT.values():
        rows = [row for row in timed if row["regime"] == "sustained" and row["effort"] == effort.name]
        if not rows:
            continue
        length = median(row["window_s"] for row in rows if row["window_s"]) if any(r["window_s"] for r in rows) else 0.0
        settled = (
            f"until over {STEADY_SPAN_S:g} s its temperature stayed within {STEADY_TEMP_C:g} °C and its power within "
            f"{share(STEADY_POWER)}, for {effort.settle_s:g} s at most"
            if effort.steady
            else f"for {effort.settle_s:g} s"
        )
        yield (
            f"Under sustained load (effort {effort.name}, {len(rows):,} cases) each kernel was launched without gaps "
            f"{settled}, and then measured in {effort.windows} window{'s' if effort.windows > 1 else ''}, "
            f"{significant(length)} s in all for the middle case."
        )


def _bursts(timed: Sequence[Row], records: Sequence[Record]) -> Iterator[str]:
    rows = [row for row in timed if row["regime"] == "burst"]
    if rows:
        raws = [r.measurement for r in records if r.case.regime == "burst"]
        counts = [len(raw.windows) for raw in raws if isinstance(raw, RawMeasurement) and raw.windows]
        often = f", {min(counts)} to {max(counts)} times a case" if counts else ""
        yield (
            f"Bursts ({len(rows):,} cases) were at most {BURST_LOAD_S * 1e3:.0f} ms of load after {BURST_REST_S:g} s "
            f"of rest{often}; they carry no energy."
        )


def _metering(timed: Sequence[Row], sensor: SensorIdentity | None) -> Iterator[str]:
    metered = [row for row in timed if row["power_w"] is not None]
    if not metered:
        yield "No energy is reported."
        return
    source = _listed(SOURCES.get(row["energy_source"], row["energy_source"]) for row in metered)
    yield (
        f"Energy ({len(metered):,} cases) is that of the whole board, idle power included and the host excluded, from "
        f"{source}, taken between the sensor's own updates with the launches "
        "completed between the same instants."
    )
    if sensor is None:
        return
    told = [
        f"{name} {value * 1e3:.0f} ms"
        for name, value in (
            ("update period", sensor.update_period_s),
            ("averaging window", sensor.window_s),
            ("counter tick", sensor.counter_tick_s),
        )
        if value is not None
    ]
    identified = f"identified by {clean(sensor.method)} ({', '.join(told)})" if told else "not identified"
    gain = f"; its gain may be off by {share(sensor.gain_uncertainty)}" if sensor.gain_uncertainty else ""
    yield f"The power sensor ({clean(sensor.source)}) was {identified}{gain}."


def _errors(timed: Sequence[Row]) -> str:
    processes = sorted({row["processes"] for row in timed})
    if processes == [1]:
        return (
            "Intervals are 95 %; one process ran, so that its own interval was widened by 1 % of assumed run-to-run "
            "spread (one standard deviation)."
        )
    most = processes[-1]
    alone = sum(row["processes"] == 1 for row in timed)
    lone = f"; {alone:,} cases ran in one alone, and their intervals carry the others' spread" if alone else ""
    return f"Intervals are 95 % (Student's t over up to {most} fresh processes{lone}), statistical errors only."


def _rows(content: Content, board: Board) -> list[Row]:
    return [row for row in content.cases if row["board"] == board.label]


def _of_board(content: Content, board: Board) -> tuple[Segment | None, list[Record]]:
    """The board's first segment and all its records."""
    first: Segment | None = None
    records: list[Record] = []
    for run in content.runs:
        inside = {segment.segment: segment for segment in run.segments if _key(run, segment) == board.key}
        first = first or next(iter(inside.values()), None)
        records += (record for record in run.records if record.segment in inside)
    return first, records


def _key(run: RunFile, segment: Segment) -> BoardKey:
    return BoardKey(run.header.origin, segment.environment.gpu, segment.board_id)


def _listed(words: Iterator[str | None] | Sequence[str]) -> str:
    """The different words, in order: a, b and c."""
    found = [DTYPE_WORDS.get(word, word) for word in dict.fromkeys(words) if word]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}" if found else "unknown"


def environments(content: Content) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Each different machine and software: a heading, and its facts as (name, value)."""
    seen: set[tuple[tuple[str, str], ...]] = set()
    for file, run in zip(content.names, content.runs, strict=True):
        for segment in run.segments:
            board = content.boards[_key(run, segment)]
            facts = [(name, clean(value)) for name, value in _facts(file, run, segment) if value]
            if tuple(facts) not in seen:
                seen.add(tuple(facts))
                yield board.label, facts


def _facts(file: str, run: RunFile, segment: Segment) -> Iterator[tuple[str, str | None]]:
    one, sensor = segment.environment, segment.sensor
    yield "file", f"{file}, of {run.header.created}, by flopwatt {run.header.flopwatt}"
    yield "source", run.header.source
    yield "licence", run.header.licence
    yield "device", one.gpu
    yield "board", segment.board_id
    yield "SMs", str(one.sm_count) if one.sm_count else None
    yield "memory", f"{one.memory_bytes / 2**30:.0f} GiB" if one.memory_bytes else None
    yield "power limit", f"{one.power_limit_mw / 1000:.0f} W" if one.power_limit_mw else None
    yield "idle", f"{segment.idle_w:.0f} W" if segment.idle_w else None
    yield "driver", one.driver
    yield "CPU", f"{one.cpu} ({one.cpu_threads} threads)" if one.cpu and one.cpu_threads else one.cpu
    yield "OS", one.os
    yield from ((f"{name}", version) for name, version in sorted(one.versions.items()))
    yield "beside it", f"{one.shared_with} other processes on the GPU" if one.shared_with else None
    yield "monitoring", ", ".join(one.monitoring)
    if sensor is not None:
        yield "sensor", f"{sensor.source}: {sensor.method}" + (f" ({sensor.reason})" if sensor.reason else "")
    yield from ((f"unreadable {name}", why) for name, why in sorted(one.unreadable.items()))
