"""A comparison on a terminal: totals, cases, what was left out, and one sentence that says what came of it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from flopwatt.analysis.comparing.comparison import CaseComparison, Comparison, RunComparison
from flopwatt.analysis.comparing.ratios import Ratio
from flopwatt.analysis.comparing.sides import CaseSide
from flopwatt.analysis.comparing.totals import SuiteComparison
from flopwatt.analysis.report.comparison_words import MOST_NAMED, conclusion, interval, notes, times
from flopwatt.analysis.report.quantities import DASH, seconds, significant
from flopwatt.runs.store import RunFile
from flopwatt.text import printable

MOST_CASES: Final = 200
"""Cases in the table; of more, those that changed most. csv and json hold all."""

FILES_MOST: Final = 4
"""Files of a side that are named one by one."""

GAINS: Final = "± gains"
UNITS: Final = {"time": "time", "tflops": "TFLOPS", "power": "W", "energy": "J of a launch", "tflops-per-w": "TFLOPS/W"}
OTHERS: Final = {"time": "speedup", "power": "W", "tflops-per-w": "TFLOPS/W"}
COLOURS: Final = {"faster": "green", "better": "green", "slower": "red", "worse": "red", "inconclusive": "yellow"}
TEXT_COLUMNS: Final = ("suite", "role", "dtype", "layout", "backend", "verdict", "note")
DROPPED_FIRST: Final = ("layout", "W", "note", "dtype", "backend", "TFLOPS/W", "speedup", "role", GAINS, "BASE", "NEW")
UNBOUNDED: Final = 10_000


def view(result: RunComparison) -> RenderableType:
    """All of a comparison: both sides, cases, totals, notes, conclusion."""
    parts: list[RenderableType] = [_side("BASE", result.base), _side("NEW", result.new), Text()]
    groups: dict[str, list[CaseComparison]] = defaultdict(list)
    for case in _most_changed(result):
        groups[_setting(case)].append(case)
    for title, cases in groups.items():
        rows = [_case_cells(result, case) for case in cases]
        parts += [_Fitted(f"{UNITS[result.options.metric]}, {title}", rows), Text()]
    if result.suites:
        rows = [_suite_cells(result, suite) for suite in result.suites]
        parts += [_Fitted("totals of one step, each GEMM by its count", rows), Text()]
    if len(result.cases) > MOST_CASES:
        more = len(result.cases) - MOST_CASES
        parts.append(Text(f"{more:,} more cases changed less than these: --format csv lists all"))
    parts += [*_only("BASE", result.only_base), *_only("NEW", result.only_new)]
    parts += [Text(printable(note), style="dim") for note in notes(result)]
    parts += [Text(), *(Text(printable(sentence), style="bold") for sentence in conclusion(result))]
    return Group(*parts)


def _side(name: str, runs: Sequence[RunFile]) -> Text:
    text = Text.assemble((f"{name:<5}", "bold"))
    last = next((run.segments[-1] for run in reversed(runs) if run.segments), None)
    if last is not None:
        environment = last.environment
        facts = [environment.gpu]
        facts += [
            f"{name} {environment.versions[name]}" for name in ("torch", "triton") if name in environment.versions
        ]
        facts += [f"driver {environment.driver}"] if environment.driver else []
        facts += [f"limit {environment.power_limit_mw / 1000:.0f} W"] if environment.power_limit_mw else []
        boards = {segment.board_id for run in runs for segment in run.segments} - {None}
        facts += [f"{len(boards)} boards"] if len(boards) > 1 else [f"board {last.board_id}"] if boards else []
        text.append(printable(", ".join(facts)), style="")
    text.append(printable(f"  {_named(runs)}"), style="dim")
    origins = sorted({run.header.origin for run in runs} - {"measured"})
    if origins:
        text.append(f"  {', '.join(origins)}", style="yellow")
    return text


def _named(runs: Sequence[RunFile]) -> str:
    """The files, or their folders where there are many."""
    if len(runs) <= FILES_MOST:
        return ", ".join(str(run.path) for run in runs)
    return f"{len(runs):,} files in {', '.join(sorted({str(run.path.parent) for run in runs}))}"


def _most_changed(result: RunComparison) -> Sequence[CaseComparison]:
    """The cases in BASE's order; of too many, those whose metric changed most, failures before all."""
    if len(result.cases) <= MOST_CASES:
        return result.cases

    def change(case: CaseComparison) -> float:
        found = case.ratio(result.options.metric)
        return abs(math.log(found.value)) if found else math.inf if case.newly_failed else -1.0

    return sorted(result.cases, key=change, reverse=True)[:MOST_CASES]


def _setting(case: CaseComparison) -> str:
    base, new = case.base.identity, case.new.identity
    regime, inputs, cache = (_both(getattr(base, name), getattr(new, name)) for name in ("regime", "inputs", "cache"))
    return printable(f"{regime}, {inputs} inputs" + ("" if cache == "rotating" else f", {cache} cache"))


