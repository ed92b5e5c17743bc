"""What one GPU computes, moves and sends for one micro-batch: of one layer, and of the LM head with the loss."""

from __future__ import annotations

from functools import cache
from typing import Final

import msgspec

from flopwatt.analysis.cost.layout import Attention
from flopwatt.analysis.cost.machine import Gemm
from flopwatt.runs.suites import Model, SuiteItem, training_gemms

PHASES: Final = ("forward", "input_grad", "weight_grad")
ATTENTION: Final = ("attention_scores", "attention_values")


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU's share of a layer, or of the head, for one micro-batch.

    linear: GEMMs by phase. core: batched GEMMs of unfused attention, forward and backward. flash_flop: of fused causal
    attention forward, the masked half left out. forward_bytes, backward_bytes: through DRAM in kernels bound by memory;
    score_bytes: those of unfused scores, forward and backward, apart. exchanged_bytes: activations that tensor-parallel
    ranks exchange forward; as many again backward.
    """

    linear: tuple[tuple[Gemm, ...], tuple[Gemm, ...], tuple[Gemm, ...]]
    core: tuple[tuple[Gemm, ...], tuple[Gemm, ...]] = ((), ())
    flash_flop: float = 0.0
    forward_bytes: float
    backward_bytes: float
    score_bytes: tuple[float, float] = (0.0, 0.0)
    exchanged_bytes: float

    def gemms(self) -> tuple[Gemm, ...]:
        """All of them."""
        return tuple(gemm for group in (*self.linear, *self.core) for gemm in group)


@cache
def layer(model: Model, dtype: str, attention: Attention, sequence_parallel: bool) -> Share:
    """One layer, split as `model` says."""
    items = training_gemms(model, dtype=dtype, layers=1, lm_head=False, attention=attention == "unfused")
    tokens, tp = model.tokens, model.tensor_parallel
    forward, backward = _layer_elements(model, sequence_parallel)
    cast = _cast_bytes(model) if dtype.startswith("fp8") else 0.0
    scores = _score_elements(model) if attention == "unfused" else (0.0, 0.0)
    linear = [item for item in items if item.role not in ATTENTION]
    core = [item for item in items if item.role in ATTENTION]
    heads = model.num_heads // tp
    return Share(
        linear=_by_phase(linear, dtype),
        core=(
            tuple(_gemm(item, dtype) for item in core if item.phase == "forward"),
            tuple(_gemm(item, dtype) for item in core if item.phase != "forward"),
        ),
        flash_flop=0.0 if core else 2.0 * model.micro_batch * heads * model.seq**2 * model.head_dim,
        forward_bytes=tokens * (2 * forward + cast),
        backward_bytes=tokens * (2 * backward + 2 * cast),
        score_bytes=(2 * tokens * scores[0], 2 * tokens * scores[1]),
        # Two all-reduces, or two pairs of all-gather and reduce-scatter: the same bytes.
        exchanged_bytes=2 * 2 * tokens * model.hidden_size * 2 * (tp - 1) / tp,
    )


@cache
def head(model: Model, dtype: str) -> Share:
    """The LM head and the loss, split as `model` says; never in fp8."""
    items = [item for item in training_gemms(model, dtype=dtype, layers=1, attention=False) if item.role == "lm_head"]
    tokens, tp = model.tokens, model.tensor_parallel
    logits = model.padded_vocab_size / tp
    return Share(
        linear=_by_phase(items, dtype),
        # Logits to fp32, its largest and its sum found, exponentials written; then the gradient, from fp32.
        forward_bytes=tokens * logits * (2 + 4 + 4 + 4 + 4),
        backward_bytes=tokens * logits * (4 + 4 + 2),
        exchanged_bytes=2 * tokens * model.hidden_size * 2 * (tp - 1) / tp,
    )


def _by_phase(items: list[SuiteItem], dtype: str) -> tuple[tuple[Gemm, ...], tuple[Gemm, ...], tuple[Gemm, ...]]:
    forward, inputs, weights = (tuple(_gemm(item, dtype) for item in items if item.phase == phase) for phase in PHASES)
    return forward, inputs, weights


def _gemm(item: SuiteItem, dtype: str) -> Gemm:
    problem = item.problem
    return Gemm(problem.m, problem.n, problem.k, problem.batch, dtype, problem.layout)


def _layer_elements(model: Model, sequence_parallel: bool) -> tuple[float, float]:
    """Elements a token that fused kernels read and write, forward and backward.

    Forward: two norms (read, written), two residual additions with bias and dropout (two read, one written), the
    rotation of Q and K, the activation. Backward: what each has to read again, and the gradients.
    """
    tp, hidden = model.tensor_parallel, model.hidden_size
    rotated = (model.num_heads / tp + model.kv_heads_per_rank) * model.head_dim
    inner = model.intermediate_size / tp
    whole = hidden / (tp if sequence_parallel else 1)
    active_forward, active_backward = (3, 5) if model.gated_mlp else (2, 3)
    forward = (2 * 2 + 2 * 3) * whole + 2 * rotated + active_forward * inner
    backward = (2 * 3 + 2 * 2) * whole + 2 * rotated + active_backward * inner
    return forward, backward


def _score_elements(model: Model) -> tuple[float, float]:
    """Elements a token of unfused attention: a softmax with scale and mask, a dropout with its mask of bytes."""
    scores = model.seq * model.num_heads / model.tensor_parallel
    return (2 + 2.5) * scores, (3 + 2.5) * scores


def _cast_bytes(model: Model) -> float:
    """Bytes a token to cast the inputs of a layer's linear layers to fp8, as they lie and transposed."""
    tp = model.tensor_parallel
    inputs = 2 * model.hidden_size + (model.num_heads * model.head_dim + model.intermediate_size) / tp
    return (2 + 1 + 1) * inputs
