"""Reports made from runs in memory, and a headless Chromium to read them in."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))

from comparing import case, imported, of, run, use
from synthetic import measurement, segment

from flopwatt.analysis.report.page import plotting
from flopwatt.analysis.report.page.content import Content, gather
from flopwatt.analysis.report.page.document import draw, html
from flopwatt.runs.records import Environment, Record, Segment
from flopwatt.runs.store import RunFile
from gemmkernels.problem import Problem

H100 = Environment(
    kind="cuda", gpu="NVIDIA H100 80GB HBM3", sm_count=132, memory_bytes=85_000_000_000, power_limit_mw=700_000,
    driver="575.1", versions={"torch": "2.13.0"},
)  # fmt: skip
A100 = Environment(kind="cuda", gpu="NVIDIA A100-SXM4-80GB", sm_count=108, memory_bytes=85_000_000_000)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

BLANK = """(canvas) => {
    const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
    let painted = 0;
    for (let i = 0; i < data.length; i += 4) {
        const [r, g, b, a] = data.slice(i, i + 4);
        if (a > 100 && Math.max(r, g, b) - Math.min(r, g, b) > 60) painted += 1;
    }
    return painted;
}"""
"""How many pixels of a canvas have a colour: axes and words have none."""

HOSTILE = (
    "<img src=x onerror=window.pwned=1>",
    "</script><script>window.pwned=1</script>",
    "\u202etxt.exe",
    "{{data}}<!--<script>",
    "datum.constructor.constructor('window.pwned=1')()",
    "'\"><svg onload=window.pwned=1>",
    "\u2028\u2029&lt;b&gt;",
)
"""Texts that would be code where a page forgets that they are text."""

BURST = measurement(seconds=0.025, tick_ms=100)


@cache
def library() -> str:
    return plotting.library()


def page_of(*runs: RunFile, prices: dict[Any, float] | None = None) -> str:
    content = gather(runs)
    return html(content, draw(content), prices or {}, library(), "flopwatt 0.1.0, today")


def board(environment: Environment = H100, board_id: str = "0123456789ab", **fields: object) -> Segment:
    return msgspec.structs.replace(segment(), environment=environment, board_id=board_id, **fields)


def full_run(name: str = "h100", environment: Environment = H100, speed: float = 1.0, **fields: object) -> RunFile:
    """Shapes in two formats, two backends, both regimes and on zeros: every figure has something to draw."""
    records: list[Record] = []
    for m in (1024, 2048, 4096, 8192):
        for dtype in ("bf16", "fp16"):
            for backend, factor in (("torch", 1.0), ("triton-tiled", 2.0)):
                problem = Problem(m, 4096, 4096, layout="nt", dtype=dtype)
                ms = m / 8192 * factor / speed  # a whole number of launches between two marks
                for regime, inputs in (("sustained", "normal"), ("sustained", "zeros"), ("burst", "normal")):
                    what = case(problem=problem, backend=backend, regime=regime, inputs=inputs)
                    burst = regime == "burst"
                    watts = 500.0 if inputs == "normal" else 400.0
                    records.append(
                        of(
                            what,
                            launch_ms=ms / 2 if burst or inputs == "zeros" else ms,
                            watts=watts,
                            index=len(records),
                            uses=(use(role="gate_up", phase="forward"),) if not burst else (),
                            **({"energy_status": "refused", "energy_reason": "a burst"} if burst else {}),
                        )
                    )
    return run(name, *records, machine=board(environment), **fields)


def simulated(found: RunFile) -> RunFile:
    """The same run as a simulated one."""
    records = tuple(msgspec.structs.replace(record, origin="simulated") for record in found.records)
    header = msgspec.structs.replace(found.header, origin="simulated")
    return RunFile(found.path, header, found.segments, records, found.events, found.end)


def table(count: int, **fields: object) -> RunFile:
    """So many imported rows, every one another shape."""
    records = [
        imported(case(8 * (index + 1), backend="vllm", regime="unknown", inputs="unknown", cache="unknown"),
                 1e-5 * (index + 1), index)
        for index in range(count)
    ]  # fmt: skip
    return run("table", *records, machine=board(sensor=None, idle_w=None), source="somebody's table", **fields)


def content_of(*runs: RunFile, most: int | None = None) -> Content:
    return gather(runs) if most is None else gather(runs, most)


class Watched:
    """A page with all that it logged and asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.logged: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._log)
        page.on("pageerror", lambda error: self.logged.append(f"error: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("dialog", lambda dialog: (self.logged.append("dialog"), dialog.dismiss()))

    def _log(self, message: Any) -> None:
        if "getImageData" not in message.text:  # the tests' own look at the pixels
            self.logged.append(f"{message.type}: {message.text}")

    def open(self, path: Path) -> Watched:
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("main[aria-busy=false]", timeout=60_000)
        return self


@contextmanager
def chromium() -> Iterator[Any]:
    """A headless browser; skips the test where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the dev extra's playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Any, path: Path, width: int = 1200, **context: Any) -> Iterator[Watched]:
    window = browser.new_context(viewport={"width": width, "height": 900}, **context)
    try:
        yield Watched(window.new_page()).open(path)
    finally:
        window.close()


def cells(page: Any, column: str) -> Sequence[str]:
    """The shown texts of a column of the table."""
    found: list[str] = page.evaluate(
        """(title) => {
            const at = [...document.querySelectorAll('#table th')].findIndex((th) => th.textContent === title);
            return [...document.querySelectorAll('#table tbody tr')].map((tr) => tr.children[at].textContent);
        }""",
        column,
    )
    return found