def _both(base: str | None, new: str | None) -> str:
    return (base or DASH) if base == new else f"{base or DASH} → {new or DASH}"


def _case_cells(result: RunComparison, case: CaseComparison) -> dict[str, str | Text]:
    one, other = case.base.identity, case.new.identity
    use = next(iter(case.new.uses or case.base.uses), None)
    sizes = "one layer" if one.m is None else f"{one.m}×{one.n}×{one.k}"
    role = f"{use.role} {(use.phase or '').replace('_grad', ' grad')}".strip() if use else DASH
    return {
        "role": printable(role),
        "M×N×K": sizes if one.batch in (None, 1) else f"{one.batch}× {sizes}",
        "dtype": _both(one.dtype, other.dtype),
        "layout": _both(one.layout, other.layout),
        "backend": printable(_both(case.base.identity.backend, case.new.identity.backend)),
        **_quantities(result, case),
        "note": printable(_note(case)),
    }


def _suite_cells(result: RunComparison, suite: SuiteComparison) -> dict[str, str | Text]:
    left_out = f", {suite.left_out} left out" if suite.left_out else ""
    return {
        "suite": printable(suite.key.suite),
        "dtype": printable(suite.dtype),
        "backend": printable(_both(*suite.backends)),
        "GEMMs": f"{suite.cases}{left_out}",
        **_quantities(result, suite),
        "note": printable("" if suite.key.inputs == "normal" else f"{suite.key.inputs} inputs"),
    }


def _quantities(result: RunComparison, of: CaseComparison | SuiteComparison) -> dict[str, str | Text]:
    metric = result.options.metric
    found = result.judged(of)
    gains = found.systematic if found else 0.0
    cells: dict[str, str | Text] = {
        "BASE": _value(found, "base"),
        "NEW": _value(found, "new"),
        "NEW/BASE": times(found.ratio) if found else DASH,
        "95 %": interval(found.interval) if found else DASH,
        GAINS: "unknown" if gains is None else f"{gains:.1%}".replace("%", " %") if gains else "",
    }
    for other, name in OTHERS.items():
        if other != metric or other == "time":
            cells[name] = _other(of.ratio(other), invert=other == "time")
    cells["verdict"] = Text(found.verdict, style=COLOURS.get(found.verdict, "")) if found else Text(DASH)
    return cells


def _other(found: Ratio | None, invert: bool) -> str:
    if found is None:
        return DASH
    return times(1 / found.value if invert else found.value)


def _value(found: Comparison | None, side: str) -> str:
    if found is None:
        return DASH
    value: float = getattr(found, side)
    return seconds(value) if found.metric == "time" else significant(value)


def _note(case: CaseComparison) -> str:
    told = [f"{side.failure} in {name}" for name, side in (("BASE", case.base), ("NEW", case.new)) if side.failure]
    if not told:
        if case.base.effort != case.new.effort:
            told.append(f"effort {_both(case.base.effort, case.new.effort)}")
        if case.base.config != case.new.config:
            told.append("config differs")
        statuses = {s.energy_status for side in (case.base, case.new) for s in side.metered} - {"ok"}
        told += [f"energy {status}" for status in sorted(statuses)]
    return ", ".join(told)


def _only(name: str, sides: Sequence[CaseSide]) -> Iterator[Text]:
    if sides:
        named = "; ".join(side.identity.label for side in sides[:MOST_NAMED])
        more = f"; and {len(sides) - MOST_NAMED:,} more" if len(sides) > MOST_NAMED else ""
        count = f"{len(sides):,} case{'s' if len(sides) > 1 else ''}"
        yield Text(printable(f"only in {name}, {count}: {named}{more}"), style="yellow")


class _Fitted:
    """A table without the columns that say nothing, and without the least missed ones until it fits the terminal."""

    def __init__(self, title: str, rows: Sequence[dict[str, str | Text]]) -> None:
        self._title = title
        self._rows = rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        wide = options.update(width=UNBOUNDED)
        columns = list(self._telling())
        table = self._table(columns)
        for least_missed in DROPPED_FIRST:
            if Measurement.get(console, wide, table).maximum <= options.max_width:
                break
            columns = [name for name in columns if name != least_missed]
            table = self._table(columns)
        yield table

    def _telling(self) -> Iterator[str]:
        for name in self._rows[0]:
            if any(str(row[name]) not in ("", DASH) for row in self._rows):
                yield name

    def _table(self, columns: Sequence[str]) -> Table:
        table = Table(
            title=self._title, title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 1)
        )
        for name in columns:
            table.add_column(name, justify="left" if name in TEXT_COLUMNS else "right", no_wrap=name != "note")
        for row in self._rows:
            table.add_row(*(row[name] for name in columns))
        return table
