"""Seconds of the three kinds of parallel communication, from link speeds and what of them is reached."""

from __future__ import annotations

from flopwatt.analysis.cost.architecture import Architecture
from flopwatt.analysis.cost.assumptions import Assumptions
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.cost.machine import Link
from flopwatt.analysis.cost.memory import WEIGHT_BYTES, stage_parameters
from flopwatt.analysis.cost.spans import NOTHING, Span
from flopwatt.runs.suites import Model


def exchange_s(exchanged_bytes: float, collectives: int, layout: Layout, link: Link, assumptions: Assumptions) -> Span:
    """Tensor-parallel collectives of one layer's forward pass; as many again backward."""
    if layout.tp == 1:
        return NOTHING
    rate = _rate(link, layout.tp, 1, assumptions)
    return rate.inverse().scaled(exchanged_bytes) + assumptions["collective_latency_s"].scaled(collectives)


def transfer_s(model: Model, layout: Layout, link: Link, assumptions: Assumptions) -> Span:
    """One micro-batch's activations from a stage to the next; each tensor-parallel rank sends its part."""
    if layout.pp == 1:
        return NOTHING
    sent = layout.micro_batch * layout.seq * model.hidden_size * WEIGHT_BYTES / layout.tp
    return _rate(link, layout.pp, layout.tp * layout.dp, assumptions).inverse().scaled(sent)


def data_parallel_s(
    architecture: Architecture, layout: Layout, link: Link, assumptions: Assumptions, micro_batch_s: Span
) -> Span:
    """What one step's reduction of gradients and gathering of parameters exposes.

    It hides behind a micro-batch's computation: of the last and the first where parameters stay whole, of each where
    they are gathered for every one.
    """
    if layout.dp == 1:
        return NOTHING
    held = stage_parameters(architecture, layout)
    moved = (layout.dp - 1) / layout.dp * held
    rate = _rate(link, layout.dp, layout.tp, assumptions)
    reduced = rate.inverse().scaled(moved * assumptions["gradient_bytes"].value)
    gathered = rate.inverse().scaled(moved * WEIGHT_BYTES)
    if layout.shard == "full":
        # Half the gradients' bytes: fully sharded training reduces them in bf16.
        each = gathered.scaled(2.0) + rate.inverse().scaled(moved * WEIGHT_BYTES)
        return _beside(each, micro_batch_s, assumptions["gather_overlap"]).scaled(layout.micro_batches)
    whole = reduced + (gathered if layout.shard == "optimizer" else reduced)
    return _beside(whole, micro_batch_s, assumptions["data_overlap"])


def exposed(time_s: Span, hidden: Span) -> Span:
    """What is left of a time of which a share hides; most is hidden at the low end."""
    return Span(time_s.value * (1 - hidden.value), time_s.low * (1 - hidden.high), time_s.high * (1 - hidden.low))


def _rate(link: Link, ranks: int, stride: int, assumptions: Assumptions) -> Span:
    """Bytes a second of one GPU in a group of so many ranks, each `stride` GPUs from the next.

    Across servers every member in a server brings its network adapter: a ring enters a server once.
    """
    within = assumptions["node_fraction"].scaled(link.node_bytes_per_s)
    if ranks * stride <= link.node:
        return within
    adapters = max(1, link.node // stride) if ranks > 1 else 1
    between = assumptions["network_fraction"].scaled(link.network_bytes_per_s * adapters)
    return Span(min(within.value, between.value), min(within.low, between.low), min(within.high, between.high))


def _beside(time_s: Span, computing: Span, hidden: Span) -> Span:
    """What is exposed of a time of which a share may hide, as long as there is computation beside it."""
    return Span(
        time_s.value - min(time_s.value * hidden.value, computing.value),
        time_s.low - min(time_s.low * hidden.high, computing.high),
        time_s.high - min(time_s.high * hidden.low, computing.low),
    )
