"""The headline: one card for each training step and backend, or for each board where no step was measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from flopwatt.analysis.headline import COMPLETE, Headline
from flopwatt.analysis.report.comparison_words import share
from flopwatt.analysis.report.page.boards import Board, BoardKey
from flopwatt.analysis.report.page.content import Content, clean
from flopwatt.analysis.report.page.markup import Tag, join, tag
from flopwatt.analysis.report.page.table import shape
from flopwatt.analysis.report.quantities import DASH, percent, significant
from flopwatt.runs.stats import Interval

CARDS_MOST: Final = 12
"""Cards on the page; of more headlines, those on normal operands first."""

Prices = Mapping[BoardKey, float]


def cards(content: Content, prices: Prices) -> Tag:
    """All cards; and how many headlines were left out."""
    ordered = sorted(content.headlines, key=lambda headline: headline.inputs != "normal")
    shown = [_card(content, headline, prices) for headline in ordered[:CARDS_MOST]]
    with_step = {(h.origin, h.gpu, h.board_id) for h in content.headlines}
    shown += [_fastest(content, board, prices) for board in content.boards.values() if board.key not in with_step]
    left = len(ordered) - CARDS_MOST
    more = tag("p", f"{left} more headlines are left out here: flopwatt show prints all.") if left > 0 else None
    return join(tag("div", *shown, class_="cards"), more)


def _card(content: Content, one: Headline, prices: Prices) -> Tag:
    board = content.board(one)
    facts = [_figure("TFLOPS", significant(one.tflops.value), _ends(one.tflops), "big")]
    if one.power_w and one.tflops_per_w:
        facts += [
            _figure("TFLOPS/W", significant(one.tflops_per_w.value), _ends(one.tflops_per_w), "big"),
            _figure("W", significant(one.power_w.value), _ends(one.power_w)),
            _figure("pJ/FLOP", significant(one.pj_per_flop), None),
        ]
    else:
        facts.append(_figure("TFLOPS/W", DASH, f"{one.missing_energy} GEMMs have no energy", "big"))
    if one.joules_per_token:
        layers = ", one layer" if one.layers == 1 else ""
        facts.append(_figure("J/token", significant(one.joules_per_token), f"{one.tokens:,} tokens a step{layers}"))
    facts.append(_dollars(board, one.tflops.value, prices))
    words = [clean(one.model or one.suite), clean(one.dtype), f"by {clean(one.backend)}"]
    words += [] if one.inputs == "normal" else [f"{clean(one.inputs)} operands"]
    words += [f"{one.layers} layers" if one.layers != 1 else "one layer"] if one.layers else []
    words.append(f"{one.processes} process{'es' if one.processes > 1 else ''}")
    return tag(
        "article",
        _heading(board),
        tag("p", "A training step of ", ", ".join(words), class_="what"),
        tag("dl", *facts),
        *(tag("p", note, class_="note") for note in _notes(one)),
        class_="card",
    )


def _heading(board: Board | None) -> Tag:
    if board is None:
        return tag("h3", "unknown machine")
    badge = None if board.measured else tag("span", board.key.origin, class_="badge")
    return tag("h3", board.label.removesuffix(f"({board.key.origin})").strip(), " ", badge)


def _figure(unit: str, value: str, detail: str | None, class_: str | None = None) -> Tag:
    inside = join(tag("dt", unit), tag("dd", tag("b", value), tag("small", detail) if detail else None))
    return tag("div", inside, class_=class_)


def _ends(interval: Interval) -> str | None:
    half = percent(interval.value, interval.low, interval.high)
    if half == DASH or interval.low is None:
        return None
    return f"{significant(interval.low)}–{significant(interval.high)} (± {half})"


def _dollars(board: Board | None, tflops: float, prices: Prices) -> Tag:
    price = prices.get(board.key) if board else None
    if board is None or price is None:
        name = board.name if board else "GPU"
        hint = join("no price given: ", tag("code", f"--price '{name}=USD_PER_HOUR'"))
        return tag("div", tag("dt", "TFLOPS per $/h"), tag("dd", tag("b", DASH), tag("small", hint)))
    exaflop = tflops * 3600e-6 / price
    return _figure(
        "TFLOPS per $/h", significant(tflops / price), f"{significant(exaflop)} EFLOP a dollar at ${price:.2f} an hour"
    )


def _notes(one: Headline) -> Iterator[str]:
    if one.coverage <= COMPLETE:
        yield f"Covers {share(one.coverage)} of the step's FLOPs: the rest was not measured."
    if one.power_systematic and one.power_w:
        gain = share(one.power_systematic)
        yield f"The sensor's gain may be off by {gain} on this board, which is not in the intervals."
    if one.processes == 1:
        yield "One process: 1 % of run-to-run spread is assumed."
    if one.gap is not None:
        gap = f"{one.gap.relative.value * 100:+.1f} %"
        yield f"One layer replayed in order takes {gap} against the sum of its GEMMs alone."


def _fastest(content: Content, board: Board, prices: Prices) -> Tag:
    """For files without a training step: the highest of a board's cases, called just that."""
    rows = [row for row in content.cases if row["board"] == board.label and row["tflops"]]
    shown = " shown" if content.left_out else ""
    facts = []
    for unit, column in (("highest TFLOPS", "tflops"), ("highest TFLOPS/W", "tflops_per_w")):
        best = max((row for row in rows if row[column]), key=lambda row: row[column], default=None)
        if best is None:
            facts.append(_figure(unit, DASH, "no watts in these files" if rows else "nothing was timed", "big"))
            continue
        half = percent(best[column], best[f"{column}_low"], best[f"{column}_high"])
        regime = "regime unknown" if best["regime"] == "unknown" else best["regime"]
        case = f"{shape(best)} {best['dtype'] or ''} by {best['backend']}, {regime}"
        facts.append(_figure(unit, significant(best[column]), case + (f" (± {half})" if half != DASH else ""), "big"))
    if rows:
        facts.append(_dollars(board, max(row["tflops"] for row in rows), prices))
    return tag(
        "article",
        _heading(board),
        tag("p", f"No training step in these files; the highest of {len(rows):,} cases{shown}", class_="what"),
        tag("dl", *facts),
        class_="card",
    )
