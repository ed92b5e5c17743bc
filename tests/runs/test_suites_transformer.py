"""The transformer generator: shapes worked out by hand, and the identity 6 × parameters × tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopwatt.errors import SuiteError
from flopwatt.runs.suites import Model, SuiteItem, linear_parameters, list_models, load_model, sequence, training_gemms
from gemmkernels.problem import Problem

LLAMA_8B_LAYER = 4096 * 6144 + 4096 * 4096 + 4096 * 28672 + 14336 * 4096


def gemm(items: tuple[SuiteItem, ...], role: str, phase: str) -> tuple[str, str, int]:
    (item,) = [item for item in items if (item.role, item.phase) == (role, phase)]
    return item.problem.shape, item.problem.layout, item.count


def stored(problem: Problem) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Shapes of A, B and C as they lie in memory."""
    m, n, k = problem.m, problem.n, problem.k
    a = (k, m) if problem.layout[0] == "t" else (m, k)
    b = (n, k) if problem.layout[1] == "t" else (k, n)
    return a, b, (m, n)


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("dtype", ["bf16", "fp8_e4m3"])
def test_flop_is_six_times_parameters_times_tokens(name: str, dtype: str) -> None:
    model = load_model(name)
    items = [item for item in training_gemms(model, dtype=dtype) if item.headline]
    assert len(items) == 15
    assert sum(item.flop for item in items) == 6 * linear_parameters(model) * model.tokens


def test_llama_3_1_8b_layer_by_hand() -> None:
    items = training_gemms(load_model("llama-3.1-8b"), layers=1, lm_head=False, attention=False)
    assert [(i.role, i.phase, i.problem.shape, i.problem.layout) for i in items] == [
        ("qkv", "forward", "8192x6144x4096", "nt"),
        ("qkv", "input_grad", "8192x4096x6144", "nn"),
        ("qkv", "weight_grad", "6144x4096x8192", "tn"),
        ("attention_output", "forward", "8192x4096x4096", "nt"),
        ("attention_output", "input_grad", "8192x4096x4096", "nn"),
        ("attention_output", "weight_grad", "4096x4096x8192", "tn"),
        ("gate_up", "forward", "8192x28672x4096", "nt"),
        ("gate_up", "input_grad", "8192x4096x28672", "nn"),
        ("gate_up", "weight_grad", "28672x4096x8192", "tn"),
        ("down", "forward", "8192x4096x14336", "nt"),
        ("down", "input_grad", "8192x14336x4096", "nn"),
        ("down", "weight_grad", "4096x14336x8192", "tn"),
    ]
    assert {item.count for item in items} == {1}
    assert all(item.headline for item in items)
    assert sum(item.flop for item in items) == 6 * LLAMA_8B_LAYER * 8192 == 10_720_238_370_816


def test_llama_3_1_405b_under_tensor_parallelism_by_hand() -> None:
    items = training_gemms(load_model("llama-3.1-405b"))
    assert gemm(items, "qkv", "forward") == ("8192x2304x16384", "nt", 126 * 8)
    assert gemm(items, "attention_output", "forward") == ("8192x16384x2048", "nt", 126 * 8)
    assert gemm(items, "gate_up", "forward") == ("8192x13312x16384", "nt", 126 * 8)
    assert gemm(items, "down", "input_grad") == ("8192x6656x16384", "nn", 126 * 8)
    assert gemm(items, "lm_head", "weight_grad") == ("16128x16384x8192", "tn", 8)


def test_gpt_3_by_hand() -> None:
    items = training_gemms(load_model("gpt-3-175b"))
    assert {item.role for item in items if item.headline} == {"qkv", "attention_output", "fc1", "fc2", "lm_head"}
    assert gemm(items, "qkv", "forward") == ("2048x4608x12288", "nt", 96 * 8)
    assert gemm(items, "fc1", "forward") == ("2048x6144x12288", "nt", 96 * 8)
    assert gemm(items, "fc2", "weight_grad") == ("12288x6144x2048", "tn", 96 * 8)
    assert gemm(items, "lm_head", "forward") == ("2048x6400x12288", "nt", 8)
    assert gemm(items, "attention_scores", "forward") == ("12x2048x2048x128", "nt", 96 * 8)


def test_each_phase_reads_tensors_as_they_lie_in_memory() -> None:
    tokens, inner, outer = 8192, 14336, 4096
    x, w, dy = (tokens, inner), (outer, inner), (tokens, outer)
    down = {i.phase: stored(i.problem) for i in training_gemms(load_model("llama-3.1-8b")) if i.role == "down"}
    assert down == {"forward": (x, w, dy), "input_grad": (dy, w, x), "weight_grad": (dy, x, w)}


def test_attention_is_batched_over_query_heads_and_out_of_the_headline() -> None:
    model = load_model("llama-3.1-8b").with_(seq=1024, micro_batch=2, tensor_parallel=4)
    items = tuple(item for item in training_gemms(model) if item.role.startswith("attention_") and not item.headline)
    assert [(item.role, item.phase, item.problem.shape, item.problem.layout) for item in items] == [
        ("attention_scores", "forward", "16x1024x1024x128", "nt"),
        ("attention_scores", "input_grad", "16x1024x128x1024", "nn"),
        ("attention_scores", "weight_grad", "16x1024x128x1024", "tn"),
        ("attention_values", "forward", "16x1024x128x1024", "nn"),
        ("attention_values", "input_grad", "16x1024x1024x128", "nt"),
        ("attention_values", "weight_grad", "16x1024x128x1024", "tn"),
    ]
    # 12 × layers × tokens × seq × heads × head_dim, the causal mask not exploited
    assert sum(item.flop for item in items) == 12 * 32 * 2048 * 1024 * 4096


