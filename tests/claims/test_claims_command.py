"""`flopwatt claims` and the page's section: formats, files of both kinds, and files that mean harm."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from comparing import case, of, run, use
from pages import A100, board
from rich.console import Console
from synthetic import write

from flopwatt.analysis.calibrate.predictor import Prediction
from flopwatt.analysis.claims import efficiency
from flopwatt.analysis.claims.answering import answers
from flopwatt.analysis.claims.claim import Answer
from flopwatt.analysis.claims.evidence import Evidence
from flopwatt.analysis.claims.working import Finding
from flopwatt.analysis.report.claims import show
from flopwatt.analysis.report.page.content import gather
from flopwatt.analysis.report.page.document import draw, html
from flopwatt.commands import claims as command
from flopwatt.runs.records import Environment
from flopwatt.runs.store import RunFile
from flopwatt_process import flopwatt

SCRIPT = "<script>alert(1)</script>"
COLOUR = "\x1b[31mred"


def hostile() -> RunFile:
    """Names that would act in a browser or a terminal, in every place that a claim quotes."""
    gpu = Environment(kind="cuda", gpu=f"{SCRIPT}{COLOUR}")
    suite = f"{SCRIPT}{COLOUR}"
    phases = ("forward", "input_grad", "weight_grad")
    records = [of(case(), index=i, uses=(use(suite, phase=phase),)) for i, phase in enumerate(phases)]
    return run("hostile", *records, machine=board(gpu))


def test_without_files_it_answers_from_published_figures() -> None:
    done = flopwatt("claims")
    assert done.returncode == 0, done.stderr
    assert "1. The H100 has “3x better performance-per-watt than the A100”" in done.stdout
    assert "(989.4 TFLOPS ÷ 700 W) ÷ (312 TFLOPS ÷ 400 W)" in done.stdout
    assert "not measurable here: no measured run file of A100-SXM4 was given" in done.stdout
    assert "\x1b" not in done.stdout


def test_json_holds_verdict_range_and_working() -> None:
    done = flopwatt("claims", "--format", "json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    first = found[0]
    assert (first["claim"], first["verdict"], first["implies"]) == ("h100-per-watt", "depends", "3×")
    assert first["ranges"] == [
        {"unit": "×", "low": pytest.approx(1.545, abs=1e-3), "high": pytest.approx(3.624, abs=1e-3)}
    ]
    plate = next(line for line in first["findings"] if line["name"].startswith("bf16: dense"))
    assert (plate["basis"], plate["value"]) == ("nameplate", pytest.approx(1.812, abs=1e-3))
    assert all(line["source"] or line["expression"] for one in found for line in one["working"])
    assert {one["verdict"] for one in found} == {"supported", "not supported", "depends", "not measurable here"}


def test_a_calibration_is_told_from_a_run_file(tmp_path: Path) -> None:
    calibration, single = tmp_path / "h100.json", tmp_path / "run.jsonl"
    assert flopwatt("calibrate", "--gpu", "H100-SXM5-80GB", "-o", calibration).returncode == 0
    write(single)
    evidence = command.gather([calibration, single, single])
    assert [one.file.gpu for one in evidence.calibrations] == ["NVIDIA H100 80GB HBM3"]
    assert [one.path for one in evidence.runs] == [single]
    done = flopwatt("claims", calibration, single)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "yaml"], "unknown format 'yaml': choose one of table, json"),
        (["nowhere.jsonl"], "nowhere.jsonl"),
    ],
)
def test_what_cannot_be_is_one_line(words: list[str], message: str, tmp_path: Path) -> None:
    done = flopwatt("claims", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_verdicts_are_whole_on_a_narrow_terminal() -> None:
    console = Console(record=True, width=80, file=StringIO())
    show(answers(Evidence()), console)
    summary = console.export_text().split("1. The H100")[0]
    assert "…" not in summary
    for word in ("performance-per-watt", "supported", "not supported", "not measurable", "here", "depends"):
        assert re.search(rf"(?m)(^|\s){word}(\s|$)", summary), word


def test_names_from_files_are_only_text_on_a_terminal() -> None:
    console = Console(record=True, width=400, file=StringIO(), highlight=False, markup=False)
    show(answers(Evidence([hostile()])), console)
    text = console.export_text(styles=True)
    assert "\x1b[31mred" not in text.replace("\\x1b[31mred", "")
    assert "\\x1b[31mred" in text


def test_names_from_files_are_only_text_on_the_page() -> None:
    content = gather([hostile()])
    page = html(content, draw(content), {}, "", "today", answers(Evidence(content.runs)))
    section = page[page.index('<section id="claims"') :]
    section = section[: section.index("</section>")]
    assert SCRIPT not in section
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in section
    assert "\x1b" not in section


def test_the_page_sums_up_and_leads_from_each_claim_to_its_card() -> None:
    content = gather([hostile()])
    found = answers(Evidence())
    page = html(content, draw(content), {}, "", "today", found)
    for one in found:
        assert page.count(f'href="#claim-{one.claim.name}"') == 1
        assert page.count(f'id="claim-{one.claim.name}"') == 1
    summary = page[page.index("range found") : page.index("<article", page.index('id="claims"'))]
    assert summary.count("<tr>") == len(found)
    assert "1.54 to 3.62×" in summary


def test_the_page_has_claims_only_when_asked() -> None:
    content = gather([hostile()])
    assert 'id="claims"' not in html(content, draw(content), {}, "", "today")


@dataclass(frozen=True)
class FakeFile:
    gpu: str
    origin: str | None = "measured"
    unvalidated: bool = False


@dataclass(frozen=True)
class FakeFit:
    power_points: int


@dataclass(frozen=True)
class FakeCalibration:
    """Predicts 1 ms and so many joules of anything."""

    file: FakeFile
    energy_j: float
    dtypes: tuple[str, ...] = ("bf16",)
    power_points: int = 100

    def fitted(self, _: str) -> FakeFit:
        return FakeFit(self.power_points)

    def predict(self, *_: int, dtype: str) -> Prediction:
        ends = [np.array([self.energy_j * factor]) for factor in (1.0, 0.9, 1.1)]
        time = np.array([1e-3])
        return Prediction(time, time, time, np.array([False]), *[time] * 3, *ends)


def predicted(*calibrations: FakeCalibration) -> tuple[Answer, list[Finding]]:
    """The first claim held against calibrations alone, and what they say of it."""
    one = efficiency.per_watt(Evidence((), calibrations))  # type: ignore[arg-type]
    return one, [finding for finding in one.findings if finding.basis in ("model", "simulated")]


OLD = FakeCalibration(FakeFile(A100.gpu), 2.0)
NEW = FakeCalibration(FakeFile("NVIDIA H100 80GB HBM3"), 1.0)


def test_calibrations_with_watts_predict_the_ratio() -> None:
    one, (found,) = predicted(OLD, NEW)
    assert found.line.value == pytest.approx(2.0, rel=1e-4)
    assert (found.line.low, found.line.high) == (pytest.approx(2 * 0.9 / 1.1), pytest.approx(2 * 1.1 / 0.9))
    assert found.counts
    assert "1.54 to 2.44×" in one.verdict.why


@pytest.mark.parametrize(
    ("old", "basis", "verified"),
    [
        (replace(OLD, power_points=0), "model", False),
        (replace(OLD, file=FakeFile(A100.gpu, "simulated")), "simulated", False),
    ],
    ids=["watts of a law", "simulated"],
)
def test_watts_that_nobody_measured_are_shown_and_never_count(old: FakeCalibration, basis: str, verified: bool) -> None:
    one, (found,) = predicted(old, NEW)
    assert (found.basis, found.counts, found.line.verified) == (basis, False, verified)
    assert (one.verdict, one.ranges) == (predicted()[0].verdict, predicted()[0].ranges)


def test_measured_watts_go_before_others_of_the_same_gpu() -> None:
    _, (found,) = predicted(replace(OLD, file=FakeFile(A100.gpu, "simulated"), energy_j=9.0), OLD, NEW)
    assert (found.basis, found.counts) == ("model", True)
    assert found.line.value == pytest.approx(2.0, rel=1e-4)
