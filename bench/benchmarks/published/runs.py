"""Whole training runs with published GPU-hours, and the goodput that they imply."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from flopwatt.analysis import facts
from flopwatt.analysis.cost import machine as machine_module
from flopwatt.analysis.cost.architecture import load
from flopwatt.analysis.cost.choosing import Wanted, choose
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.cost.machine import Machine
from flopwatt.analysis.cost.pricing import LOST, Request
from flopwatt.analysis.cost.spans import total

USUAL_GPUS: Final = 2048
"""Where the number of GPUs is not published: that of LLaMA-65B, arXiv:2302.13971."""

PRECISION: Final = {"V100-SXM2-32GB": "fp16", "H800-SXM5-80GB": "fp8"}
"""Where it is not bf16: the V100 has none, and DeepSeek-V3 trained in fp8, arXiv:2412.19437."""

MODELS: Final = {
    "GPT-3": "gpt-3-175b", "BLOOM": "bloom-176b", "Llama-3-70B": "llama-3.1-70b", "DeepSeek-V3": "deepseek-v3",
}  # fmt: skip
"""Model files by name of run, where they are not the name in lower case."""

LAYOUTS: Final[dict[str, dict[str, Any]]] = {
    "GPT-3": {"attention": "unfused"},
    "BLOOM": {
        "tp": 4, "pp": 12, "vp": 1, "micro_batch": 2, "global_batch": 2048, "attention": "unfused",
        "recompute": "full", "shard": "optimizer",
    },
    "Llama-3.1-405B": {"tp": 8, "pp": 16, "vp": 4, "global_batch": 2048},
}  # fmt: skip
"""What is published of layouts: arXiv:2407.21783 (Llama 3), and of BLOOM train/tr11-176B-ml/tr11-176B-ml.slurm of
https://github.com/bigscience-workshop/bigscience; flash attention came in 2022."""

LINKS: Final = {"BLOOM": {"network_bytes_per_s": 6.25e9}}
"""Other links than a DGX's: Jean Zay has four adapters of 100 Gb/s a server of eight GPUs, arXiv:2211.05100."""

REMARKS: Final = {
    "GPT-3": "spec sheet alone; hours derived, unverified",
    "LLaMA-7B": "number of GPUs not published",
    "DeepSeek-V3": "active parameters alone: routing and exchange between experts are not priced",
}


class Implied(NamedTuple):
    """A run: hours without any loss, and what share of the published ones they are."""

    model: str
    gpu: str
    gpus: int
    published_h: float
    predicted_h: float
    goodput: float
    goodput_low: float
    goodput_high: float
    remark: str


def implied(found: Mapping[str, Machine]) -> Iterator[Implied]:
    """Every row of the facts that has GPU-hours."""
    for run in facts.read("training_runs"):
        if run.gpu_hours is None:
            continue
        machine = machine_module.relinked(_machine(run.gpu, found), LINKS.get(run.model, {}))
        gpus = run.gpu_count or USUAL_GPUS
        gpus -= gpus % 16 if run.model == "GPT-3" else 0
        request = Request(
            machine=machine, architecture=load(MODELS.get(run.model, run.model.lower())),
            layout=Layout(global_batch=1, seq=1), tokens=run.tokens_b * 1e9, precision=PRECISION.get(run.gpu, "bf16"),
        )  # fmt: skip
        one = choose(request, Wanted(gpus=gpus, **LAYOUTS.get(run.model, {})))
        hours = total(part for name, part in one.gpu_hours.items() if name != LOST)
        share = hours.scaled(1 / run.gpu_hours)
        remark = "; ".join(filter(None, (REMARKS.get(run.model, ""), "" if run.gpu_count else "2,048 GPUs assumed")))
        yield Implied(run.model, run.gpu, gpus, run.gpu_hours, hours.value, share.value, share.low, share.high, remark)


def _machine(gpu: str, found: Mapping[str, Machine]) -> Machine:
    measured = {"A100-SXM4-80GB": "A100", "H100-SXM5-80GB": "H100"}
    if gpu in measured:
        return found[measured[gpu]]
    if gpu == "H800-SXM5-80GB":
        # The same chip with fewer NVLinks: the H100's GEMMs, the H800's links.
        link = next(one for one in machine_module.links() if one.gpu == gpu)
        return Machine(found["H100"].calibration, found["H100"].spec, link)
    return machine_module.from_spec_sheet(gpu)
