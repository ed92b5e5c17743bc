"""Bytes that the fullest GPU of a layout holds: weights, gradients, optimizer, activations.

Activations as Korthikanti et al. 2022 (arXiv:2205.05198) count them, with the widths of a gated feed-forward block and
of grouped-query attention; fused attention keeps no scores.
"""

from __future__ import annotations

from typing import Final

import msgspec

from flopwatt.analysis.cost.architecture import Architecture
from flopwatt.analysis.cost.assumptions import Assumptions
from flopwatt.analysis.cost.layout import Layout, stages

WEIGHT_BYTES: Final = 2
ADAM_BYTES: Final = 12
"""Master weights and two moments in fp32."""


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes on the fullest GPU."""

    weights: float
    gradients: float
    optimizer: float
    activations: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations


def stage_parameters(architecture: Architecture, layout: Layout) -> float:
    """Parameters on one GPU of the fullest stage, before data-parallel sharding; those of idle experts left out."""
    model = architecture.model
    shared = stages(model.num_layers, layout.pp)
    assert shared is not None
    table = model.vocab_size * model.hidden_size
    tables = table * (1 if model.tied_embeddings else 2)
    a_layer = (architecture.active_parameters - tables) / model.num_layers
    if layout.pp == 1:
        return (a_layer * model.num_layers + tables) / layout.tp
    return max(a_layer * shared[0] + table, a_layer * shared[1]) / layout.tp


def needed(architecture: Architecture, layout: Layout, assumptions: Assumptions) -> Memory:
    """What the fullest GPU holds. Idle experts lie spread over all GPUs, as expert parallelism puts them."""
    held, idle = stage_parameters(architecture, layout), architecture.other_parameters / layout.gpus
    split = layout.dp if layout.shard == "full" else 1
    optimizer_split = 1 if layout.shard == "none" else layout.dp
    return Memory(
        weights=WEIGHT_BYTES * (held / split + idle),
        gradients=assumptions["gradient_bytes"].value * (held / split + idle),
        optimizer=ADAM_BYTES * (held / optimizer_split + idle),
        activations=_activations(architecture, layout) + (_gathered(architecture, layout) if split > 1 else 0.0),
    )


def _gathered(architecture: Architecture, layout: Layout) -> float:
    """Two layers' whole weights and one's gradients, under full sharding."""
    model = architecture.model
    return 3 * WEIGHT_BYTES * architecture.active_parameters / (model.num_layers * layout.tp)


def _activations(architecture: Architecture, layout: Layout) -> float:
    model = architecture.model
    tokens = layout.micro_batch * layout.seq
    shared = stages(model.num_layers, layout.pp)
    assert shared is not None
    chunks = layout.vp
    in_flight = layout.pp if chunks == 1 else layout.pp * (1 + (layout.pp - 1) / (layout.pp * chunks))
    in_flight = min(in_flight, layout.micro_batches)
    layer = _layer_bytes(architecture, layout)
    if layout.recompute == "full":
        whole = layer
        layer = 2 * model.hidden_size / (layout.tp if layout.sequence_parallel else 1)
        return tokens * (layer * max(shared) * in_flight + whole + _head_bytes(architecture, layout))
    head = _head_bytes(architecture, layout) / (1 if layout.pp == 1 else in_flight)
    return tokens * in_flight * (layer * max(shared) + head)


def _layer_bytes(architecture: Architecture, layout: Layout) -> float:
    """Bytes a token that one layer keeps for its backward pass.

    Q, K, V, the output of attention, what goes into and comes out of the activation; inputs and outputs of two norms,
    and the masks of two dropouts where the model is old enough to have them. `selective` makes again what norms,
    activation and unfused scores put out.
    """
    model, tp = architecture.model, layout.tp
    again = layout.recompute == "selective"
    heads = 2 * (model.num_heads + model.num_kv_heads) * model.head_dim
    inner = (2 if model.gated_mlp else 1) + (0 if again else 1)
    split = WEIGHT_BYTES * (heads + inner * model.intermediate_size) / tp
    if layout.attention == "unfused" and not again:
        split += 5 * model.num_heads * layout.seq / tp
    whole = WEIGHT_BYTES * (2 if again else 4) + (0 if model.gated_mlp else 2)
    return split + whole * model.hidden_size / (tp if layout.sequence_parallel else 1)


def _head_bytes(architecture: Architecture, layout: Layout) -> float:
    """Bytes a token of the logits, in bf16 and in fp32."""
    return 6 * architecture.model.vocab_size / layout.tp
