"""The GEMMs of one transformer training step, derived from a Model: shapes, layouts, roles and how often each runs.

A linear layer Y[T, out] = X[T, in] · Wᵀ with weights stored [out, in] and T tokens runs three GEMMs a step:

    phase        computes                            M    N    K    layout
    forward      Y[T, out]   = X[T, in] · Wᵀ         T    out  in   nt
    input_grad   dX[T, in]   = dY[T, out] · W        T    in   out  nn
    weight_grad  dW[out, in] = dYᵀ · X[T, in]        out  in   T    tn

Tensor parallelism splits as in Megatron-LM (Shoeybi et al. 2019, arXiv:1909.08053; Narayanan et al. 2021,
arXiv:2104.04473): `qkv`, `gate_up` / `fc1` and `lm_head` by columns (out / TP), `attention_output` and `down` / `fc2`
by rows (in / TP). Each rank runs its share, so an item counts layers × TP (lm_head: TP) a micro-batch. With fewer
K/V heads than ranks each rank computes one K/V head, so copies are computed too, and counted since they are run.

fp8 and int8 tensor cores take both operands K-major, so there every phase is `nt` with the same M, N and K, on
operands transposed beforehand; that transposition is not counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flopwatt.runs.records import Phase, SequenceItem
from flopwatt.runs.suites.files import complaint
from flopwatt.runs.suites.model import Model
from gemmkernels.problem import Problem, ProblemError

PHASES: Final[tuple[Phase, ...]] = ("forward", "input_grad", "weight_grad")


@dataclass(frozen=True, slots=True)
class SuiteItem:
    """One GEMM of a suite and the part it plays.

    count: how often one micro-batch's training step runs it, over all tensor-parallel ranks. headline: whether it
    counts towards the suite's totals.
    """

    problem: Problem
    role: str
    phase: Phase | None
    count: int
    headline: bool

    @property
    def flop(self) -> int:
        """Floating-point operations of all its `count` runs."""
        return self.count * self.problem.flop


@dataclass(frozen=True, slots=True)
class _Linear:
    """A linear layer as one rank holds it: weights [outputs, inputs]."""

    role: str
    inputs: int
    outputs: int


def training_gemms(
    model: Model,
    *,
    dtype: str = "bf16",
    layers: int | None = None,
    lm_head: bool = True,
    attention: bool = True,
) -> tuple[SuiteItem, ...]:
    """Every GEMM of one micro-batch's training step, one item a role and phase.

    layers: count only so many, None all. lm_head, attention: whether to include them. Raises SuiteError.
    """
    layers = model.num_layers if layers is None else layers
    if not 1 <= layers <= model.num_layers:
        raise complaint(f"model {model.name}", f"layers = {layers}: choose 1 to {model.num_layers}")
    tp = model.tensor_parallel
    counted = [(linear, layers * tp) for linear in _layer(model)]
    if lm_head:
        counted.append((_Linear("lm_head", model.hidden_size, model.padded_vocab_size // tp), tp))
    items = [
        SuiteItem(_linear_problem(model, linear, phase, dtype), linear.role, phase, count, headline=True)
        for linear, count in counted
        for phase in PHASES
    ]
    if attention:
        items += _attention(model, dtype, layers * tp)
    return tuple(items)


def sequence(model: Model, *, dtype: str = "bf16") -> tuple[SequenceItem, ...]:
    """One layer's linear GEMMs on one rank as training runs them: forward, then gradients in reverse order."""
    linears = _layer(model)
    order: list[tuple[_Linear, Phase]] = [(linear, "forward") for linear in linears]
    for linear in reversed(linears):
        order += [(linear, "input_grad"), (linear, "weight_grad")]
    return tuple(
        SequenceItem(problem=_linear_problem(model, linear, phase, dtype), role=linear.role, phase=phase)
        for linear, phase in order
    )


