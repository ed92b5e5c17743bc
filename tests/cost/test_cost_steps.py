"""What a step takes: operations counted, parts that add up, formulas of bubbles and communication worked by hand."""

import time

import msgspec
import pytest
from priced import LLAMA, SMALL, assuming, h100, priced, request

from flopwatt.analysis.cost import mixture, price, price_all
from flopwatt.analysis.cost.architecture import flop_per_sequence, load, parameters
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.cost.machine import relinked
from flopwatt.analysis.cost.spans import total
from flopwatt.analysis.cost.step import PARTS, gemms
from flopwatt.runs.suites import list_models, suite_from_model

replace = msgspec.structs.replace


@pytest.mark.parametrize("name", [*list_models(), *mixture.shipped()])
def test_operations_are_those_of_the_suite_and_of_6nd_with_attention(name: str) -> None:
    model = load(name).model
    counted = flop_per_sequence(model, model.seq)
    suite = suite_from_model(model.with_(tensor_parallel=1, micro_batch=1))
    assert counted == sum(item.flop for item in suite.items)
    table = 0 if model.tied_embeddings else model.vocab_size * model.hidden_size
    by_rule = 6 * (parameters(model) - table) * model.seq
    by_rule += 12 * model.num_layers * model.seq**2 * model.num_heads * model.head_dim
    assert counted == pytest.approx(by_rule, rel=0.01)


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("bloom-176b", 176.2), ("llama-7b", 6.74), ("llama-13b", 13.02), ("llama-65b", 65.29), ("llama-2-70b", 68.98),
        ("llama-3.1-405b", 405.9), ("mt-nlg-530b", 529.6),
        ("mpt-7b", 6.65), ("mpt-70b", 64.8), ("megatron-177b", 177.2),
    ],
)  # fmt: skip
def test_parameters_are_the_published_ones(name: str, billions: float) -> None:
    assert load(name).total_parameters / 1e9 == pytest.approx(billions, rel=2e-3)


def test_not_one_parameter_of_llama_is_missing() -> None:
    assert load("llama-3.1-8b").total_parameters == 8_030_261_248, "as Hugging Face counts meta-llama/Llama-3.1-8B"


def test_a_mixture_is_its_active_parameters_and_says_so() -> None:
    found = load("deepseek-v3")
    assert found.total_parameters == 671_000_000_000
    assert found.active_parameters / 1e9 == pytest.approx(37, rel=0.03)
    assert "mixture of experts" in (found.approximation or "")
    assert load("llama-3.1-8b").approximation is None


@pytest.mark.parametrize("layout", [SMALL, LLAMA, replace(LLAMA, recompute="full", attention="unfused")])
def test_parts_add_up_at_every_end(layout: Layout) -> None:
    found = priced("llama-3.1-405b", layout)
    assert tuple(found.step_s) == PARTS
    for end in ("value", "low", "high"):
        assert sum(getattr(part, end) for part in found.step_s.values()) == getattr(found.step_total_s, end)
        hours = sum(getattr(part, end) for part in found.gpu_hours.values())
        assert hours == getattr(found.gpu_hours_total, end)
    steps = found.tokens / layout.tokens
    lasts = found.step_total_s.value * steps / 3600 * layout.gpus / found.goodput.value
    assert found.gpu_hours_total.value == pytest.approx(lasts)
    for part in (*found.step_s.values(), *found.gpu_hours.values(), found.mfu, found.tco2):
        assert 0 <= part.low <= part.value <= part.high


def test_gemms_are_the_calibrations() -> None:
    asked = request(layout=replace(SMALL, tp=1, dp=8), assumptions=assuming(gemm_speed_sm_90=1.0))
    found = price_all([asked])[0]
    wanted = gemms(asked.architecture, asked.layout, h100(), "bf16")
    layer, head = wanted[:12], wanted[12:]
    predicted = [
        float(h100().calibration.predict(one.m, one.n, one.k, dtype=one.dtype).time_s[0]) for one in (*layer, *head)
    ]
    expected = 4 * (32 * sum(predicted[:12]) + sum(predicted[12:]))
    shown = ("gemm_forward", "gemm_input_grad", "gemm_weight_grad")
    assert sum(found.step_s[name].value for name in shown) == pytest.approx(expected)
    slower = price_all([msgspec.structs.replace(asked, assumptions=assuming(gemm_speed_sm_90=0.5))])[0]
    assert sum(slower.step_s[name].value for name in shown) == pytest.approx(2 * expected)


def test_the_bubble_is_what_other_stages_take_and_interleaving_divides_it() -> None:
    layout = Layout(tp=8, pp=8, dp=1, micro_batch=1, global_batch=64, seq=2048)
    free = assuming(stragglers=0)
    instant = request("gpt-3-175b", layout, machine=relinked(h100(), {"network_bytes_per_s": 1e15}), assumptions=free)
    plain, interleaved = (
        price(replace(instant, layout=replace(layout, vp=vp))).step_s["pipeline_bubble"].value for vp in (1, 4)
    )
    assert plain / interleaved == pytest.approx(4, rel=1e-2)
    parts = price(instant).step_s
    running = sum(part.value for name, part in parts.items() if name not in ("pipeline_bubble", "optimizer"))
    # Seven stages beside the slowest, which alone has the LM head, over 64 micro-batches.
    assert 0.9 * 7 / 64 < plain / running < 7 / 64


