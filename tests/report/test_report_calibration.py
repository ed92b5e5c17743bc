"""A calibration on the page: its held-out errors as tables, its residuals as figures, and what it is from."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pages import full_run, library, opened

sys.path.insert(0, str(Path(__file__).parents[1] / "calibrate"))
from made_up_gpu import CHIP, IDLE_W, points

from flopwatt.analysis.calibrate import fitting
from flopwatt.analysis.calibrate.calibrating import from_spec_sheet
from flopwatt.analysis.calibrate.records import CalibrationFile, Source
from flopwatt.analysis.report.page import residuals
from flopwatt.analysis.report.page.content import gather
from flopwatt.analysis.report.page.document import draw, html


@pytest.fixture(scope="module")
def file() -> CalibrationFile:
    bf16 = fitting.fit(points(60), CHIP, "bf16", chip_source="made up", idle_w=IDLE_W, limit_w=500.0)
    fp16 = msgspec.structs.replace(bf16, dtype="fp16", left_out={"failed or skipped": 3})
    source = Source(
        file="run.jsonl", run_id="a" * 32, sha256="b" * 64, origin="imported", created="2026-11-22T00:00:00Z",
        gpu="Made-up 100", licence="CC0-1.0",
    )  # fmt: skip
    return CalibrationFile(
        gpu="Made-up <i>100</i>", origin="imported", created="2026-11-22T00:00:00Z", flopwatt="0.1.0",
        commit="c" * 40, sources=(source,), fitted=(bf16, fp16),
    )  # fmt: skip


def page_of(*files: CalibrationFile) -> str:
    content = gather([full_run()])
    return html(content, draw(content, files), {}, library(), "flopwatt 0.1.0, today")


def values(figure: residuals.Figure) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = figure.spec["data"]["values"]
    return found


def test_residuals_are_predicted_over_measured_by_size_and_format(file: CalibrationFile) -> None:
    figures = {figure.name: figure for figure in residuals.figures(file, 2)}
    assert list(figures) == [
        "residuals-time-2", "residual-spread-time-2", "residuals-power-2", "residual-spread-power-2",
        "residual-sites-2",
    ]  # fmt: skip
    one = file.fitted[0]
    drawn = values(figures["residuals-time-2"])
    assert {value["dtype"] for value in drawn} == {"bf16", "fp16"}
    assert len(drawn) == 2 * one.points
    place = one.measured_s.index(max(one.measured_s))
    batch, m, n, k = one.shapes[place]
    value = next(value for value in drawn if f"{m}×{n}×{k}" in value["t"])
    assert value["x"] == pytest.approx(2 * batch * m * n * k * 1e-9)
    assert value["y"] == pytest.approx(one.held_out_s[place] / one.measured_s[place] - 1, abs=1e-5)
    watts = values(figures["residuals-power-2"])
    assert sum(abs(value["y"]) for value in watts) / len(watts) * 100 == pytest.approx(one.errors_power.mape, rel=1e-3)
    spread = values(figures["residual-spread-time-2"])
    assert sum(value["dtype"] == "bf16" for value in spread) == len(one.errors_time.by_size)
    assert all(v["low"] <= v["lower"] <= v["middle"] <= v["upper"] <= v["high"] for v in spread)
    assert len(values(figures["residual-sites-2"])) == 2 * len(one.errors_time.by_site)


def test_of_many_points_a_sample_is_drawn_and_said(file: CalibrationFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(residuals, "POINTS_MOST", 30)
    figure = next(residuals.figures(file, 1))
    assert 20 <= len(values(figure)) <= 40
    assert f"of {2 * file.fitted[0].points} shapes" in figure.caption


def test_size_classes_have_names() -> None:
    assert [residuals.size_name(size) for size in (0.0, 0.01, 16.0, 1024.0)] == [
        "< 0.01",
        "0.01–0.1",
        "16–64",
        "≥ 1024",
    ]


def test_the_section_holds_errors_coverage_and_sources(file: CalibrationFile) -> None:
    page = page_of(file)
    section = page[page.index('<section id="predictions"') : page.index('<section id="over-time"')]
    one = file.fitted[0].errors_time
    assert one is not None
    assert f"<td>{one.mape:.1f} %</td>" in section
    assert f"<td>{one.coverage * 100:.1f} %</td>" in section
    assert "fp16: 3 rows left out: failed or skipped" in section
    assert "run.jsonl (imported, run aaaaaaaa, SHA-256 bbbbbbbbbbbb, licence CC0-1.0)" in section
    assert f"commit {'c' * 40}" in section
    assert "Made-up &lt;i&gt;100&lt;/i&gt; (imported)" in section
    assert "<i>100</i>" not in section
    assert len(re.findall('id="plot-resid[^"]*-1"', section)) == 5


def test_a_spec_sheet_says_what_it_is_and_a_page_without_calibration_has_no_section() -> None:
    page = page_of(from_spec_sheet("H100-SXM5-80GB", "0.1.0"))
    assert "unvalidated: fp32, tf32, bf16" in page
    assert "plot-residual" not in page
    assert 'id="predictions"' not in page_of()


@pytest.mark.parametrize("width", [1200, 390])
def test_the_figures_are_drawn_without_a_word_on_the_console(
    browser: Any, file: CalibrationFile, tmp_path: Path, width: int
) -> None:
    path = tmp_path / "page.html"
    path.write_text(page_of(file), encoding="utf-8")
    with opened(browser, path, width) as watched:
        canvases = watched.page.query_selector_all("#predictions .plot canvas")
        assert len(canvases) == 5
        assert all(canvas.bounding_box()["height"] > 150 for canvas in canvases)
        assert watched.logged == []
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
