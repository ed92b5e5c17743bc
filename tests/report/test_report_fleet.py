"""The page of a fleet in a real browser: drawn, quiet, on a phone, under attack, and what it says of two types."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from pages import A100, BLANK, H100, HOSTILE, board, case, library, of, opened, run, simulated, use

from flopwatt.analysis.boards.reading import Cases, board_of
from flopwatt.analysis.boards.spread import kinds
from flopwatt.analysis.comparing.comparison import Options, compare
from flopwatt.analysis.report.page import fleet
from flopwatt.runs.account import Account, Fate, SharedPlan
from flopwatt.runs.records import Environment, Policy
from flopwatt.runs.store import RunFile


def boards(letter: str, machine: Environment, launches_ms: Sequence[float], suite: bool = False) -> list[RunFile]:
    """A board for each launch time, with a GEMM of two sizes."""
    return [
        run(
            f"{letter}{number}",
            *(
                of(case(m), launch_ms=ms * m / 4096, index=index, uses=(use(count=2),) if suite else ())
                for index, m in enumerate((4096, 8192))
            ),
            machine=board(machine, f"{letter}{number:011d}"),
        )
        for number, ms in enumerate(launches_ms)
    ]


def account_of(runs: Sequence[RunFile], reason: str = "its node died") -> Account:
    """Two GPUs done, the others lost for that reason."""
    fates = [
        Fate(accelerator="H100", node=0, gpu=number, became="lost" if number > 1 else "done",
             reason=reason if number > 1 else "", board_id=one.segments[0].board_id, file=one.path.name,
             measured=2, planned=2)
        for number, one in enumerate(runs)
    ]  # fmt: skip
    plan = SharedPlan(dtype="bf16", cases=(), suites=())
    return Account(created="today", mode="together", policy=Policy(), plans=(plan,), gpus=tuple(fates))


def page_of(base: Sequence[RunFile], new: Sequence[RunFile], account: Account | None = None) -> str:
    cases = Cases()
    found = kinds([one for one in (board_of(file, cases) for file in (*base, *new)) if one is not None], cases)
    result = compare(base, new, Options(metric="tflops-per-w", mixed=("origin",)))
    against = [fleet.Against(found[0].name, found[-1].name, result)]
    return fleet.page(found, against, account, library(), "flopwatt 0.1.0, today")


BASE, NEW = [1.0, 1.01, 0.99, 1.02, 0.98], [0.5, 0.505, 0.495, 0.51, 0.8]


@pytest.fixture(scope="module")
def shown(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    path = tmp_path_factory.mktemp("fleet") / "fleet.html"
    base, new = boards("a", A100, BASE), boards("b", H100, NEW)
    path.write_text(page_of(base, new, account_of([*base, *new])), encoding="utf-8")
    with opened(browser, path) as watched:
        yield watched


def test_every_figure_is_drawn_and_nothing_is_asked_for(shown: Any) -> None:
    plots = shown.page.query_selector_all(".plot[id]")
    assert [one.get_attribute("id") for one in plots] == [
        "plot-spread-tflops", "plot-spread-power-w", "plot-spread-tflops-per-w", "plot-speed-by-watts",
    ]  # fmt: skip
    for one in plots:
        assert one.query_selector("canvas").evaluate(BLANK) > 100
    assert shown.logged == []
    assert len(shown.requests) == 1


def test_it_names_the_odd_board_the_ratio_of_types_and_every_gpu(shown: Any) -> None:
    assert "board b00000000004: -36.9 % TFLOPS" in shown.page.inner_text("#outliers")
    rows = shown.page.locator("#against tbody tr").all_inner_texts()
    assert len(rows) == 2
    assert [row.split("\t")[1].split()[0] for row in rows] == ["1.779×"] * 2, "the mean over boards of 1.0 and 0.562"
    assert "add ± 7.1 % to those of watts" in shown.page.inner_text("#against caption")
    assert "5 of A100-SXM4-80GB, 5 of H100-SXM5-80GB" in shown.page.inner_text("#against")
    assert shown.page.locator("#account tbody tr").count() == 10
    assert "10 GPUs: 8 lost, 2 done" in shown.page.inner_text("#account")


def test_phone_width_scrolls_only_down(shown: Any) -> None:
    shown.page.set_viewport_size({"width": 360, "height": 900})
    assert shown.page.evaluate("document.documentElement.scrollWidth") == 360
    shown.page.set_viewport_size({"width": 1200, "height": 900})


def test_hostile_text_is_text(browser: Any, tmp_path: Path) -> None:
    machines = [msgspec.structs.replace(A100, gpu=word) for word in HOSTILE[:2]]
    base, new = boards(HOSTILE[0], machines[0], [1.0] * 3, True), boards("b", machines[1], [0.5] * 3, True)
    told = account_of([*base, *new], " ".join(HOSTILE))
    (tmp_path / "page.html").write_text(page_of([simulated(one) for one in base], new, told), encoding="utf-8")
    with opened(browser, tmp_path / "page.html") as watched:
        assert watched.page.evaluate("window.pwned") is None
        assert watched.logged == []
        assert HOSTILE[0] in watched.page.inner_text("#boards")
        assert HOSTILE[1] in watched.page.inner_text("#account")
        assert watched.page.locator(".banner.simulated").count() == 1
        assert watched.page.locator("#against .card").count() == 1, "a suite's totals have a card"


def test_of_two_boards_none_is_called_odd_or_like_the_others() -> None:
    page = page_of(boards("a", A100, BASE[:2]), boards("b", H100, NEW[:2]))
    assert "A100-SXM4-80GB, H100-SXM5-80GB: of fewer than 3 boards nobody can tell which one is odd." in page
    assert "every board is within the spread" not in page
