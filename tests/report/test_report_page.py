"""The page in a real browser: drawn, quiet, sorted by keyboard, dark, on paper, on a phone, under attack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pages import (
    A100,
    BLANK,
    HOSTILE,
    board,
    case,
    cells,
    full_run,
    of,
    opened,
    page_of,
    run,
    simulated,
    table,
    use,
)

from flopwatt.runs.records import Event


@pytest.fixture(scope="module")
def page_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page_of(full_run("a100", A100, 0.4), full_run()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shown(browser: Any, page_path: Path) -> Iterator[Any]:
    with opened(browser, page_path) as watched:
        yield watched


def write(folder: Path, text: str) -> Path:
    path = folder / "page.html"
    path.write_text(text, encoding="utf-8")
    return path


def test_it_loads_without_a_word_on_the_console_and_without_a_request(shown: Any, page_path: Path) -> None:
    assert shown.logged == []
    assert shown.requests == [page_path.as_uri()]


def test_every_figure_is_drawn(shown: Any) -> None:
    names = {one.get_attribute("id"): one for one in shown.page.query_selector_all(".plot[id]")}
    assert set(names) == {
        "plot-speedup", "plot-watt-gain", "plot-roofline", "plot-efficiency", "plot-per-watt", "plot-cublas",
        "plot-regimes", "plot-inputs",
    }  # fmt: skip
    for name, place in names.items():
        assert place.query_selector("canvas").evaluate(BLANK) > 200, name
    traces = shown.page.query_selector_all("#traces .plot:not([hidden]) canvas")
    assert len(traces) == 4
    assert all(canvas.evaluate(BLANK) > 200 for canvas in traces)


def test_nothing_but_the_pages_own_scripts_runs(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as watched:
        policy = watched.page.get_attribute("meta[http-equiv=Content-Security-Policy]", "content")
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        watched.page.evaluate(
            "() => { const s = document.createElement('script'); s.textContent = 'window.foreign = 1';"
            " document.body.append(s); const i = new Image(); i.src = 'https://example.org/x.png'; }"
        )
        assert watched.page.evaluate("window.foreign") is None
        fetched = watched.page.evaluate("fetch('https://example.org/').then(() => 'reached', () => 'refused')")
        assert fetched == "refused"
        refusals = [line for line in watched.logged if "Content Security Policy" in line]
        assert [
            word for word in ("inline script", "image", "example.org/'") if not any(word in r for r in refusals)
        ] == []


def test_sorting_by_keyboard(shown: Any) -> None:
    page = shown.page
    heading = page.locator("#table th", has_text="TFLOPS").first
    heading.locator("button").focus()
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    figures = [float(text) for text in cells(page, "TFLOPS")]
    assert figures == sorted(figures, reverse=True)
    page.keyboard.press("Space")
    assert heading.get_attribute("aria-sort") == "ascending"
    figures = [float(text) for text in cells(page, "TFLOPS")]
    assert figures == sorted(figures)
    watts = page.locator("#table th", has_text="pJ/FLOP")
    watts.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") is None
    page.locator("#last").press("Enter")
    assert cells(page, "pJ/FLOP")[-1] == "", "rows without a figure come last, whichever way"


def test_filtering_by_keyboard(shown: Any) -> None:
    page = shown.page
    box = page.locator("#filter")
    box.focus()
    page.keyboard.type("h100 ZEROS dtype=bf16")
    assert page.inner_text("#shown") == "1 to 8 of 8 rows (of 96 in all)"
    assert set(cells(page, "inputs")) == {"zeros"}
    assert set(cells(page, "dtype")) == {"bf16"}
    box.fill("tflops>200 time<1ms")
    kept = [float(text) for text in cells(page, "TFLOPS")]
    assert kept
    assert min(kept) > 200
    assert all(text.endswith("µs") for text in cells(page, "time"))
    box.fill("no such thing")
    assert page.inner_text("#shown") == "0 rows (of 96 in all)"
    box.fill("")
    assert page.inner_text("#shown") == "1 to 50 of 96 rows"
    page.locator("#next").press("Enter")
    assert page.inner_text("#shown") == "51 to 96 of 96 rows"
    assert page.locator("#next").is_disabled()


def test_hover_names_the_case(shown: Any) -> None:
    canvas = shown.page.locator("#plot-roofline canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    point = canvas.evaluate(
        """(canvas) => {
            const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
            for (let y = canvas.height - 60; y > 80; y -= 1) for (let x = 80; x < canvas.width; x += 1) {
                const i = 4 * (y * canvas.width + x);
                if (data[i] < 60 && data[i + 1] > 90 && data[i + 1] < 150 && data[i + 2] > 160 && data[i + 3] > 200)
                    return [x / canvas.width, y / canvas.height];
            }
        }"""
    )
    shown.page.mouse.move(box["x"] + point[0] * box["width"], box["y"] + point[1] * box["height"])
    shown.page.wait_for_selector("#hover:not([hidden])")
    text = shown.page.inner_text("#hover")
    assert "×4096×4096" in text
    assert "A100-SXM4-80GB" in text
    assert "TFLOPS" in text
    shown.page.mouse.move(2, 2)
    shown.page.wait_for_selector("#hover", state="hidden")


def test_another_case_over_time(shown: Any) -> None:
    before = shown.page.evaluate("document.querySelector('#traces canvas').toDataURL()")
    shown.page.select_option("#trace", index=1)
    shown.page.wait_for_function(
        "before => { const c = document.querySelector('#traces canvas'); return c && c.toDataURL() !== before; }",
        arg=before,
    )


def test_a_figure_can_be_saved(shown: Any) -> None:
    with shown.page.expect_download() as download:
        shown.page.locator("[data-save=roofline]").press("Enter")
    assert download.value.suggested_filename == "roofline.png"
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")
    assert shown.logged == []


def test_skip_link_and_focus(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path) as watched:
        watched.page.keyboard.press("Tab")
        assert watched.page.evaluate("document.activeElement.className") == "skip"
        assert watched.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        watched.page.keyboard.press("Enter")
        assert watched.page.evaluate("document.activeElement.id") == "content"


GRID = """() => {
    const canvas = document.querySelector('#plot-roofline canvas');
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let light = 0, dark = 0;
    for (let i = 0; i < data.length; i += 4) {
        if (data[i + 3] < 250) continue;
        if (Math.min(data[i], data[i + 1], data[i + 2]) > 200) light += 1;
        if (Math.max(data[i], data[i + 1], data[i + 2]) < 60) dark += 1;
    }
    return light > dark ? 'light' : 'dark';
}"""
"""Whether the grid of a figure, most of what is painted in it, is light or dark."""


def test_dark_follows_the_system_and_the_button(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path, color_scheme="dark") as watched:
        page = watched.page
        paper = "getComputedStyle(document.body).backgroundColor"
        assert page.evaluate(paper) == "rgb(20, 23, 26)"
        assert page.evaluate(GRID) == "dark"
        page.locator("#theme").press("Space")
        assert page.evaluate(paper) == "rgb(255, 255, 255)"
        assert page.evaluate(GRID) == "light"
        assert page.get_attribute("#theme", "aria-pressed") == "false"
        page.locator("#theme").press("Space")
        assert page.evaluate(GRID) == "dark"
        assert watched.logged == []


def test_paper_is_white_whatever_the_screen_was(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path, color_scheme="dark") as watched:
        page = watched.page
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.evaluate(GRID) == "light"
        page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert page.evaluate(GRID) == "dark"
        page.emulate_media(media="print", color_scheme="dark")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert not page.is_visible("nav")
        assert not page.is_visible("#theme")
        pdf = page.pdf(format="A4")
        assert pdf.startswith(b"%PDF")
        assert 4 <= pdf.count(b"/Type /Page\n") <= 20


def test_phone_width_scrolls_only_down(browser: Any, page_path: Path) -> None:
    with opened(browser, page_path, width=360) as watched:
        assert watched.page.evaluate("document.documentElement.scrollWidth") == 360
        assert watched.page.evaluate("document.querySelector('#plot-roofline canvas').clientWidth") <= 360
        assert watched.logged == []


def test_hostile_text_is_text(browser: Any, tmp_path: Path) -> None:
    gpus = (msgspec.structs.replace(A100, gpu=HOSTILE[0]), msgspec.structs.replace(A100, gpu=HOSTILE[1]))
    runs = []
    for number, environment in enumerate(gpus):
        records = [
            of(
                case(backend=word, inputs=word, config={word: word}),
                index=index,
                uses=(use(suite=word, role=word),),
                status="ok",
                energy_reason=word,
            )
            for index, word in enumerate(HOSTILE)
        ]
        records.append(of(case(64), index=20, status="failed", reason=HOSTILE[5], measurement=None))
        machine = board(environment, f"{number}" * 12)
        machine = msgspec.structs.replace(
            machine, environment=msgspec.structs.replace(environment, versions={HOSTILE[1]: HOSTILE[0]})
        )
        found = run(HOSTILE[5], *records, machine=machine, source=HOSTILE[1], licence=HOSTILE[3])
        events = tuple(Event(at="now", what="warning", message=word) for word in HOSTILE)
        runs.append(type(found)(found.path, found.header, found.segments, found.records, events))
    with opened(browser, write(tmp_path, page_of(*runs))) as watched:
        assert watched.logged == []
        page = watched.page
        assert page.evaluate("window.pwned") is None
        assert page.evaluate("document.querySelectorAll('img, svg, b > svg').length") == 0
        assert page.evaluate("document.scripts.length") == 3
        assert HOSTILE[0] in page.inner_text("#cases")
        assert HOSTILE[1] in page.inner_text("#environment")
        assert "\\u202etxt.exe" in page.inner_text("#cases")
        assert "\u202e" not in page.content()
        page.locator("#filter").fill("onerror=window.pwned=1>")
        assert len(cells(page, "backend")) > 0


def test_ten_thousand_rows_stay_usable(browser: Any, tmp_path: Path) -> None:
    with opened(browser, write(tmp_path, page_of(table(10_000)))) as watched:
        page = watched.page
        assert watched.logged == []
        assert page.inner_text("#shown") == "1 to 50 of 10,000 rows"
        assert page.locator("#table tbody tr").count() == 50
        assert page.locator("#plot-roofline canvas").evaluate(BLANK) > 2000
        page.locator("#table th", has_text="M×N×K").locator("button").press("Enter")
        assert cells(page, "M×N×K")[:2] == ["8×4096×4096", "16×4096×4096"]
        page.locator("#filter").fill("m×n×k=80000×4096×4096")
        assert cells(page, "M×N×K") == ["80000×4096×4096"]


def test_a_simulated_page_says_so_first(browser: Any, tmp_path: Path) -> None:
    with opened(browser, write(tmp_path, page_of(simulated(full_run())))) as watched:
        banner = watched.page.locator(".banner.simulated")
        assert "SIMULATED" in banner.inner_text()
        assert banner.bounding_box()["y"] < 100
        assert "simulated" in watched.page.inner_text("h1")
