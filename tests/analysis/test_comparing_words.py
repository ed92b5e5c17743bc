"""What a person and a program see of a comparison: table, sentences, flat rows, JSON; text from files stays text."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from comparing import case, imported, of, processes, run, segment, use
from rich.console import Console
from synthetic import H100

from flopwatt.analysis.comparing.comparison import Options, RunComparison, compare
from flopwatt.analysis.report.comparison import MOST_CASES, view
from flopwatt.analysis.report.comparison_data import COLUMNS, facts, rows, rows_by_kind
from flopwatt.analysis.report.comparison_words import conclusion
from flopwatt.runs.records import Record, SensorIdentity
from flopwatt.runs.store import RunFile

QUIET = (1.0, 1.001, 0.999)
A100 = segment(
    board_id="a100a100a100",
    environment=msgspec.structs.replace(H100, gpu="NVIDIA A100-SXM4-80GB"),
    sensor=SensorIdentity(source="nvml", gain_uncertainty=0.05),
)


def text(result: RunComparison, width: int = 200, colour: bool = False) -> str:
    out = io.StringIO()
    system = "standard" if colour else None
    Console(file=out, width=width, color_system=system, force_terminal=colour, highlight=False).print(view(result))  # type: ignore[arg-type]
    return out.getvalue()


def quiet(by: float = 1.0, **fields: object) -> list[Record]:
    return processes([launch_ms * by for launch_ms in QUIET], **fields)


def two(new: list[Record], **options: object) -> RunComparison:
    return compare(run("a", *quiet()), run("b", *new), Options(**options))  # type: ignore[arg-type]


def test_a_row_holds_both_times_their_ratio_its_interval_and_the_verdict() -> None:
    shown = text(two(quiet(1.05)))
    row = next(line for line in shown.splitlines() if "4096×4096×4096" in line).split()
    assert row[:6] == ["qkv", "forward", "4096×4096×4096", "bf16", "nt", "torch"]
    assert row[6:12] == ["1.000", "ms", "1.050", "ms", "1.050×", "1.047–1.053"]
    assert row[12:] == ["0.952×", "1.000×", "0.952×", "slower"]
    assert "BASE NVIDIA H100 80GB HBM3" in shown
    assert "b.jsonl" in shown


def test_the_conclusion_is_one_plain_sentence_and_one_per_watt() -> None:
    time, per_watt = conclusion(two(quiet(1.05)))
    assert time == "tiny, bf16: NEW takes 1.050× (1.047–1.053) the time of BASE: slower."
    assert per_watt.startswith("tiny, bf16: NEW gives 0.952× (0.9")
    assert per_watt.endswith(") the TFLOPS/W of BASE: worse.")
    assert conclusion(two(quiet()))[0] == (
        "tiny, bf16: NEW takes 1.000× (0.997–1.003) the time of BASE: the same within 1 %."
    )
    assert len(conclusion(two(quiet(energy_status="refused")))) == 1
    assert len(conclusion(two(quiet(), metric="energy"))) == 1


def test_gains_of_two_sensors_are_said_beside_the_statistical_interval() -> None:
    result = compare(run("a", *quiet(2.0), machine=A100), run("b", *quiet()), Options(metric="tflops-per-w"))
    (sentence,) = conclusion(result)
    assert sentence == (
        "tiny, bf16: NEW gives 2.000× (1.996–2.005) the TFLOPS/W of BASE: better; "
        "the gains of the two sensors add ±7.1 %."
    )
    shown = text(result)
    assert "± gains" in shown
    assert "two boards: the gains of their sensors add ±7.1 %" in shown
    assert "± gains" not in text(two(quiet(), metric="tflops-per-w"))


def test_many_cases_without_a_suite_are_counted() -> None:
    plain = (use(headline=False),)
    base, new = (
        [
            one
            for m, by in ((1024, 1.0), (2048, last))
            for one in processes([by, by * 1.001, by * 0.999], case(m), uses=plain)
        ]
        for last in (1.0, 1.1)
    )
    (sentence,) = conclusion(compare(run("a", *base), run("b", *new)))
    assert sentence == "Of 2 cases: 1 same, 1 slower; NEW/BASE in time from 1.000× to 1.100×."


def test_a_metric_nobody_has_is_said() -> None:
    result = compare(run("a", imported(case(), 1e-3)), run("b", imported(case(), 1e-3)), Options(metric="energy"))
    assert conclusion(result) == ["No case has energy on both sides: nothing can be told."]
    assert result.exit_code() == 3


def test_failures_cases_of_one_side_and_differences_are_told() -> None:
    base = run("a", of(), of(case(512), index=1), of(case(256), index=2))
    failed = of(status="failed", reason="illegal memory access", measurement=None)
    shown = text(compare(base, run("b", failed, of(case(512, inputs="zeros"), index=1))))
    assert "failed: illegal memory access in NEW" in shown
    assert "only in BASE, 2 cases: 512x4096x4096 bf16 nt torch sustained normal inputs; 256x" in shown
    assert "only in NEW, 1 case: 512x4096x4096 bf16 nt torch sustained zeros inputs" in shown
    assert "in inputs (normal; zeros) alone: --allow-mixed inputs pairs them" in shown


def test_what_may_differ_is_noted() -> None:
    new = [of(case(effort="normal", config={"BLOCK_M": 64}), energy_status="disputed")]
    row = next(line for line in text(two(new)).splitlines() if "4096×4096×4096" in line)
    assert "effort fast → normal, config differs, energy disputed" in row


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_narrow_terminal_keeps_the_figures_and_the_verdict(width: int) -> None:
    shown = text(two(quiet(1.05)), width)
    row = next(line for line in shown.splitlines() if "4096×4096×4096" in line)
    assert "1.050×" in row
    assert "1.047–1.053" in row
    assert "slower" in row
    assert all(len(line) <= width for line in shown.splitlines())


def test_verdicts_are_coloured_on_a_terminal_only() -> None:
    assert "\x1b[31mslower" in text(two(quiet(1.05)), colour=True)
    assert "\x1b" not in text(two(quiet(1.05)))


def test_of_very_many_cases_those_that_changed_most_are_shown() -> None:
    cases = [case(16 * m) for m in range(1, MOST_CASES + 51)]
    base = run("a", *(imported(each, 1e-3, index, uses=()) for index, each in enumerate(cases)))
    new = run(
        "b", *(imported(each, 2e-3 if index == 240 else 1e-3, index, uses=()) for index, each in enumerate(cases))
    )
    shown = text(compare(base, new))
    assert "50 more cases changed less than these" in shown
    assert "3856×4096×4096" in shown.splitlines()[5]


HOSTILE = "\x1b[31m[bold]x[/bold]\u202e\n=1+1"


def hostile(name: str) -> RunFile:
    mean = of(
        case(backend=HOSTILE, inputs=HOSTILE, config={HOSTILE: name}), uses=(use(HOSTILE, role=HOSTILE),)
    )  # fmt: skip
    failed = of(case(512, backend=HOSTILE, inputs=HOSTILE), index=1, status="failed", reason=HOSTILE, measurement=None)
    machine = segment(environment=msgspec.structs.replace(H100, gpu=HOSTILE, driver=HOSTILE))
    lone = of(case(99 if name == "a" else 77, backend=HOSTILE, inputs=HOSTILE + name), index=2)
    return run(HOSTILE + name, mean, failed, lone, machine=machine)


def test_hostile_text_is_shown_as_text() -> None:
    shown = text(compare(hostile("a"), hostile("b")))
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\\x1b[31m[bold]x[/bold]\\u202e\\n=1+1" in shown


def test_rows_name_only_known_columns_and_hold_each_metric() -> None:
    result = compare(
        run("a", *quiet(), *processes(QUIET, case(512))), run("b", *quiet(1.05), *processes(QUIET, case(256)))
    )
    found = list(rows(result))
    assert [row["kind"] for row in found] == ["suite", "case", "only_base", "only_new"]
    assert all(set(row) <= set(COLUMNS) for row in found)
    total, one = found[:2]
    assert (total["cases"], total["left_out"]) == (1, 2)
    assert one["time_s_base"] == pytest.approx(1e-3, rel=1e-3)
    assert one["time_ratio"] == pytest.approx(1.05, rel=1e-3)
    assert one["time_ratio_low"] < 1.05 < one["time_ratio_high"]
    assert one["speedup"] == pytest.approx(1 / one["time_ratio"])
    assert one["tflops_per_w_ratio"] == pytest.approx(1 / 1.05, rel=1e-3)
    assert one["power_ratio_systematic"] == 0.0
    assert (one["time_verdict"], one["tflops_per_w_verdict"]) == ("slower", "worse")
    assert (one["backend_base"], one["processes_new"]) == ("torch", 3)


def test_the_document_is_json_and_says_its_verdicts() -> None:
    result = two(quiet(1.05))
    lists = {name: list(found) for name, found in rows_by_kind(result)}
    read = json.loads(msgspec.json.encode(facts(result, "any") | lists))
    assert read["exit_code"] == 1
    assert read["cases"][0]["time_verdict"] == "slower"
    assert read["suites"][0]["time_verdict"] == "slower"
    assert read["base"][0]["gpus"] == ["NVIDIA H100 80GB HBM3"]
    assert read["conclusion"] == conclusion(result)
