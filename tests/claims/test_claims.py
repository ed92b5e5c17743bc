"""Each claim against its figures: ratios, arithmetic that a reader can repeat, verdicts, and what changes them."""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

from comparing import imported
from pages import A100, H100, board, case, full_run, of, run, simulated, use

from flopwatt.analysis.claims.amount import UNITS
from flopwatt.analysis.claims.answering import answers
from flopwatt.analysis.claims.claim import Answer, reaches
from flopwatt.analysis.claims.evidence import Evidence
from flopwatt.runs.records import Environment
from flopwatt.runs.store import RunFile
from gemmkernels.problem import Problem

T4 = Environment(kind="cuda", gpu="Tesla T4", sm_count=40)


def held(*runs: RunFile) -> dict[str, Answer]:
    return {one.claim.name: one for one in answers(Evidence(runs))}


@pytest.fixture(scope="module")
def public() -> dict[str, Answer]:
    """The answers from published figures alone."""
    return held()


def figure(one: Answer, name: str) -> float:
    """A line's value by the beginning of its name."""
    (line,) = [line for line in one.working if line.name.startswith(name)]
    return line.value


def test_every_claim_is_answered_with_a_source_and_a_working(public: dict[str, Answer]) -> None:
    assert len(public) == 14
    for one in public.values():
        assert one.claim.source.startswith("“")
        assert one.findings
        assert all((line.source is None) != (line.expression is None) for line in one.working)
        assert any(line.source for line in one.working)


def test_the_nameplate_ratio_of_h100_and_a100(public: dict[str, Answer]) -> None:
    one = public["h100-per-watt"]
    assert figure(one, "bf16: dense peak per watt") == pytest.approx(1.81, abs=0.01)
    assert figure(one, "fp8 against bf16: dense peak") == pytest.approx(3.62, abs=0.01)
    assert figure(one, "bf16: sustained, at") == pytest.approx(730 / 700 / (270 / 400))
    assert one.verdict.kind == "depends"
    assert "1.54 to 1.96× in the same number format" in one.verdict.why
    assert one.missing == ("not measurable here: no measured run file of A100-SXM4 was given",)
    assert not one.unverified


VERDICTS = {
    "h100-per-watt": "depends",
    "generations": "supported",
    "llama-3.1-gpus": "supported",
    "llama-4-gpus": "depends",
    "doubling": "not supported",
    "growth": "depends",
    "cost-growth": "depends",
    "five-gigawatts": "depends",
    "h100-equivalents": "depends",
    "homes": "not supported",
    "million-gpus": "not measurable here",
    "gpt-3-cost": "depends",
    "inference": "depends",
    "cost-falls": "depends",
}

FIGURES = [
    ("generations", "H100-SXM5-80GB over A100-SXM4-80GB: watts", 1.75),
    ("llama-3.1-gpus", "days on so many GPUs", 78.4),
    ("llama-3.1-gpus", "share of the dense peak", 34.5),
    ("llama-4-gpus", "the same chip for as long", 163_840),
    ("doubling", "that is", 2 ** (12 / 3.4)),
    ("growth", "growth, GPT-3", (3.8e25 / 3.14e23) ** (1 / 4.15)),
    ("five-gigawatts", "made in a year", 5 * 8.766),
    ("five-gigawatts", "people in the United States, all", 3.59),
    ("homes", "Llama-3.1-405B, boards alone", 30.84e6 * 700 / 10_715e3),
    ("million-gpus", "the boards alone", 0.7),
    ("h100-equivalents", "A100s for one H100, by dense bf16 peak", 989.4 / 312),
    ("gpt-3-cost", "GPT-3's compute in hours of H100", 3.14e23 / 433e12 / 3600),
    ("inference", "a token written alone, of one", 43.1),
    ("cost-falls", "growth of GPU-hours at the frontier", 2.41),
]


def test_verdicts(public: dict[str, Answer]) -> None:
    assert {name: one.verdict.kind for name, one in public.items()} == VERDICTS


@pytest.mark.parametrize(("claim", "name", "value"), FIGURES)
def test_figures(public: dict[str, Answer], claim: str, name: str, value: float) -> None:
    assert figure(public[claim], name) == pytest.approx(value, rel=2e-3)


def test_a_reader_who_repeats_the_arithmetic_gets_the_same(public: dict[str, Answer]) -> None:
    repeated = 0
    for one in public.values():
        for line in one.working:
            if line.expression is not None:
                assert evaluated(line.expression) / UNITS[line.unit] == pytest.approx(line.value, rel=1e-3), line
                assert line.low <= line.value <= line.high or math.isclose(line.low, line.high)
                repeated += 1
    assert repeated > 60


def evaluated(expression: str) -> float:
    """The value in SI units of arithmetic as it is printed, read from its characters alone."""
    text = re.sub(r"×10([⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)", lambda found: f"e{found[1].translate(PLAIN)}", expression.replace(",", ""))
    for unit in sorted(filter(None, UNITS), key=len, reverse=True):
        text = re.sub(rf"(?<=[0-9]) ?{re.escape(unit)}(?= [÷×^+]|\)|$)", f"*{UNITS[unit]!r}", text)
    numbers = re.sub(r"([0-9.e+-]+)\*([0-9.e+-]+)", r"(\1*\2)", text)
    return float(eval(numbers.replace("×", "*").replace("÷", "/").replace("^", "**")))