def linear_parameters(model: Model) -> int:
    """Weights of all linear layers over all ranks: biases, norms and the embedding table left out.

    The vocabulary counts as padded, and K/V projections as often as they are held.
    """
    tp = model.tensor_parallel
    layer = sum(linear.inputs * linear.outputs for linear in _layer(model))
    return tp * model.num_layers * layer + model.padded_vocab_size * model.hidden_size


def _layer(model: Model) -> tuple[_Linear, ...]:
    hidden, tp = model.hidden_size, model.tensor_parallel
    heads = model.num_heads // tp
    inner = model.intermediate_size // tp
    attention = (
        _Linear("qkv", hidden, (heads + 2 * model.kv_heads_per_rank) * model.head_dim),
        _Linear("attention_output", heads * model.head_dim, hidden),
    )
    if model.gated_mlp:
        # One GEMM for both branches, as Megatron-LM and vLLM store them.
        return (*attention, _Linear("gate_up", hidden, 2 * inner), _Linear("down", inner, hidden))
    return (*attention, _Linear("fc1", hidden, inner), _Linear("fc2", inner, hidden))


def _linear_problem(model: Model, linear: _Linear, phase: Phase, dtype: str) -> Problem:
    tokens = model.tokens
    m, n, k, layout = {
        "forward": (tokens, linear.outputs, linear.inputs, "nt"),
        "input_grad": (tokens, linear.inputs, linear.outputs, "nn"),
        "weight_grad": (linear.outputs, linear.inputs, tokens, "tn"),
    }[phase]
    return _problem(model, linear.role, m, n, k, layout=layout, dtype=dtype)


def _attention(model: Model, dtype: str, count: int) -> list[SuiteItem]:
    """The batched GEMMs of unfused attention, one matrix a query head, the causal half that is masked included.

    Scores S = Q·Kᵀ, then values O = P·V, each with the gradients of both its operands: `input_grad` is the first
    operand's (Q, P), `weight_grad` the second's, which stands where a weight would (K, V). Under grouped-query
    attention the heads of a group share K and V; each still runs a GEMM of its own, as after expanding K and V, and
    adding up a group's dK and dV is no GEMM.
    """
    seq, dim = model.seq, model.head_dim
    batch = model.micro_batch * (model.num_heads // model.tensor_parallel)
    shapes: tuple[tuple[str, Phase, int, int, int, str], ...] = (
        ("attention_scores", "forward", seq, seq, dim, "nt"),
        ("attention_scores", "input_grad", seq, dim, seq, "nn"),
        ("attention_scores", "weight_grad", seq, dim, seq, "tn"),
        ("attention_values", "forward", seq, dim, seq, "nn"),
        ("attention_values", "input_grad", seq, seq, dim, "nt"),
        ("attention_values", "weight_grad", seq, dim, seq, "tn"),
    )
    return [
        SuiteItem(
            _problem(model, role, m, n, k, batch=batch, layout=layout, dtype=dtype), role, phase, count, headline=False
        )
        for role, phase, m, n, k, layout in shapes
    ]


def _problem(model: Model, role: str, m: int, n: int, k: int, *, layout: str, dtype: str, batch: int = 1) -> Problem:
    try:
        return make_problem(m, n, k, batch=batch, dtype=dtype, layout=layout)
    except ProblemError as error:
        raise complaint(f"model {model.name}, {role}", str(error)) from error


def make_problem(m: int, n: int, k: int, *, batch: int = 1, dtype: str = "bf16", layout: str = "nn") -> Problem:
    """A Problem as `dtype` runs it: fp8 and int8 always as `nt`, fp8 with one scale a tensor. Raises ProblemError."""
    is_fp8 = dtype.startswith("fp8")
    return Problem(
        m,
        n,
        k,
        batch=batch,
        dtype=dtype,
        layout="nt" if is_fp8 or dtype == "int8" else layout,
        scaling="tensor" if is_fp8 else None,
    )
