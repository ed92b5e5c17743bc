"""Layouts: what fits, what is refused and why, and that what is offered instead works."""

import re

import msgspec
import pytest
from priced import LLAMA, SMALL, assuming, h100, request

from flopwatt.analysis.cost.architecture import load
from flopwatt.analysis.cost.assumptions import defaults
from flopwatt.analysis.cost.choosing import Wanted, choose, refusal
from flopwatt.analysis.cost.layout import Layout, indivisible, parse_degrees, stages
from flopwatt.analysis.cost.memory import needed, stage_parameters
from flopwatt.errors import InputError, LayoutRefused

replace = msgspec.structs.replace


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"tp": 3}, "tp=3 does not divide its heads, 128"),
        ({"pp": 17}, "pp=17 does not divide its 126 layers, nor 126 + 2"),
        ({"dp": 4096}, "more GPUs than batch: dp=4096 × micro-batch 1 exceeds the 2048 sequences of a step"),
        ({"dp": 48}, "dp=48 × micro-batch 1 does not divide the batch of 2048"),
        ({"vp": 3}, "8 layers a stage are no 3 equal chunks"),
        ({"dp": 256}, "interleaving runs micro-batches in groups of pp=16, of which 8 is no multiple"),
        ({"pp": 1}, "vp needs a pipeline"),
    ],
)
def test_what_does_not_divide(change: dict[str, int], reason: str) -> None:
    assert reason in next(indivisible(load("llama-3.1-405b"), replace(LLAMA, **change)))


def test_stages() -> None:
    assert stages(32, 4) == (8, 8, 8)
    assert stages(126, 16) == (7, 8, 7), "as Llama 3 405B was trained"
    assert stages(126, 17) is None
    assert stages(1, 3) is None, "nothing would be left for the first stage"


def test_memory_by_hand() -> None:
    """A GPT on one GPU: 2 + 4 + 12 bytes a parameter, 34 · s · b · h a layer, logits in bf16 and fp32."""
    model = load("gpt-3-175b")
    layout = Layout(global_batch=1, seq=2048)
    found = needed(model, layout, defaults())
    held = model.total_parameters
    assert stage_parameters(model, layout) == pytest.approx(held)
    assert (found.weights, found.gradients, found.optimizer) == pytest.approx((2 * held, 4 * held, 12 * held))
    assert found.activations == pytest.approx(2048 * (34 * 12288 * 96 + 6 * 50257))
    unfused = needed(model, replace(layout, attention="unfused"), defaults())
    assert unfused.activations - found.activations == pytest.approx(5 * 96 * 2048**2 * 96)
    full = needed(model, replace(layout, recompute="full"), defaults())
    assert full.activations == pytest.approx(2048 * (2 * 12288 * 96 + 34 * 12288 + 6 * 50257))


def test_sharding_divides_what_it_says() -> None:
    model, layout = load("llama-3.1-8b"), replace(SMALL, tp=1, dp=8)
    none, optimizer, full = (
        needed(model, replace(layout, shard=way), defaults()) for way in ("none", "optimizer", "full")
    )
    assert optimizer.optimizer == pytest.approx(none.optimizer / 8)
    assert optimizer.weights == none.weights
    assert full.weights == pytest.approx(none.weights / 8)
    assert full.gradients == pytest.approx(none.gradients / 8)


def test_idle_experts_lie_spread_over_all_gpus() -> None:
    model = load("deepseek-v3")
    layout = Layout(dp=2048, global_batch=2048, seq=4096, shard="full")
    active = needed(msgspec.structs.replace(model, other_parameters=0), layout, defaults())
    assert needed(model, layout, defaults()).total - active.total == pytest.approx(model.other_parameters * 18 / 2048)


def test_memory_fits_up_to_what_is_usable() -> None:
    model, layout = load("llama-3.1-8b"), replace(SMALL, tp=2, dp=4, micro_batch=1)
    share = needed(model, layout, defaults()).total / h100().spec.memory_bytes
    assert refusal(model, layout, h100(), assuming(usable_memory=share * 1.001)) is None
    assert refusal(model, layout, h100(), assuming(usable_memory=share * 0.999)) is not None


def test_no_more_micro_batches_in_flight_than_there_are() -> None:
    model, layout = load("gpt-3-175b"), Layout(tp=8, pp=8, dp=1, global_batch=64, seq=2048)
    deep = needed(model, layout, defaults()).activations
    two = needed(model, replace(layout, global_batch=2), defaults()).activations
    assert deep / two == pytest.approx(8 / 2, rel=0.03)


def test_llama_405b_fits_as_it_was_trained_and_not_on_one_server() -> None:
    model = load("llama-3.1-405b")
    assert refusal(model, replace(LLAMA, vp=1, recompute="selective"), h100(), defaults()) is None
    refused = refusal(model, Layout(tp=8, global_batch=8, seq=8192), h100(), defaults())
    assert refused is not None
    assert refused.reason.startswith("memory does not fit: ")


