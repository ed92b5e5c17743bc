"""Power, clock and temperature over time, as they were read, with what held the clock down."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from flopwatt.analysis.report.page.boards import Board, BoardKey
from flopwatt.analysis.report.page.content import Content, clean
from flopwatt.analysis.report.page.figure import PALETTE, Figure, Spec, colour, figure, form
from flopwatt.runs.records import Record
from flopwatt.runs.samples import PowerTrace, RawMeasurement
from flopwatt.runs.throttling import REASON_HW_SLOWDOWN, REASON_SW_POWER_CAP, REASON_THERMAL, fraction_with

CASES_MOST: Final = 8
"""Cases whose raw readings the page holds."""

READINGS_MOST: Final = 1200
"""Readings of one case; of more, every second, third, …"""

KINDS: Final = (
    ("power cap", REASON_SW_POWER_CAP),
    ("heat", REASON_THERMAL),
    ("hardware slowdown", REASON_HW_SLOWDOWN),
)
"""What may hold the clock down, and its clock-event bits."""

_PANELS: Final = (("power", "W", "power", 170), ("clock", "MHz", "SM clock", 120), ("temp", "°C", "temperature", 120))


@dataclass(frozen=True, slots=True)
class Trace:
    """The readings of one case: its name, its place among those chosen, and a figure for each quantity it has."""

    name: str
    figures: tuple[Figure, ...]
    stride: int


def traces(content: Content) -> list[Trace]:
    """The chosen cases: of every board those that heat slowed or that were unsteady, then the largest; then bursts."""
    chosen: dict[BoardKey, list[tuple[Board | None, Record]]] = {}
    for run in content.runs:
        segments = {segment.segment: segment for segment in run.segments}
        for record in run.records:
            segment = segments.get(record.segment)
            if segment is None or not _readable(record):
                continue
            key = BoardKey(record.origin, segment.environment.gpu, segment.board_id)
            chosen.setdefault(key, []).append((content.boards.get(key), record))
    each = max(1, CASES_MOST // max(1, len(chosen)))
    found = [one for group in chosen.values() for one in _telling(group)[:each]]
    return [_trace(place, board, record) for place, (board, record) in enumerate(found[:CASES_MOST])]


def stacked(trace: Trace, place: int) -> Figure:
    """The panels of one case as one figure, for a file of its own."""
    panels = [{key: part for key, part in panel.spec.items() if key != "params"} for panel in trace.figures]
    spec = {"vconcat": panels, "spacing": 6, "params": trace.figures[0].spec["params"]}
    return Figure(f"trace-{place + 1}", trace.name, "", spec)


def _readable(record: Record) -> bool:
    raw = record.measurement
    return (
        record.status == "ok"
        and isinstance(raw, RawMeasurement)
        and raw.power is not None
        and len(raw.power.t_ns) > 1
        and bool(raw.windows)
    )


def _telling(group: Sequence[tuple[Board | None, Record]]) -> list[tuple[Board | None, Record]]:
    def rank(one: tuple[Board | None, Record]) -> tuple[bool, float, bool, int]:
        record = one[1]
        assert isinstance(record.measurement, RawMeasurement)
        heat = fraction_with(record.measurement, REASON_THERMAL) or 0.0
        return record.case.regime == "burst", -heat, record.energy_status != "unsteady", -record.case.flop

    singles: dict[str, tuple[Board | None, Record]] = {}
    for one in sorted(group, key=rank):
        singles.setdefault(one[1].case_id, one)
    return list(singles.values())


def _trace(place: int, board: Board | None, record: Record) -> Trace:
    raw = record.measurement
    assert isinstance(raw, RawMeasurement)
    assert raw.power is not None
    name = f"{board.label if board else 'unknown machine'}: {clean(record.case.label)}, {clean(record.case.inputs)}"
    origin_ns = raw.windows[0].start_ns
    stride = -(-len(raw.power.t_ns) // READINGS_MOST)
    times = [round((t - origin_ns) * 1e-9, 4) for t in raw.power.t_ns]
    windows = [{"a": (w.start_ns - origin_ns) * 1e-9, "b": (w.end_ns - origin_ns) * 1e-9} for w in raw.windows]
    spans = list(_spans(raw.power, times))
    columns = {
        "power": _readings(raw.power.instant_mw, 1e-3) or _readings(raw.power.average_mw, 1e-3),
        "clock": _readings(raw.power.clock_mhz, 1.0),
        "temp": _readings(raw.power.temp_c, 1.0),
    }
    panels = []
    for key, unit, title, height in _PANELS:
        points = [{"t": t, "v": v} for t, v in list(zip(times, columns[key], strict=False))[::stride] if v is not None]
        if points:
            panel = f"trace-{place + 1}-{key}"
            panels.append(_panel(panel, f"{title}: {name}", f"{title}, {unit}", points, windows, spans, height, times))
    if spans:
        panels.append(_reasons(f"trace-{place + 1}-reasons", name, spans, times))
    return Trace(name, tuple(panels), stride)


def _readings(values: Sequence[int | None], scale: float) -> list[float | None]:
    return [None if value is None else value * scale for value in values] if any(values) else []


def _spans(power: PowerTrace, times: Sequence[float]) -> Iterator[Spec]:
    """The stretches of polls in which a reason was set, each to the next poll."""
    if not power.reasons:
        return
    for kind, bits in KINDS:
        start: float | None = None
        for t, reasons in zip(times, power.reasons, strict=True):
            held = bool((reasons or 0) & bits)
            if held and start is None:
                start = t
            elif not held and start is not None:
                yield {"a": start, "b": t, "kind": kind}
                start = None
        if start is not None:
            yield {"a": start, "b": times[-1], "kind": kind}


def _time(times: Sequence[float], title: str | None) -> Spec:
    scale = {"domain": [times[0], times[-1]], "nice": False}
    return {"field": "t", "type": "quantitative", "scale": scale, "axis": {"title": title, "grid": False}}


def _shaded(data: Sequence[Spec], x: Spec, **look: Any) -> Spec:
    encoding = {"x": {**x, "field": "a"}, "x2": {"field": "b"}, **look.pop("encoding", {})}
    return {"data": {"values": list(data)}, "mark": {"type": "rect", "clip": True, **look}, "encoding": encoding}


def _panel(
    name: str, title: str, unit: str, points: Sequence[Spec], windows: Sequence[Spec], spans: Sequence[Spec],
    height: int, times: Sequence[float],
) -> Figure:  # fmt: skip
    x = _time(times, None)
    y = {
        "field": "v", "type": "quantitative", "scale": {"zero": False},
        "axis": {"title": unit, "tickCount": 4, "tickMinStep": 1, "minExtent": 44, "maxExtent": 44},
    }  # fmt: skip
    by = {**colour("kind", None, [kind for kind, _ in KINDS]), "legend": None}
    by["scale"] = {"domain": [kind for kind, _ in KINDS], "range": ["#E69F00", "#D55E00", "#CC79A7"]}
    layers = [
        _shaded(spans, x, opacity=0.16, encoding={"fill": by}),
        _shaded(windows, x, fillOpacity=0, stroke={"expr": "faint"}, strokeDash=[4, 3]),
        {
            "mark": {"type": "line", "interpolate": "step-after", "color": PALETTE[0], "strokeWidth": 1.5},
            "encoding": {"x": x, "y": y},
        },
        {
            "mark": {"type": "point", "filled": True, "size": 9, "color": PALETTE[0], "opacity": 0.8},
            "encoding": {"x": x, "y": y},
        },
    ]
    return figure(name, title, f"{unit} at each poll", points, layers, height)


def _reasons(name: str, title: str, spans: Sequence[Spec], times: Sequence[float]) -> Figure:
    """A strip for each reason: where it stands tells it, not its colour alone."""
    kinds = [kind for kind, _ in KINDS]
    shown = [kind for kind in kinds if any(span["kind"] == kind for span in spans)]
    y = {
        "field": "kind", "type": "nominal", "sort": shown,
        "axis": {
            "title": "\u00a0", "minExtent": 44, "maxExtent": 44, "labelAlign": "left", "labelPadding": -6,
            "ticks": False, "zindex": 1,
        },
    }  # fmt: skip
    by = form("kind", None, shown)
    by["scale"] = {"domain": kinds, "range": ["#E69F00", "#D55E00", "#CC79A7"]}
    strip = _shaded(
        spans, _time(times, "seconds from the start of the measured window"), opacity=0.55,
        encoding={"y": y, "fill": {**by, "legend": None}},
    )  # fmt: skip
    return figure(name, f"held down: {title}", "What held the clock down", spans, [strip], 24 * len(shown) + 4)