@pytest.mark.parametrize("dtype", ["fp8_e4m3", "fp8_e5m2", "int8"])
def test_eight_bit_formats_keep_the_shapes_as_nt(dtype: str) -> None:
    model = load_model("llama-2-7b")
    wide, narrow = training_gemms(model), training_gemms(model, dtype=dtype)
    assert [item.problem.shape for item in narrow] == [item.problem.shape for item in wide]
    assert {item.problem.layout for item in narrow} == {"nt"}
    assert {item.problem.scaling for item in narrow} == ({None} if dtype == "int8" else {"tensor"})
    assert {item.problem.layout for item in sequence(model, dtype=dtype)} == {"nt"}


def test_sequence_runs_forward_then_backward_in_reverse() -> None:
    items = sequence(load_model("llama-3.1-8b"))
    assert [(item.role, item.phase) for item in items] == [
        ("qkv", "forward"),
        ("attention_output", "forward"),
        ("gate_up", "forward"),
        ("down", "forward"),
        ("down", "input_grad"),
        ("down", "weight_grad"),
        ("gate_up", "input_grad"),
        ("gate_up", "weight_grad"),
        ("attention_output", "input_grad"),
        ("attention_output", "weight_grad"),
        ("qkv", "input_grad"),
        ("qkv", "weight_grad"),
    ]
    assert sum(item.problem.flop for item in items) == 6 * LLAMA_8B_LAYER * 8192


def test_sequence_holds_exactly_the_problems_of_the_suite() -> None:
    model = load_model("gpt-3-175b")
    alone = {(i.role, i.phase, i.problem) for i in training_gemms(model, lm_head=False, attention=False)}
    assert {(i.role, i.phase, i.problem) for i in sequence(model)} == alone


def test_copied_kv_heads_are_computed_on_every_rank() -> None:
    model = load_model("llama-3.1-8b").with_(tensor_parallel=16)
    # 2 query heads, one K head and one V head a rank
    assert gemm(training_gemms(model), "qkv", "forward") == ("8192x512x4096", "nt", 32 * 16)
    assert linear_parameters(model) == 32 * (LLAMA_8B_LAYER + 4096 * 2 * 8 * 128) + 129024 * 4096


@pytest.mark.parametrize("layers", [0, 33])
def test_layers_beyond_the_model(layers: int) -> None:
    with pytest.raises(SuiteError, match=f"model llama-3.1-8b: layers = {layers}: choose 1 to 32"):
        training_gemms(load_model("llama-3.1-8b"), layers=layers)


def test_a_model_too_large_for_any_gemm_is_one_line() -> None:
    with pytest.raises(
        SuiteError, match=r"^model llama-3.1-8b, attention_scores: .* TiB: give a shape that fits"
    ) as error:
        training_gemms(load_model("llama-3.1-8b").with_(seq=2**20))
    assert str(error.value).isprintable()
    with pytest.raises(SuiteError, match=r"^model llama-3.1-8b, qkv: M = 33554432 is outside"):
        training_gemms(load_model("llama-3.1-8b").with_(seq=2**20, micro_batch=32))


@st.composite
def models(draw: st.DrawFn) -> Model:
    tp = draw(st.sampled_from([1, 2, 4, 8]))
    heads = tp * draw(st.integers(1, 6))
    kv_heads = draw(
        st.sampled_from([d for d in range(1, heads + 1) if heads % d == 0 and (d % tp == 0 or tp % d == 0)])
    )
    return Model(
        name="random",
        source="drawn",
        hidden_size=draw(st.integers(1, 3000)),
        intermediate_size=tp * draw(st.integers(1, 1500)),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=draw(st.integers(1, 256)),
        num_layers=draw(st.integers(1, 100)),
        vocab_size=draw(st.integers(1, 100_000)),
        gated_mlp=draw(st.booleans()),
        tied_embeddings=draw(st.booleans()),
        seq=draw(st.integers(1, 5000)),
        micro_batch=draw(st.integers(1, 4)),
        tensor_parallel=tp,
    )


@given(models())
def test_flop_identity_for_any_model(model: Model) -> None:
    tp, hidden = model.tensor_parallel, model.hidden_size
    kv_copies = max(1, tp // model.num_kv_heads)
    attention = hidden * model.head_dim * (2 * model.num_heads + 2 * model.num_kv_heads * kv_copies)
    feed_forward = (3 if model.gated_mlp else 2) * hidden * model.intermediate_size
    vocab = next(v for v in range(model.vocab_size, model.vocab_size + 128 * tp) if v % (128 * tp) == 0)
    parameters = model.num_layers * (attention + feed_forward) + vocab * hidden
    tokens = model.seq * model.micro_batch
    items = training_gemms(model)
    assert sum(item.flop for item in items if item.headline) == 6 * parameters * tokens
    assert linear_parameters(model) == parameters
    layer = sum(item.problem.flop for item in sequence(model)) * model.num_layers * tp
    assert layer == 6 * (parameters - vocab * hidden) * tokens