@pytest.mark.parametrize(
    ("model", "wanted", "reason"),
    [
        ("llama-3.1-405b", Wanted(gpus=8), "memory does not fit"),
        ("llama-3.1-405b", Wanted(gpus=16384, tp=8, pp=10), "tp=8 × pp=10 does not make 16384 GPUs"),
        ("llama-3.1-405b", Wanted(gpus=1536, tp=3, pp=16, dp=32), "tp=3 does not divide its heads, 128"),
        ("llama-3.1-8b", Wanted(gpus=65536, global_batch=64), "more GPUs than batch"),
        ("llama-3.1-8b", Wanted(gpus=13, global_batch=7), "more GPUs than batch"),
        ("llama-3.1-70b", Wanted(gpus=8, tp=1, pp=1, dp=8, micro_batch=16, shard="none"), "memory does not fit"),
    ],
)
def test_a_refusal_offers_what_works(model: str, wanted: Wanted, reason: str) -> None:
    with pytest.raises(LayoutRefused, match="the nearest that works is") as refused:
        choose(request(model), wanted)
    words = str(refused.value)
    assert reason in words
    found = re.search(r"nearest that works is (\d+) GPUs as (\S+), ", words)
    assert found is not None
    gpus, offered = int(found[1]), parse_degrees(found[2].rstrip(","))
    free = replace(wanted, tp=None, pp=None, dp=None, micro_batch=None, shard=None, gpus=gpus)
    works = choose(request(model), replace(free, **offered))
    assert works.layout.gpus == gpus


@pytest.mark.parametrize(
    ("model", "wanted", "gpus"),
    [
        ("llama-3.1-405b", Wanted(gpus=8), 112),
        ("llama-3.1-405b", Wanted(gpus=1_000_003), 999_936),
        ("llama-3.1-8b", Wanted(gpus=13, global_batch=7), 14),
        ("llama-3.1-8b", Wanted(gpus=100_000, global_batch=512), 131_072),
    ],
)
def test_what_is_offered_is_near(model: str, wanted: Wanted, gpus: int) -> None:
    with pytest.raises(LayoutRefused, match=f"the nearest that works is {gpus} GPUs as"):
        choose(request(model), wanted)


def test_of_those_equally_near_the_fastest_is_offered() -> None:
    with pytest.raises(LayoutRefused) as refused:
        choose(request("llama-3.1-70b"), Wanted(gpus=64, tp=3))
    assert choose(request("llama-3.1-70b"), Wanted(gpus=64, tp=4)).layout.words() in str(refused.value)


def test_nothing_is_offered_where_nothing_works() -> None:
    with pytest.raises(LayoutRefused, match="no layout of it works"):
        choose(request("llama-3.1-8b"), Wanted(gpus=8, seq=10_000_000))


@pytest.mark.parametrize("gpus", [64, 1536, 4096, 12_000])
def test_a_batch_is_at_most_half_as_large_again_as_usual(gpus: int) -> None:
    assert choose(request("llama-3.1-405b"), Wanted(gpus=gpus * 8)).layout.tokens <= 1.5 * 16e6


def test_the_choice_is_the_fastest_of_those_that_fit() -> None:
    best = choose(request("llama-3.1-70b"), Wanted(gpus=64))
    for tp, pp in ((8, 1), (8, 2), (4, 4), (2, 8), (8, 8)):
        other = choose(request("llama-3.1-70b"), Wanted(gpus=64, tp=tp, pp=pp))
        assert best.step_total_s.value / best.layout.tokens <= other.step_total_s.value / other.layout.tokens
    assert refusal(load("llama-3.1-70b"), best.layout, h100(), defaults()) is None


def test_what_is_fixed_stays() -> None:
    found = choose(
        request("llama-3.1-8b"), Wanted(gpus=64, tp=2, pp=4, micro_batch=2, recompute="full", seq=4096)
    ).layout
    assert (found.tp, found.pp, found.dp, found.micro_batch, found.recompute, found.seq) == (2, 4, 8, 2, "full", 4096)


def test_the_usual_batch() -> None:
    small = choose(request("llama-3.1-8b"), Wanted(gpus=64)).layout
    large = choose(request("llama-3.1-405b"), Wanted(gpus=4096)).layout
    assert small.tokens == pytest.approx(4e6, rel=0.1)
    assert large.tokens == pytest.approx(16e6, rel=0.1)


def test_words_for_degrees() -> None:
    assert parse_degrees("tp=8, pp=16,dp=128") == {"tp": 8, "pp": 16, "dp": 128}
    for wrong in ("", "tp", "tp=0", "tp=8,tp=8", "cp=2", "tp=8;pp=2", "tp=-1", "tp=99999999"):
        with pytest.raises(InputError, match="write tp=8,pp=16,dp=128"):
            parse_degrees(wrong)