def test_full_recomputation_exchanges_activations_again() -> None:
    asked = request(layout=replace(SMALL, recompute="full"))
    usual, slow = (
        price(replace(asked, machine=relinked(h100(), {"node_bytes_per_s": rate}))).step_s for rate in (450e9, 100e9)
    )
    more = {name: slow[name].value - usual[name].value for name in ("recompute", "tensor_parallel")}
    # 32 layers once more, beside 32 there and back; the LM head exchanges half of what a layer does, there and back.
    assert more["recompute"] / more["tensor_parallel"] == pytest.approx(32 / (2 * 32 + 2 * 0.5))


def test_full_recomputation_is_another_forward_pass() -> None:
    none, full = (priced(layout=replace(SMALL, tp=1, dp=8, recompute=way)).step_s for way in ("none", "full"))
    assert none["recompute"].value == 0
    cheap = assuming(memory_fraction=0.95, flash_forward_sm_90=1)
    again = priced(layout=replace(SMALL, tp=1, dp=8, recompute="full"), assumptions=cheap).step_s
    # Beside the GEMMs, but for the LM head's, stand attention and what memory bounds.
    assert 0.9 < again["recompute"].value / again["gemm_forward"].value < 1.2
    assert full["recompute"].value > again["recompute"].value
    assert full["gemm_forward"] == none["gemm_forward"]
    spared = priced(layout=replace(SMALL, tp=1, dp=8, recompute="full", recompute_last=False))
    assert spared.step_s["recompute"].value == 0, "one stage is the last"


def test_tensor_parallel_exchange_by_hand() -> None:
    known = assuming(tensor_overlap=0, node_fraction=0.5, collective_latency_s=0, stragglers=0)
    found = priced(layout=replace(SMALL, dp=1, global_batch=2), assumptions=known).step_s["tensor_parallel"].value
    tokens, hidden = 2 * 4096, 4096
    sent = 2 * 2 * tokens * hidden * 2 / 2  # two exchanges of two halves, bf16, half of it leaves the GPU
    head = 2 * tokens * hidden * 2 / 2
    assert found == pytest.approx((32 * 2 * sent + 2 * head) / (0.5 * 450e9))


def test_data_parallel_reduction_by_hand() -> None:
    known = assuming(data_overlap=0, network_fraction=0.5)
    layout = Layout(tp=8, pp=1, dp=16, micro_batch=1, global_batch=16, seq=2048)
    found = priced("llama-3.1-8b", layout, assumptions=known).step_s["data_parallel"].value
    held = (8_030_261_248 - 65 * 4096) / 8  # norms are held by every rank: too few to matter
    moved = 15 / 16 * held * (4 + 2)  # fp32 gradients scattered, bf16 weights gathered
    assert found == pytest.approx(moved / (0.5 * 50e9), rel=1e-3)
    hidden = priced("llama-3.1-8b", layout, assumptions=assuming(data_overlap=1, network_fraction=0.5))
    assert hidden.step_s["data_parallel"].value < found


def test_optimizer_by_hand() -> None:
    known = assuming(memory_fraction=0.5)
    whole, shared = (
        priced(layout=replace(SMALL, tp=1, dp=8, shard=way), assumptions=known).step_s["optimizer"].value
        for way in ("none", "optimizer")
    )
    assert whole == pytest.approx(30 * 8_030_261_248 / (0.5 * 3350e9))
    assert shared == pytest.approx(whole / 8)


def test_flash_attention_by_hand() -> None:
    known = assuming(flash_forward_sm_90=0.5, flash_backward_sm_90=0.25)
    found = priced(layout=replace(SMALL, tp=1, dp=8), assumptions=known).step_s["attention"].value
    forward = 4 * 2 * 32 * 4096**2 * 128 / 2  # two products a head, half of each masked
    assert found == pytest.approx(4 * 32 * forward * (1 / 0.5 + 2.5 / 0.25) / 989.4e12)


def test_a_host_too_slow_is_waited_for() -> None:
    tiny = Layout(tp=8, pp=1, dp=1, micro_batch=1, global_batch=8, seq=128)
    slow, fast = (priced(layout=tiny, assumptions=assuming(host_s=host)).step_s["host"] for host in (1e-2, 1e-7))
    assert fast.value == 0
    assert 0.9 * 8 * 32 * 3e-2 < slow.value < 8 * 32 * 3e-2


def test_fp8_has_faster_gemms_and_pays_for_casts() -> None:
    half, eighth = (priced(precision=name).step_s for name in ("bf16", "fp8"))
    assert eighth["gemm_forward"].value < 0.75 * half["gemm_forward"].value
    assert eighth["memory_bound"].value > half["memory_bound"].value


def test_ten_thousand_configurations_in_ten_seconds() -> None:
    layouts = [
        Layout(tp=tp, dp=dp, micro_batch=micro, global_batch=dp * micro * many, seq=seq, recompute=way)
        for tp in (1, 2, 4, 8) for dp in (1, 4, 16, 64, 256) for micro in (1, 2, 4, 8) for many in (1, 2, 4, 8, 16, 32)
        for seq in (1024, 2048, 4096, 8192, 16384, 32768, 65536) for way in ("none", "selective", "full")
    ]  # fmt: skip
    asked = [request(layout=layout) for layout in layouts[:10_000]]
    start = time.process_time()
    found = price_all(asked)
    assert time.process_time() - start < 10
    assert len(found) == 10_000
    assert total(found[0].step_s.values()) == found[0].step_total_s


def test_a_model_of_inferred_sizes_says_so() -> None:
    told = load("megatron-314b").approximation
    assert told is not None
    assert told.startswith("unverified: sizes inferred")
    assert load("llama-3.1-8b").approximation is None
