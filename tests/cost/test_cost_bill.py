"""Goodput, energy, dollars and CO2, each worked by hand; assumptions move what they should and nothing else."""

import math

import msgspec
import pytest
from priced import LLAMA, assuming, h100, metered, priced

from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.cost.assumptions import defaults, parse
from flopwatt.analysis.cost.goodput import goodput
from flopwatt.analysis.cost.machine import machine
from flopwatt.analysis.cost.spans import Span, exactly, total
from flopwatt.errors import InputError

HOURS_J = 3600.0


def test_goodput_is_young_and_dalys() -> None:
    known = assuming(mtbf_gpu_hours=50_000, checkpoint_s=30, restart_s=600, other_goodput=1)
    between = 50_000 * 3600 / 16384
    interval = math.sqrt(2 * 30 * between)
    expected = interval / (interval + 30) * between / (between + 600 + interval / 2)
    assert goodput(16384, known).value == pytest.approx(expected)
    assert goodput(16384, defaults()).value == pytest.approx(0.90, abs=0.01), "over 90 % is what Llama 3 reports"
    more = [goodput(gpus, known).value for gpus in (8, 1024, 65536, 10**6)]
    assert more == sorted(more, reverse=True)
    assert more[0] > 0.998


def test_no_best_interval_beats_the_one_taken() -> None:
    known = assuming(mtbf_gpu_hours=50_000, checkpoint_s=30, restart_s=600, other_goodput=1)
    between = 50_000 * 3600 / 16384

    def share(interval: float) -> float:
        return interval / (interval + 30) * between / (between + 600 + interval / 2)

    taken = goodput(16384, known).value
    assert max(share(seconds) for seconds in range(50, 5000, 10)) == pytest.approx(taken, rel=1e-3)


def test_energy_on_the_tdp_basis() -> None:
    found = priced("llama-3.1-405b", LLAMA, assumptions=assuming(pue=1.25, server_fraction=0.5))
    hours = found.gpu_hours_total.value
    assert found.measured is None, "a spec sheet has no watts"
    assert found.tdp.gpus_j.value == pytest.approx(hours * 700 * HOURS_J)
    assert found.tdp.servers_j.value == pytest.approx(hours * 0.5 * 575 * HOURS_J)
    assert found.tdp.facility_j.value == pytest.approx(0.25 * (found.tdp.gpus_j.value + found.tdp.servers_j.value))
    parts = (found.tdp.gpus_j, found.tdp.servers_j, found.tdp.facility_j)
    assert found.tdp.total_j == total(parts)


def test_energy_on_the_measured_basis() -> None:
    found = priced("llama-3.1-405b", LLAMA, machine=metered())
    assert found.measured is not None
    assert found.measured.gpus_j.value < found.tdp.gpus_j.value
    mean_w = found.measured.gpus_j.value / HOURS_J / found.gpu_hours_total.value
    assert 0.15 * 700 < mean_w < 0.85 * 700, "OLMo measured 15 to 85 % of the most"
    assert found.tco2.value == pytest.approx(found.measured.total_j.value / 3.6e6 * 0.385 / 1000)


def test_dollars_and_carbon() -> None:
    found = priced("llama-3.1-405b", LLAMA, usd_per_hour=Span(3.0, 2.0, 5.0), assumptions=assuming(carbon=0.5))
    assert found.usd is not None
    assert found.usd.value == pytest.approx(3 * found.gpu_hours_total.value)
    assert found.usd.low == pytest.approx(2 * found.gpu_hours_total.low)
    assert found.tco2.value == pytest.approx(found.tdp.total_j.value / 3.6e6 * 0.5 / 1000)
    assert priced("llama-3.1-405b", LLAMA).usd is not None, "the rent that DeepSeek assumes"


def test_the_good_end_has_the_best_goodput_and_the_bad_end_the_worst() -> None:
    found = priced("llama-3.1-405b", LLAMA, goodput=Span(0.8, 0.5, 0.9))
    for end, share in (("value", 0.8), ("low", 0.9), ("high", 0.5)):
        lost = getattr(found.gpu_hours["lost_to_failures"], end)
        assert lost == pytest.approx(getattr(found.gpu_hours_total, end) * (1 - share))


def test_a_stated_goodput_replaces_the_derived_one() -> None:
    found = priced("llama-3.1-405b", LLAMA, goodput=exactly(0.5))
    training = found.gpu_hours_total.value - found.gpu_hours["lost_to_failures"].value
    assert found.gpu_hours["lost_to_failures"].value == pytest.approx(training)


def test_twice_the_tokens_cost_twice_as_much() -> None:
    once, twice = (priced("llama-3.1-405b", LLAMA, tokens=tokens) for tokens in (1e12, 2e12))
    assert twice.gpu_hours_total.value == pytest.approx(2 * once.gpu_hours_total.value)
    assert twice.step_s == once.step_s
    assert twice.mfu == once.mfu


@pytest.mark.parametrize(
    ("name", "moved"),
    [
        ("gemm_speed_sm_90", "gemm_forward"), ("memory_fraction", "memory_bound"),
        ("flash_forward_sm_90", "attention"), ("node_fraction", "tensor_parallel"), ("stragglers", "stragglers"),
        ("pipeline_overlap", "pipeline_transfer"), ("data_overlap", "data_parallel"),
    ],
)  # fmt: skip
def test_each_assumption_moves_its_part(name: str, moved: str) -> None:
    usual = priced("llama-3.1-405b", LLAMA).step_s
    other = priced("llama-3.1-405b", LLAMA, assumptions=assuming(**{name: defaults()[name].value * 0.5})).step_s
    assert other[moved].value != usual[moved].value
    untouched = {"gemm_forward", "memory_bound", "attention", "tensor_parallel"} - {moved}
    assert all(other[part] == usual[part] for part in untouched)


def test_every_assumption_has_a_range_and_a_source() -> None:
    table = defaults().table
    assert len(table) > 25
    for name, one in table.items():
        assert one.low <= one.value <= one.high, name
        assert len(one.source) > 8, name
        assert len(one.meaning) > 10, name
    assert all(
        one.source == "stated" for one in defaults().with_({"pue": exactly(1.2)}).table.values() if one.value == 1.2
    )


def test_words_for_assumptions() -> None:
    assert parse(["pue=1.2:1.1:1.5", "carbon=0.4"]) == {"pue": Span(1.2, 1.1, 1.5), "carbon": exactly(0.4)}
    for wrong in ("pue", "pue=", "pue=a", "pue=1:2", "pue=2:1:1", "pue=-1", "pue=inf", "pue=nan"):
        with pytest.raises(InputError, match="LOW ≤ VALUE ≤ HIGH"):
            parse([wrong])
    with pytest.raises(InputError, match="no assumption is called 'puee': choose one of"):
        defaults().with_({"puee": exactly(1)})


def test_spans_keep_their_ends_in_order() -> None:
    span, other = Span(2, 1, 4), Span(3, 2, 5)
    assert span + other == Span(5, 3, 9)
    assert span * other == Span(6, 2, 20)
    assert span / other == Span(2 / 3, 1 / 5, 2)
    assert other.beyond(span) == Span(1, 0, 4)
    assert span.inverse() == Span(0.5, 0.25, 1)
    assert h100().peak("bf16") == 989.4e12


def test_kinds_are_never_crossed() -> None:
    whole = Calibration(msgspec.structs.replace(h100().calibration.file, kind="end_to_end"))
    with pytest.raises(InputError, match="give a calibration of kernels, not end_to_end"):
        machine(whole)
    assert priced("llama-3.1-405b", LLAMA).kind == "end_to_end"
