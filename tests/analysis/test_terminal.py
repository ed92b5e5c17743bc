"""What a person sees: the figures with their units, dashes with reasons, and no control codes from data."""

from __future__ import annotations

import io
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

import pytest
from rich.console import Console
from synthetic import H100, header, measurement, record, segment

from flopwatt.analysis.processes import merge
from flopwatt.analysis.report.terminal import run_view
from flopwatt.runs.records import End, Event, Record, Segment
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import run_rows


def text(
    *records: Record, events: tuple[Event, ...] = (), machine: Segment | None = None, end: End | None = None
) -> str:
    run = RunFile(Path("x"), header(records), (machine or segment(),), records, events, end)
    out = io.StringIO()
    Console(file=out, width=200, color_system=None, highlight=False).print(run_view(run))
    return out.getvalue()


def test_the_row_holds_time_tflops_watts_and_their_quotient() -> None:
    shown = text(record())
    row = next(line for line in shown.splitlines() if "4096×4096×4096" in line)
    assert row.split()[:6] == ["qkv", "forward", "4096×4096×4096", "bf16", "nt", "torch"]
    assert row.split()[6:13] == ["1.000", "ms", "2.0", "%", "137", "13.9", "500"]
    assert row.split()[13] == "0.275"
    assert row.split()[16:] == ["3.64", "1500"]
    assert "1 of 1 sustained measurements have energy" in shown
    assert "the sensor's gain may be off by 5 %" in shown


def test_rows_without_watts_have_dashes_and_one_reason_for_all() -> None:
    silent = [
        record(i, energy_status="unsupported", energy_reason="counter: NOT_SUPPORTED", process=i) for i in range(3)
    ]
    shown = text(*silent)
    assert "0 of 3 sustained measurements have energy" in shown
    assert shown.count("counter: NOT_SUPPORTED") == 1
    assert "3 × unsupported" in shown
    assert "none: 1 GEMMs have no energy" in shown


def test_idle_power_after_the_load_stands_beside_that_before_it() -> None:
    end = End(at="2026-11-22T09:00:00Z", reason="done", idle_after_w=131.6)
    with_context = segment(idle_context_w=95.4)
    assert "idle 70 W (95 W with a context, 132 W after the load)" in text(record(), machine=with_context, end=end)
    unread = End(at="2026-11-22T09:00:00Z", reason="done", idle_after_reason="the power sensor answered nothing")
    for other in (unread, None):
        assert "after the load" not in text(record(), machine=with_context, end=other)
    assert "after the load" not in text(record(), end=end)


def test_failed_rows_say_so_and_why() -> None:
    shown = text(record(), record(1, status="failed", reason="wrong result: relative error 0.1", measurement=None))
    assert "failed" in shown
    assert "1 × failed: wrong result: relative error 0.1" in shown


def test_a_simulated_run_never_looks_measured() -> None:
    records = (record(),)
    run = RunFile(Path("x"), header(records, origin="simulated"), (segment(),), records)
    out = io.StringIO()
    Console(file=out, width=200, color_system=None).print(run_view(run))
    assert "simulated: not a measurement of any real GPU" in out.getvalue()


def test_hostile_text_stays_text() -> None:
    import msgspec

    evil = "\x1b[31mred[bold]x[/bold]\x07"
    machine = segment(environment=msgspec.structs.replace(H100, gpu=evil))
    shown = text(record(reason=None), events=(Event(at="x", what="y", message=evil),), machine=machine)
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[bold]x[/bold]" in shown


def test_processes_are_merged_with_the_interval_of_their_scatter() -> None:
    records = tuple(record(i, process=i, measurement=measurement(launch_ms=ms)) for i, ms in enumerate((1.0, 1.1, 1.2)))
    run = RunFile(Path("x"), header(records), (segment(),), records)
    (merged,) = merge(run_rows(run))
    assert merged["processes"] == 3
    assert merged["time_s"] == pytest.approx(1.1e-3, rel=1e-2)
    assert merged["time_s_high"] - merged["time_s"] == pytest.approx(4.303 * 1e-4 / 3**0.5, rel=0.05)


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_narrow_terminal_loses_columns_but_no_figures(width: int) -> None:
    records = (record(),)
    run = RunFile(Path("x"), header(records), (segment(),), records)
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False).print(run_view(run))
    lines = out.getvalue().splitlines()
    row = next(line for line in lines if "4096×4096×4096" in line)
    assert "…" not in row
    assert "0.275" in row.split()
    assert ("pJ/FLOP" in next(line for line in lines if line.startswith("role"))) == (width == 200)
