"""What flopwatt's own cost model says of a training run that claims are about."""

from __future__ import annotations

from typing import Final

from flopwatt.analysis.claims.amount import Amount, rounded
from flopwatt.analysis.claims.evidence import Evidence, published
from flopwatt.analysis.claims.given import run_of
from flopwatt.analysis.claims.working import Published, Working
from flopwatt.analysis.cost import Price, Request, architecture, machine, price
from flopwatt.analysis.cost.layout import Layout

GPT_3_LAYOUT: Final = Layout(tp=8, pp=16, dp=8, global_batch=1536, seq=2048)
"""On 1,024 GPUs, as Narayanan et al. 2021, arXiv 2104.04473, trained a model of this size."""


def gpt_3_hours(working: Working, evidence: Evidence, gpu: str) -> Amount:
    """GPU-hours to train GPT-3 on a GPU, by a calibration of it if one is at hand, else by its spec sheet."""
    found, source = _gpt_3(evidence, gpu)
    hours = found.gpu_hours_total
    ends = (hours.low, hours.high)
    return working.given(f"GPT-3 in hours of {gpu}, predicted", rounded(hours.value), "GPU-h", source, ends)


def gpt_3_energy(working: Working, evidence: Evidence, gpu: str) -> Amount:
    """Energy at the meter to train GPT-3 on a GPU, likewise."""
    found, source = _gpt_3(evidence, gpu)
    energy = (found.measured or found.tdp).total_j.scaled(1 / 3.6e9)
    if found.measured is None:
        source = Published(f"{source.source}; GPUs at their boards' limit", source.confidence)
    ends = (energy.low, energy.high)
    return working.given(f"GPT-3 on {gpu}: energy, predicted", rounded(energy.value), "MWh", source, ends)


def _gpt_3(evidence: Evidence, gpu: str) -> tuple[Price, Published]:
    real = (one for one in evidence.calibrations_of(gpu, "bf16") if one.file.origin != "simulated")
    calibration = next(real, None)
    one = machine.from_spec_sheet(gpu) if calibration is None else machine.machine(calibration)
    wanted = Request(
        machine=one,
        architecture=architecture.load("gpt-3-175b"),
        layout=GPT_3_LAYOUT,
        tokens=run_of("GPT-3").tokens_b * 1e9,
    )
    basis = published(one.calibration)
    return price(wanted), Published(f"flopwatt cost by {basis.source}; {GPT_3_LAYOUT.words()}", basis.confidence)
