"""`price`: what training a model on many GPUs costs, from one request to its hours, energy, dollars and CO2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from flopwatt.analysis.cost.architecture import Architecture, flop_per_sequence
from flopwatt.analysis.cost.assumptions import Assumptions, defaults
from flopwatt.analysis.cost.goodput import goodput
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.cost.machine import Gemm, Link, Machine
from flopwatt.analysis.cost.spans import Span, exactly, total
from flopwatt.analysis.cost.step import Step, gemms, step

HOUR_S: Final = 3600.0
LOST: Final = "lost_to_failures"
"""The part that goodput adds to those of a step."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One training run to price.

    machine: the GPU. layout: a possible one (see `choosing`). precision: bf16, fp16 or fp8, of the linear layers.
    tokens: of the whole run. goodput: stated; None to derive it from failures. usd_per_hour: of one GPU; None for the
    published rent, if there is one.
    """

    machine: Machine
    architecture: Architecture
    layout: Layout
    tokens: float
    precision: str = "bf16"
    assumptions: Assumptions = msgspec.field(default_factory=defaults)
    goodput: Span | None = None
    usd_per_hour: Span | None = None


class Energy(msgspec.Struct, frozen=True, kw_only=True):
    """Joules by where they go: all GPUs, the rest of their servers, and what the facility adds (PUE)."""

    gpus_j: Span
    servers_j: Span
    facility_j: Span

    @property
    def total_j(self) -> Span:
        """All of it."""
        return self.gpus_j + self.servers_j + self.facility_j


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a run costs; every Span is a value with its low and high end.

    This is the public record that exporters read: `kind` is `end_to_end`, so it never mixes with a calibration's
    `kernel` figures. link: what the GPU is connected by. flop_per_s_per_gpu: the model's FLOPs, attention's masked half
    counted and nothing recomputed, a GPU and second of training (goodput left out); mfu: over the dense peak. step_s:
    seconds of one step by part, in order, which add up to it. gpu_hours: by part, the time lost to failures last;
    likewise. measured: energy on the basis of the calibration's watts; None where it has none. tdp: as if every GPU
    drew its TDP all the time. usd: None without a price. tco2: on the measured basis where there is one, else on the
    TDP's.
    """

    kind: Literal["end_to_end"] = "end_to_end"
    gpu: str
    link: Link
    unvalidated: bool
    model: str
    approximation: str | None
    precision: str
    layout: Layout
    tokens: float
    step_s: dict[str, Span]
    goodput: Span
    flop_per_s_per_gpu: Span
    mfu: Span
    gpu_hours: dict[str, Span]
    measured: Energy | None
    tdp: Energy
    usd: Span | None
    tco2: Span

    @property
    def step_total_s(self) -> Span:
        """Seconds of one step."""
        return total(self.step_s.values())

    @property
    def gpu_hours_total(self) -> Span:
        """GPU-hours of the run."""
        return total(self.gpu_hours.values())

    @property
    def days(self) -> Span:
        """Days from start to end."""
        return self.gpu_hours_total.scaled(1.0 / (24.0 * self.layout.gpus))


def price(request: Request) -> Price:
    """What one run costs. The layout must be possible, or it raises AssertionError or SuiteError."""
    return price_all([request])[0]


def price_all(requests: Sequence[Request]) -> list[Price]:
    """What each run costs; all GEMMs of all runs are predicted first, in one call a GPU and number format."""
    wanted: dict[Machine, set[Gemm]] = {}
    for one in requests:
        found = wanted.setdefault(one.machine, set())
        found.update(gemms(one.architecture, one.layout, one.machine, one.precision))
    for machine, found in wanted.items():
        machine.learn(found)
    return [_priced(one) for one in requests]


def _priced(request: Request) -> Price:
    machine, layout, assumptions = request.machine, request.layout, request.assumptions
    one = step(request.architecture, layout, machine, request.precision, assumptions)
    step_s = {name: part.time_s for name, part in one.parts.items()}
    share = request.goodput or goodput(layout.gpus, assumptions)
    steps = request.tokens / layout.tokens
    flop = flop_per_sequence(request.architecture.model, layout.seq) * layout.global_batch
    achieved = exactly(flop / layout.gpus) / total(step_s.values())
    hours = {name: part.scaled(steps * layout.gpus / HOUR_S) for name, part in step_s.items()}
    hours[LOST] = _lost(total(hours.values()), share)
    measured, tdp = _measured(request, one, steps, hours), _nameplate(request, hours)
    usd_per_hour = request.usd_per_hour or _published(machine)
    kwh = (measured or tdp).total_j.scaled(1.0 / 3.6e6)
    return Price(
        gpu=machine.name,
        link=machine.link,
        unvalidated=machine.unvalidated,
        model=request.architecture.name,
        approximation=request.architecture.approximation,
        precision=request.precision,
        layout=layout,
        tokens=request.tokens,
        step_s=step_s,
        goodput=share,
        flop_per_s_per_gpu=achieved,
        mfu=achieved.scaled(1.0 / machine.peak(request.precision)),
        gpu_hours=hours,
        measured=measured,
        tdp=tdp,
        usd=total(hours.values()) * usd_per_hour if usd_per_hour is not None else None,
        tco2=kwh * assumptions["carbon"].scaled(1e-3),
    )


def _lost(training: Span, share: Span) -> Span:
    return Span(
        training.value * (1 / share.value - 1),
        training.low * (1 / share.high - 1),
        training.high * (1 / share.low - 1),
    )


def _measured(request: Request, one: Step, steps: float, hours: dict[str, Span]) -> Energy | None:
    joules = [part.energy_j for part in one.parts.values() if part.energy_j is not None]
    if len(joules) < len(one.parts):
        return None
    stopped_w = request.assumptions["stopped_power"].scaled(request.machine.spec.tdp_w)
    training_j = total(joules).scaled(steps * request.layout.gpus)
    return _energy(request, training_j + (hours[LOST] * stopped_w).scaled(HOUR_S), hours)


def _nameplate(request: Request, hours: dict[str, Span]) -> Energy:
    return _energy(request, total(hours.values()).scaled(request.machine.spec.tdp_w * HOUR_S), hours)


def _energy(request: Request, gpus_j: Span, hours: dict[str, Span]) -> Energy:
    assumptions = request.assumptions
    server_w = assumptions["server_fraction"].scaled(request.machine.link.server_w or 0.0)
    servers_j = (total(hours.values()) * server_w).scaled(HOUR_S)
    pue = assumptions["pue"]
    overhead = Span(pue.value - 1.0, pue.low - 1.0, pue.high - 1.0)
    return Energy(gpus_j=gpus_j, servers_j=servers_j, facility_j=(gpus_j + servers_j) * overhead)


def _published(machine: Machine) -> Span | None:
    rent = machine.link.usd_per_hour
    return exactly(rent) if rent is not None else None