PLAIN = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def test_unverified_facts_are_named_beside_the_verdict(public: dict[str, Answer]) -> None:
    assert public["generations"].doubt == (
        "rests on unverified figures: B200-SXM6-180GB board power; B200-SXM6-180GB dense fp16 peak"
    )
    assert "GPT-3: hours of V100-SXM2-32GB" in public["gpt-3-cost"].unverified
    for one in public.values():
        counted = {line.name for finding in one.findings if finding.counts for line in [finding.line]}
        doubtful = {line.name for line in one.working if not line.verified and line.name in counted}
        assert bool(doubtful) == bool(one.unverified), one.claim.name


def test_measured_runs_of_both_chips_decide() -> None:
    one = held(full_run("a100", A100, 0.5), full_run("h100", H100))["h100-per-watt"]
    (found,) = [finding for finding in one.findings if finding.basis == "measured"]
    assert found.line.value == pytest.approx(2.0, rel=0.01), "the same watts, twice the speed"
    assert found.line.low < 2 < found.line.high
    assert one.missing == ()
    assert one.verdict.kind == "depends", "fp8 was not measured, and is published as more"
    four = held(full_run("a100", A100, 0.25), full_run("h100", H100))["h100-per-watt"]
    assert four.verdict.kind == "supported"
    assert "in the same number format" in four.verdict.why


def test_fp8_is_held_against_the_bf16_of_a_chip_without_it() -> None:
    fp8 = Problem(4096, 4096, 4096, layout="nt", dtype="fp8_e4m3", scaling="tensor")
    old = run("a100", of(case(), launch_ms=2.0, uses=(use(),)), machine=board(A100))
    new = run("h100", of(case(problem=fp8, backend="torch-fp8"), launch_ms=0.5, uses=(use(),)), machine=board(H100))
    one = held(old, new)["h100-per-watt"]
    (found,) = [finding for finding in one.findings if finding.basis == "measured"]
    assert found.line.name.startswith("fp8 against bf16")
    assert found.line.value == pytest.approx(4.0, rel=0.01)
    assert "4× where the H100 computes in fp8" in re.sub(r"3\.\d+ to 4\.\d+×", "4×", one.verdict.why)


def test_simulated_runs_are_shown_and_never_count() -> None:
    one = held(simulated(full_run("a100", A100, 0.25)), simulated(full_run("h100", H100)))["h100-per-watt"]
    (found,) = [finding for finding in one.findings if finding.basis == "simulated"]
    assert not found.counts
    assert found.line.value == pytest.approx(4.0, rel=0.01)
    published = held()["h100-per-watt"]
    assert (one.verdict, one.ranges) == (published.verdict, published.ranges)


def test_an_unknown_gpu_is_no_evidence() -> None:
    one = held(full_run("t4", T4), full_run("h100", H100))["h100-per-watt"]
    assert one.missing == (
        "not measurable here: no measured run file of A100-SXM4 was given, only Tesla T4, NVIDIA H100 80GB HBM3",
    )
    assert not [finding for finding in one.findings if finding.basis == "measured"]


def test_runs_without_watts_in_common_are_no_evidence() -> None:
    refused = {"energy_status": "refused", "energy_reason": "no counter"}
    runs = [run(gpu.gpu, of(case(), **refused), machine=board(gpu)) for gpu in (A100, H100)]
    assert held(*runs)["h100-per-watt"].missing == (
        "not measurable here: the run files of A100-SXM4 and H100-SXM5 share no bf16 GEMM with watts",
    )


def test_imported_tables_give_times_and_the_boards_limits_the_watts() -> None:
    shape = Problem(8192, 8192, 8192, layout="nt")
    what = case(problem=shape, backend="vllm", regime="unknown", inputs="unknown", cache="unknown")
    tables = [
        run(gpu.gpu, imported(what, seconds), machine=board(named(gpu), sensor=None), source="a table")
        for gpu, seconds in ((A100, 4.2e-3), (H100, 1.4e-3))
    ]
    one = held(*tables)["h100-per-watt"]
    assert figure(one, "bf16: through vllm") == pytest.approx(3 * 400 / 700)


def named(gpu: Environment) -> Environment:
    import msgspec

    names = {A100.gpu: "A100-SXM4-80GB", H100.gpu: "H100-SXM5-80GB"}
    return msgspec.structs.replace(gpu, spec=names[gpu.gpu])


def test_a_measured_step_gives_the_forward_share() -> None:
    records = [
        of(case(), launch_ms=ms, index=index, uses=(use(phase=phase),))
        for index, (phase, ms) in enumerate((("forward", 1.0), ("input_grad", 1.0), ("weight_grad", 2.0)))
    ]
    one = held(run("step", *records))["inference"]
    assert figure(one, "forward share of a step") == pytest.approx(25, rel=1e-3)
    assert one.missing == ()


@pytest.mark.parametrize(
    ("span", "kind"), [((3.0, 4.0), "supported"), ((2.0, 4.0), "depends"), ((1.0, 2.9), "not supported")]
)
def test_what_reaches_a_threshold(span: tuple[float, float], kind: str) -> None:
    assert reaches(span, 3.0) == kind
