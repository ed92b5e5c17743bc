"""Results as tables and a headline on a terminal. Where there is no terminal: the same, plain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from flopwatt.analysis.check import check
from flopwatt.analysis.headline import COMPLETE, Headline, headlines
from flopwatt.analysis.processes import merge
from flopwatt.analysis.report.quantities import DASH, percent, seconds, significant
from flopwatt.runs.records import ENERGY_USABLE, Record
from flopwatt.runs.stats import Interval
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import Row, run_rows
from flopwatt.text import printable

TEXT_COLUMNS: Final = ("role", "phase", "dtype", "layout", "backend")
DROPPED_FIRST: Final = ("pJ/FLOP", "layout", "MHz", "dtype", "% of peak", "±", "backend", "± ")
UNBOUNDED: Final = 10_000

ROWS_MOST: Final = 500
NOTES_MOST: Final = 20
EVENTS_MOST: Final = 200
"""What a terminal is for: more is for a program to read, and is said to be there."""


def show(runs: Sequence[RunFile], console: Console) -> None:
    """Prints the tables of each run, what could not be measured and why, and the headlines."""
    for run in runs:
        console.print(run_view(run))


def run_view(run: RunFile) -> RenderableType:
    """All of one run: a table for each regime and kind of inputs, notes, headlines."""
    parts: list[RenderableType] = [_title(run), *_tables(run)]
    parts.extend(_notes(run))
    parts.extend(_headline_text(headline) for headline in headlines([run]))
    return Group(*parts)


def _tables(run: RunFile) -> Iterator[RenderableType]:
    """The tables, and how many cases each is short of where a file holds more than anybody reads on a terminal."""
    for (regime, inputs), cases in _by_setting(run).items():
        shown = set(islice(cases, ROWS_MOST))
        records = tuple(
            record for record in run.records if record.case_id in shown and _setting(record) == (regime, inputs)
        )
        rows = merge(run_rows(replace(run, records=records)))
        yield _Fitted(regime, inputs, [_printable(row) for row in rows[:ROWS_MOST]])
        if len(cases) > ROWS_MOST or len(rows) > ROWS_MOST:
            more = f"{len(cases) - ROWS_MOST:,} more cases" if len(cases) > ROWS_MOST else "more rows"
            yield Text(f"  … and {more}: --format csv or parquet gives all", style="yellow")


def _by_setting(run: RunFile) -> dict[tuple[str, str], dict[str, None]]:
    """The cases of each regime and kind of inputs, in order: only those that are shown have their rows worked out."""
    found: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for record in run.records:
        found[_setting(record)][record.case_id] = None
    return found


def _setting(record: Record) -> tuple[str, str]:
    return record.case.regime, record.case.inputs


def _printable(row: Row) -> Row:
    return {name: printable(value) if isinstance(value, str) else value for name, value in row.items()}


def _title(run: RunFile) -> Text:
    text = Text()
    for segment in run.segments[-1:]:
        environment = segment.environment
        text.append(printable(environment.gpu), style="bold")
        versions = environment.versions
        software = [f"{name} {versions[name]}" for name in ("torch", "triton") if name in versions]
        if environment.driver:
            software.append(f"driver {environment.driver}")
        if environment.power_limit_mw:
            software.append(f"limit {environment.power_limit_mw / 1000:.0f} W")
        if segment.idle_w:
            software.append(f"idle {segment.idle_w:.0f} W" + _idle_after(run))
        text.append(printable(f"  {', '.join(software)}") + "\n")
    if run.header.origin == "simulated":
        text.append("simulated: not a measurement of any real GPU\n", style="yellow")
    if run.header.origin == "imported":
        licence = f", {run.header.licence}" if run.header.licence else ""
        text.append(printable(f"imported, measured by others: {run.header.source}{licence}") + "\n", style="yellow")
    return text


def _idle_after(run: RunFile) -> str:
    """Idle power after the load beside what it was before, where both were read: both with a context."""
    before_w = run.segments[-1].idle_context_w
    if before_w is None or run.end is None or run.end.idle_after_w is None:
        return ""
    return f" ({before_w:.0f} W with a context, {run.end.idle_after_w:.0f} W after the load)"


class _Fitted:
    """A table that leaves columns out, the least missed first, until it fits the terminal."""

    def __init__(self, regime: str, inputs: str, rows: Sequence[Row]) -> None:
        self._title = f"{'regime unknown' if regime == 'unknown' else regime}, {printable(inputs)} inputs"
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(width=UNBOUNDED)
        columns = _columns(self._rows)
        for least_missed in (None, *DROPPED_FIRST):
            columns = [name for name in columns if name != least_missed]
            table = self._table(columns)
            if Measurement.get(console, wide, table).maximum <= options.max_width:
                break
        else:
            table = self._table(columns, gap=0)
        yield table

    def _table(self, columns: Sequence[str], gap: int = 1) -> Table:
        table = Table(
            title=self._title,
            title_justify="left",
            box=None,
            pad_edge=False,
            header_style="bold",
            padding=(0, 1, 0, gap),
        )
        for name in columns:
            table.add_column(name, justify="left" if name in TEXT_COLUMNS else "right", no_wrap=name != "backend")
        for row in self._rows:
            cells = _cells(row)
            table.add_row(*(cells[name] for name in columns), style=_style(row))
        return table


def _columns(rows: Sequence[Row]) -> list[str]:
    """The columns in which these rows have anything to say, in order."""
    watts = any(row["power_w"] is not None for row in rows)
    peak = any(row["peak_fraction"] is not None for row in rows)
    phases = any(row["phase"] for row in rows)
    wanted = {
        "role": True, "phase": phases, "M×N×K": True, "dtype": True, "layout": True, "backend": True,
        "time": True, "±": True, "TFLOPS": True, "% of peak": peak, "W": watts, "TFLOPS/W": watts, "± ": watts,
        "pJ/FLOP": watts, "MHz": watts,
    }  # fmt: skip
    return [name for name, something in wanted.items() if something]


def _cells(row: Row) -> dict[str, str | Text]:
    return {
        "role": row["role"] or DASH,
        "phase": (row["phase"] or "").replace("_grad", " grad"),
        "M×N×K": _shape(row),
        "dtype": row["dtype"] or DASH,
        "layout": row["layout"] or DASH,
        "backend": row["backend"],
        "time": seconds(row["time_s"]) if row["status"] == "ok" else Text(row["status"], style="red"),
        "±": percent(row["time_s"], row["time_s_low"], row["time_s_high"]),
        "TFLOPS": significant(row["tflops"]),
        "% of peak": DASH if row["peak_fraction"] is None else f"{row['peak_fraction']:.1%}"[:-1],
        "W": DASH if row["power_w"] is None else f"{row['power_w']:.0f}",
        "TFLOPS/W": significant(row["tflops_per_w"]),
        "± ": percent(row["tflops_per_w"], row["tflops_per_w_low"], row["tflops_per_w_high"]),
        "pJ/FLOP": significant(row["pj_per_flop"]),
        "MHz": DASH if row["clock_mhz"] is None else f"{row['clock_mhz']:.0f}",
    }


def _style(row: Row) -> str:
    return "" if row["status"] == "ok" else "dim"


def _shape(row: Row) -> str:
    if row["m"] is None:
        return "one layer" if row["role"] == "sequence" else DASH
    sizes = f"{row['m']}×{row['n']}×{row['k']}"
    return sizes if row["batch"] == 1 else f"{row['batch']}× {sizes}"


def _notes(run: RunFile) -> Iterator[Text]:
    """What could not be measured, and why: one line for each reason, however many records it concerns."""
    sustained = [r for r in run.records if r.status == "ok" and r.case.regime != "burst"]
    if sustained:
        with_energy = sum(record.energy_status in ENERGY_USABLE for record in sustained)
        kind = "imported" if run.header.origin == "imported" else "sustained"
        yield Text(f"{with_energy} of {len(sustained)} {kind} measurements have energy", style="bold")
    energy = Counter(f"{r.energy_status}: {r.energy_reason}" for r in sustained if r.energy_status != "ok")
    status = Counter(f"{r.status}: {r.reason}" for r in run.records if r.status != "ok")
    flags = Counter(flag for r in run.records for flag in getattr(r.measurement, "flags", ()))
    for reason, count in energy.most_common(NOTES_MOST):
        yield Text(printable(f"  {count} × {reason}"))
    for reason, count in status.most_common(NOTES_MOST):
        yield Text(printable(f"  {count} × {reason}"), style="yellow")
    for flag, count in flags.most_common():
        if flag in FLAGS:
            yield Text(f"  {count} × {FLAGS[flag]}", style="yellow")
    chosen = Counter(
        f"{r.case.backend}, {r.settings['config_source']}" for r in run.records if r.settings.get("config_source")
    )
    for source, count in chosen.most_common(NOTES_MOST):
        yield Text(printable(f"  configuration of {count} × {source}"))
    for event in run.events[:EVENTS_MOST]:
        yield Text(printable(f"  {event.at} {event.message}"), style="yellow")
    if run.end is not None and run.end.reason != "done":
        yield Text(printable(f"  ended by {run.end.reason}: {run.end.message}; continue with --resume"), style="yellow")
    faults = Counter(fault.what for fault in check(run))
    for fault, count in faults.most_common(NOTES_MOST):
        yield Text(printable(f"  {count} × {fault}" if count > 1 else f"  {fault}"), style="red")
    if len(faults) > NOTES_MOST:
        yield Text(f"  … and {len(faults) - NOTES_MOST} more kinds of fault: flopwatt check names them", style="red")


FLAGS: Final = {
    "over_25_ms": "one launch alone is longer than a burst's 25 ms",
    "not_captured": "the kernel could not be captured in a CUDA graph: launched one by one, gaps included",
    "shared": "measured beside another process on the GPU",
    "paused": "the measuring process was stopped, or starved, for a moment under load: the interval shows it",
    "power_cap": "the power cap acted during a burst: not an upper bound",
}


def _headline_text(headline: Headline) -> Text:
    """The block that a user reads first: one quantity a line, each with its interval."""
    text = Text("\n")
    what = f"{headline.model or headline.suite}, {headline.dtype}" + (
        f", {_layers(headline.layers)}" if headline.layers else ""
    )
    what += ": a training step's GEMMs" + ("" if headline.inputs == "normal" else f" on {headline.inputs} inputs")
    gpu = headline.gpu if headline.origin == "measured" else f"{headline.gpu} ({headline.origin})"
    what = printable(f"{what} on {gpu} by {headline.backend}")
    text.append(f"{what}\n", style="bold")
    lines = [("TFLOPS", _with_interval(headline.tflops))]
    if headline.power_w and headline.tflops_per_w and headline.pj_per_flop:
        lines += [
            ("W", _with_interval(headline.power_w)),
            ("TFLOPS/W", _with_interval(headline.tflops_per_w)),
            ("pJ/FLOP", significant(headline.pj_per_flop)),
        ]
        if headline.joules_per_token:
            lines.append(
                (
                    "J/token",
                    f"{significant(headline.joules_per_token)} over {headline.tokens} tokens"
                    + (", one layer" if headline.layers == 1 else ""),
                )
            )
    else:
        lines.append(("TFLOPS/W", f"none: {headline.missing_energy} GEMMs have no energy"))
    for name, value in lines:
        text.append(f"  {name:<9}", style="dim")
        text.append(f"{value}\n")
    for note in _headline_notes(headline):
        text.append(f"  {note}\n", style="dim")
    return text


def _headline_notes(headline: Headline) -> Iterator[str]:
    if headline.coverage <= COMPLETE:
        yield f"covers {headline.coverage:.0%} of the suite's FLOPs: the rest was not measured"
    if headline.gap is not None:
        gap = headline.gap
        assert gap.relative.low is not None
        assert gap.relative.high is not None
        yield (
            f"one layer replayed in order: {seconds(gap.replayed_s)}, "
            f"sum of its GEMMs alone: {seconds(gap.summed_s)}, "
            f"gap {gap.relative.value:+.1%} ({gap.relative.low:+.1%} to {gap.relative.high:+.1%})"
        )
    if headline.power_systematic:
        gain = f"{headline.power_systematic * 100:.0f} %"
        yield f"watts: the sensor's gain may be off by {gain} on this board, which is not in the ± above"
    if headline.processes == 1:
        yield "one process: 1 % of run-to-run spread is assumed in the ±; --processes measures it"


def _layers(count: int) -> str:
    return "one layer" if count == 1 else f"{count} layers"


def _with_interval(interval: Interval) -> str:
    half = percent(interval.value, interval.low, interval.high)
    return f"{significant(interval.value)}" + (f" ± {half}" if half != DASH else "")
