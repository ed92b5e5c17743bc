"""Seconds and joules of one GPU's share of a layer, or of the LM head, for one micro-batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from flopwatt.analysis.cost.assumptions import Assumptions
from flopwatt.analysis.cost.communication import exchange_s, exposed
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.cost.machine import Gemm, Machine
from flopwatt.analysis.cost.spans import NOTHING, Span, total
from flopwatt.analysis.cost.work import Share

BACKWARD_FLOP: Final = 2.5
"""Of fused attention, over its forward pass: five products against two."""


class Cost(msgspec.Struct, frozen=True):
    """Seconds, and joules of one GPU where its calibration has watts."""

    time_s: Span
    energy_j: Span | None

    def __add__(self, other: Cost) -> Cost:
        time_s = self.time_s + other.time_s
        if self.energy_j is None or other.energy_j is None:
            return Cost(time_s, None)
        return Cost(time_s, self.energy_j + other.energy_j)

    def scaled(self, factor: float) -> Cost:
        """So many of it."""
        return Cost(self.time_s.scaled(factor), self.energy_j.scaled(factor) if self.energy_j is not None else None)


class Pass(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU's share of a layer, or of the head, for one micro-batch, priced.

    exchange: of tensor-parallel ranks, as far as nothing hides it; forward, and as much again backward. idle_*: the GPU
    waits, since launching takes longer than running.
    """

    forward: Cost
    input_grad: Cost
    weight_grad: Cost
    attention_forward: Cost
    attention_backward: Cost
    memory_forward: Cost
    memory_backward: Cost
    exchange: Cost
    idle_forward: Cost
    idle_backward: Cost


class Pricer:
    """Prices shares on one machine under one set of assumptions."""

    def __init__(self, machine: Machine, assumptions: Assumptions, layout: Layout) -> None:
        self.machine = machine
        self.assumptions = assumptions
        self.layout = layout
        limit_w = machine.spec.tdp_w
        metered = any(one.power_points for one in machine.calibration.file.fitted)
        self.busy_w = assumptions["busy_power"].scaled(limit_w) if metered else None
        self.waiting_w = assumptions["waiting_power"].scaled(limit_w) if metered else None

    def busy(self, time_s: Span) -> Cost:
        """Time in which DRAM is busy."""
        return Cost(time_s, time_s * self.busy_w if self.busy_w is not None else None)

    def waiting(self, time_s: Span) -> Cost:
        """Time in which the GPU waits."""
        return Cost(time_s, time_s * self.waiting_w if self.waiting_w is not None else None)

    def memory(self, moved_bytes: float, fraction: str = "memory_fraction") -> Span:
        """Seconds to move so many bytes through DRAM."""
        rate = self.assumptions[fraction].scaled(self.machine.spec.mem_bytes_per_s)
        return rate.inverse().scaled(moved_bytes)

    def of_architecture(self, name: str) -> Span:
        """An assumption that depends on the GPU's architecture."""
        return self.assumptions[self.assumptions.own_name(name, self.machine.spec.arch)]

    def gemms(self, members: Iterable[Gemm]) -> Cost:
        """GEMMs that the machine has learnt."""
        priced = [self.machine.gemm(gemm) for gemm in members]
        time_s = total(one.time_s for one in priced) / self.of_architecture("gemm_speed")
        joules = [one.energy_j for one in priced if one.energy_j is not None]
        known = self.busy_w is not None and len(joules) == len(priced)
        return Cost(time_s, total(joules) if known else None)

    def flash(self, flop: float, phase: str) -> Cost:
        """Fused attention. phase: forward or backward."""
        if not flop:
            return self.busy(NOTHING)
        peak = self.machine.peak("bf16") if "bf16" in self.machine.spec.peak else self.machine.peak("fp16")
        return self.busy(self.of_architecture(f"flash_{phase}").scaled(peak).inverse().scaled(flop))

    def share(self, share: Share, layer: bool) -> Pass:
        """A layer's share, or the head's, which the host launches in no time."""
        forward, input_grad, weight_grad = (self.gemms(members) for members in share.linear)
        attention_forward = self.gemms(share.core[0]) + self.flash(share.flash_flop, "forward")
        attention_backward = self.gemms(share.core[1]) + self.flash(share.flash_flop * BACKWARD_FLOP, "backward")
        memory = [
            self.busy(self.memory(moved) + self.memory(scores, "score_fraction"))
            for moved, scores in (
                (share.forward_bytes, share.score_bytes[0]),
                (share.backward_bytes, share.score_bytes[1]),
            )
        ]
        running = forward.time_s + attention_forward.time_s + memory[0].time_s
        running_back = input_grad.time_s + weight_grad.time_s + attention_backward.time_s + memory[1].time_s
        host = self.assumptions["host_s"] if layer else NOTHING
        exchange = exchange_s(
            share.exchanged_bytes, 4 if layer else 1, self.layout, self.machine.link, self.assumptions
        )
        return Pass(
            forward=forward,
            input_grad=input_grad,
            weight_grad=weight_grad,
            attention_forward=attention_forward,
            attention_backward=attention_backward,
            memory_forward=memory[0],
            memory_backward=memory[1],
            exchange=self.waiting(exposed(exchange, self.assumptions["tensor_overlap"])),
            idle_forward=self.waiting(host.beyond(running)),
            idle_backward=self.waiting(host.scaled(2.0).beyond(running_back)),
        )
