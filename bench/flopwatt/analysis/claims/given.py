"""Published figures as inputs of a working: GPUs, training runs, servers, hours."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

from flopwatt.analysis.claims.amount import YEAR_S, Amount
from flopwatt.analysis.claims.working import Confidence, Published, Working
from flopwatt.analysis.cost.assumptions import defaults
from flopwatt.analysis.cost.machine import links
from flopwatt.analysis.facts import TrainingCompute, TrainingRun, read
from flopwatt.runs import gpus
from flopwatt.runs.gpus import GpuSpec

BASE: Final = "A100-SXM4"
NEW: Final = "H100-SXM5"
GPUS: Final = ("A100-SXM4-80GB", "H100-SXM5-80GB")
"""The two chips that most claims are about: families, which measurements may be of, and entries of gpus.toml."""


@dataclass(frozen=True, slots=True)
class Chip:
    """A GPU's entry, and its board power as an input."""

    spec: GpuSpec
    power: Amount


def entry(name: str) -> GpuSpec:
    """The published figures of a GPU that a claim is about."""
    spec = gpus.named(name)
    assert spec is not None, name
    return spec


def chip(working: Working, name: str) -> Chip:
    """A GPU with its board power."""
    spec = entry(name)
    return Chip(spec, working.given(f"{spec.name} board power", spec.tdp_w, "W", spec))


def peak(working: Working, spec: GpuSpec, dtype: str) -> Amount:
    """A GPU's dense peak."""
    flop_per_s = spec.peak_flop_per_s(dtype)
    assert flop_per_s is not None, f"{spec.name} has no {dtype}"
    return working.given(f"{spec.name} dense {short(dtype)} peak", flop_per_s * 1e-12, "TFLOPS", spec)


def memory(working: Working, spec: GpuSpec) -> Amount:
    """A GPU's memory bandwidth."""
    return working.given(f"{spec.name} memory bandwidth", spec.mem_bytes_per_s * 1e-9, "GB/s", spec)


def short(dtype: str) -> str:
    """A format as people call it."""
    return dtype.removesuffix("_e4m3")


def run_of(model: str) -> TrainingRun:
    """A published training run."""
    return next(run for run in read("training_runs") if run.model == model)


def compute_of(model: str) -> TrainingCompute:
    """What training a model took, as published."""
    return next(one for one in read("training_compute") if one.model == model)


def training_compute(working: Working, one: TrainingCompute) -> Amount:
    """A model's training compute."""
    return working.given(f"{one.model}: training compute", one.flop, "FLOP", one)


def gpu_hours(working: Working, run: TrainingRun) -> Amount:
    """The GPU-hours of a training run for which they are published."""
    assert run.gpu_hours is not None, run.model
    return working.given(f"{run.model}: hours of {run.gpu}", run.gpu_hours, "GPU-h", run)


def at_the_meter(working: Working) -> Amount:
    """Watts that a data centre draws for each H100: board and server at their most, and what cooling adds."""
    link = next(link for link in links() if link.gpu == GPUS[1])
    assert link.server_w is not None
    published = Published(link.sources["server_w"], link.confidence)
    server = working.given("rest of a server for each H100", link.server_w, "W", published)
    pue = defaults().table["pue"]
    checked: Confidence = "checked" if pue.confidence == "checked" else "unverified"
    factor = working.given(
        "power usage effectiveness (PUE)", pue.value, "", Published(pue.source, checked), (pue.low, pue.high)
    )
    return working.step("at the meter for each H100", (chip(working, GPUS[1]).power + server) * factor, "W")


def rent(working: Working, gpu: str) -> Amount:
    """Dollars for an hour of a GPU: the lowest that is published, up to the highest."""
    link = next(link for link in links() if link.gpu == gpu)
    found = [(row.usd_per_hour, row.source, row.confidence) for row in read("rents") if row.gpu == gpu]
    if link.usd_per_hour is not None:
        found.append((link.usd_per_hour, link.sources["usd_per_hour"], link.confidence))
    prices, sources, confidences = zip(*sorted(found), strict=True)
    checked: Confidence = "checked" if set(confidences) == {"checked"} else "unverified"
    ends = (prices[0], prices[-1])
    return working.given(f"an hour of {gpu}", prices[0], "USD/GPU-h", Published("; ".join(sources), checked), ends)


def years_between(working: Working, first: date, then: date) -> Amount:
    """The time from one day to another."""
    years = (then - first).days * 86400 / YEAR_S
    return working.stated(f"{first} to {then}", round(years, 2), "years", "the calendar")


def published_pair(working: Working, regime: str, dtypes: tuple[str, str]) -> tuple[Amount, Amount] | None:
    """The same load on an A100 and on an H100, as one source published both; None where none did."""
    rows = read("published_gemm")
    for base in rows:
        if base.gpu != BASE or base.dtype != dtypes[0] or base.regime != regime:
            continue
        for row in rows:
            if row.gpu == GPUS[1] and (row.source, row.regime, row.dtype) == (base.source, regime, short(dtypes[1])):
                old, new = (
                    working.given(f"{one.gpu} {one.dtype}, {one.shape}, {regime}", one.tflops, "TFLOPS", one)
                    for one in (base, row)
                )
                return old, new
    return None
