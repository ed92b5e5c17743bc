"""Seconds of one training step and joules of one GPU in it, part by part."""

from __future__ import annotations

from functools import cache
from typing import Final

import msgspec

from flopwatt.analysis.cost import work
from flopwatt.analysis.cost.architecture import Architecture
from flopwatt.analysis.cost.assumptions import Assumptions
from flopwatt.analysis.cost.communication import data_parallel_s, exposed, transfer_s
from flopwatt.analysis.cost.layout import Layout, stages
from flopwatt.analysis.cost.machine import Gemm, Machine
from flopwatt.analysis.cost.memory import stage_parameters
from flopwatt.analysis.cost.passes import Cost, Pass, Pricer
from flopwatt.analysis.cost.spans import Span, total
from flopwatt.analysis.cost.work import Share
from flopwatt.runs.suites import Model

PARTS: Final = (
    "gemm_forward", "gemm_input_grad", "gemm_weight_grad", "attention", "recompute", "memory_bound", "optimizer",
    "host", "tensor_parallel", "pipeline_transfer", "pipeline_bubble", "data_parallel", "stragglers",
)  # fmt: skip
OPTIMIZER_BYTES: Final = 30
"""Through DRAM for each parameter of Adam: gradient, master weight and two moments read, three written, and bf16."""


class Step(msgspec.Struct, frozen=True):
    """parts: seconds and joules by name, in the order of PARTS; their sums are the step's."""

    parts: dict[str, Cost]

    @property
    def time_s(self) -> Span:
        """Seconds of the step."""
        return total(part.time_s for part in self.parts.values())


def gemms(architecture: Architecture, layout: Layout, machine: Machine, precision: str) -> tuple[Gemm, ...]:
    """All GEMMs that pricing this layout needs."""
    layer, head = _shares(architecture, layout, machine, precision)
    return layer.gemms() + head.gemms()


def step(
    architecture: Architecture, layout: Layout, machine: Machine, precision: str, assumptions: Assumptions
) -> Step:
    """One step of a layout that is possible; its GEMMs have been learnt by the machine."""
    model = architecture.model
    shared = stages(model.num_layers, layout.pp)
    assert shared is not None
    shares = _shares(architecture, layout, machine, precision)
    on = Pricer(machine, assumptions, layout)
    layer, head = on.share(shares[0], layer=True), on.share(shares[1], layer=False)
    kinds = [(_stage(layer, shared[2], head, layout, last=True), 1)]
    if layout.pp > 1:
        kinds.append((_stage(layer, shared[0], None, layout), 1))
    if layout.pp > 2:
        kinds.append((_stage(layer, shared[1], None, layout), layout.pp - 2))
    slowest = max((stage for stage, _ in kinds), key=lambda stage: _time(stage).value)
    parts = {name: cost.scaled(layout.micro_batches) for name, cost in slowest.items()}
    others = total(_time(stage).scaled(count - (stage is slowest)) for stage, count in kinds)
    hidden = assumptions["pipeline_overlap"]
    transfer = transfer_s(model, layout, machine.link, assumptions)
    filling = others.scaled(1 / layout.vp) + transfer.scaled(2.0 * (layout.pp - 1))
    parts["pipeline_bubble"] = on.waiting(filling)
    parts["pipeline_transfer"] = on.waiting(
        exposed(transfer.scaled(2.0 * layout.micro_batches * layout.vp if layout.pp > 1 else 0.0), hidden)
    )
    parts["data_parallel"] = on.waiting(
        data_parallel_s(architecture, layout, machine.link, assumptions, _time(slowest))
    )
    held = stage_parameters(architecture, layout) / (1 if layout.shard == "none" else layout.dp)
    parts["optimizer"] = on.busy(on.memory(OPTIMIZER_BYTES * held))
    spent = total(part.time_s for part in parts.values())
    parts["stragglers"] = on.waiting(spent * assumptions["stragglers"])
    return Step({name: parts[name] for name in PARTS})


def _shares(architecture: Architecture, layout: Layout, machine: Machine, precision: str) -> tuple[Share, Share]:
    dtype = machine.dtype(precision)
    head_dtype = machine.dtype("bf16") if {"bf16", "fp16"} & set(machine.calibration.dtypes) else dtype
    model = _split(architecture.model, layout.seq, layout.micro_batch, layout.tp)
    return work.layer(model, dtype, layout.attention, layout.sequence_parallel), work.head(model, head_dtype)


@cache
def _split(model: Model, seq: int, micro_batch: int, tp: int) -> Model:
    return model.with_(seq=seq, micro_batch=micro_batch, tensor_parallel=tp)


def _stage(layer: Pass, layers: int, head: Pass | None, layout: Layout, last: bool = False) -> dict[str, Cost]:
    """One micro-batch, forward and backward, on one stage, by part."""
    recomputed = {
        "none": layer.forward.scaled(0.0),
        "selective": layer.memory_forward + layer.attention_forward.scaled(layout.attention == "unfused"),
        "full": layer.forward + layer.attention_forward + layer.memory_forward + layer.exchange,
    }["none" if last and not layout.recompute_last else layout.recompute]
    parts = {
        "gemm_forward": layer.forward,
        "gemm_input_grad": layer.input_grad,
        "gemm_weight_grad": layer.weight_grad,
        "attention": layer.attention_forward + layer.attention_backward,
        "recompute": recomputed,
        "memory_bound": layer.memory_forward + layer.memory_backward,
        "host": layer.idle_forward + layer.idle_backward,
        "tensor_parallel": layer.exchange + layer.exchange,
    }
    parts = {name: cost.scaled(layers) for name, cost in parts.items()}
    if head is not None:
        for name, cost in (
            ("gemm_forward", head.forward), ("gemm_input_grad", head.input_grad),
            ("gemm_weight_grad", head.weight_grad), ("memory_bound", head.memory_forward + head.memory_backward),
            ("tensor_parallel", head.exchange + head.exchange),
        ):  # fmt: skip
            parts[name] = parts[name] + cost
    return parts


def _time(parts: dict[str, Cost]) -> Span:
    return total(part.time_s for part in parts.values())
