"""A GPU, a model and scalars for llm-analysis: the end-to-end rate at which its formula gives the predicted step.

llm-analysis takes floating-point operations ÷ (GPUs × achieved TFLOPS) for a step, and nothing for communication,
memory or bubbles: its one rate is that of a whole model, and a GEMM's in its place would be far too fast. A kernel
calibration is therefore exported by way of `cost`, for one model and layout. Its own count of operations is inverted:
it takes every feed-forward block for two matrices of width 4 × hidden, whatever the model's.

Source: PyPI llm-analysis 0.2.2, llm_analysis/analysis.py and config.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.cost import Price, Request
from flopwatt.analysis.cost.architecture import load
from flopwatt.analysis.cost.choosing import Wanted, choose
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.cost.machine import Link, machine
from flopwatt.analysis.cost.spans import Span, exactly
from flopwatt.analysis.cost.step import gemms as gemms_of_step
from flopwatt.analysis.formats.exporting import gemms
from flopwatt.analysis.formats.exporting.conditions import Stated, cited
from flopwatt.analysis.formats.exporting.export import Consumer, Export, check_kind, published, published_link
from flopwatt.errors import InputError
from flopwatt.runs import gpus
from flopwatt.runs.suites import Model

CONSUMER: Final = Consumer(
    name="llm-analysis",
    source="PyPI llm-analysis 0.2.2, LLMAnalysis.training",
    formula="a step takes its own count of operations / (GPUs × achieved_tflops); efficiency is achieved / peak_fp16",
    takes=("end_to_end",),
)
RECOMPUTE: Final[Mapping[str, int]] = {"none": 0, "selective": 1, "full": 2}
ZERO: Final[Mapping[str, int]] = {"none": 0, "optimizer": 1, "full": 3}
"""Numbers of its ActivationRecomputation and DSZeRO, for ours."""


@dataclass(frozen=True, slots=True)
class Training:
    """The run to predict. tokens: of the whole run. wanted: what is fixed of its layout, GPUs at least."""

    model: str
    tokens: float
    wanted: Wanted


def export(calibration: Calibration, training: Training | None) -> Export:
    """gpu.json, model.json and train.json, its words for `train`, which hold for `training` alone.

    Raises InputError for a kernel calibration without `training`, a GPU that nothing is published of, or a layout
    that cannot be; SuiteError for a model that there is not.
    """
    if training is None:
        check_kind(CONSUMER, calibration.file.kind, "give --model NAME --gpus N, to predict that model with it")
        raise InputError("llm-analysis takes figures of one model: give --model NAME --gpus N")
    spec = published(calibration, CONSUMER)
    link = published_link(spec, CONSUMER)
    architecture, gpu = load(training.model), machine(calibration)
    precision = next((one for one in ("bf16", "fp16") if one in calibration.dtypes), None)
    if precision is None:
        raise InputError(f"llm-analysis trains in 16 bits, and this calibration has {', '.join(calibration.dtypes)}")
    request = Request(
        machine=gpu,
        architecture=architecture,
        layout=Layout(global_batch=1, seq=1),  # `choose` finds it
        tokens=training.tokens,
        precision=precision,
    )
    price = choose(request, training.wanted)
    system = _system(spec, link, gpu.peak(precision) / 1e12)
    flop = flop_of_step(architecture.model, price.layout)
    achieved = exactly(flop / (price.layout.gpus * 1e12)) / price.step_total_s
    content = {
        "gpu.json": system,
        "model.json": _config(architecture.model, price.layout.seq),
        "train.json": _words(spec, link, price, achieved.value),
    }
    return Export(
        consumer=CONSUMER,
        kind=price.kind,
        files={name: json.dumps(one, indent=2).encode() + b"\n" for name, one in content.items()},
        predicted=(_gemms(calibration, request, price.layout),),
        usage="gpu_configs[gpu['name']] = GPUConfig(**gpu); train(model_name='DIR/model.json', **words of train.json)",
        stated=_stated(spec, link, system),
        notes=_notes(price, flop, achieved, system["peak_fp16_TFLOPS"]),
    )


def flop_of_step(model: Model, layout: Layout) -> float:
    """Floating-point operations that llm-analysis counts for one step: forward, twice that backward, recomputation."""
    hidden, tokens = model.hidden_size, layout.tokens
    attention = 4.0 * tokens * layout.seq * hidden * model.num_layers
    linear = 4.0 * tokens * hidden**2 * (1 + model.num_kv_heads / model.num_heads) + 16.0 * tokens * hidden**2
    forward = attention + linear * model.num_layers + 2.0 * tokens * hidden * model.vocab_size
    return 3 * forward + {"none": 0.0, "selective": attention, "full": forward}[layout.recompute]


def _gemms(calibration: Calibration, request: Request, layout: Layout) -> gemms.Predicted:
    """The step's GEMMs, predicted: what the sidecar says of intervals and extrapolation is of them."""
    found = gemms_of_step(request.architecture, layout, request.machine, request.precision)
    shapes = gemms.from_rows([(one.m, one.n, one.k, one.batch) for one in found], request.precision)
    return gemms.predict(calibration, request.precision, shapes)


def _system(spec: gpus.GpuSpec, link: Link, peak_tflops: float) -> dict[str, Any]:
    """Arguments of its GPUConfig."""
    return {
        "name": spec.name,
        "mem_per_GPU_in_GB": spec.memory_bytes / 2**30,
        "hbm_bandwidth_in_GB_per_sec": spec.mem_bytes_per_s / 1e9,
        "intra_node_bandwidth_in_GB_per_sec": link.node_bytes_per_s / 1e9,
        "intra_node_min_message_latency": 0.0,
        "peak_fp16_TFLOPS": peak_tflops,
        "inter_node_bandwidth_in_GB_per_sec": link.network_bytes_per_s / 1e9,
    }


def _words(spec: gpus.GpuSpec, link: Link, price: Price, achieved_tflops: float) -> dict[str, Any]:
    """Arguments of its `train`."""
    layout = price.layout
    return {
        "gpu_name": spec.name,
        "achieved_tflops": achieved_tflops,
        "tp_size": layout.tp,
        "pp_size": layout.pp,
        "dp_size": layout.dp,
        "batch_size_per_gpu": layout.micro_batch,
        "gradient_accumulation_steps": layout.micro_batches,
        "global_batch_size": layout.global_batch,
        "seq_len": layout.seq,
        "total_num_tokens": price.tokens,
        "activation_recomputation": RECOMPUTE[layout.recompute],
        "ds_zero": ZERO[layout.shard],
        "num_gpus_per_node": max(link.node, layout.tp),
    }


def _notes(price: Price, flop: float, achieved: Span, peak_tflops: float) -> tuple[str, ...]:
    """flop: of one step, as llm-analysis counts. achieved: TFLOPS a GPU."""
    return (
        f"one step of {price.model} in {_ranged(price.step_total_s)} s, {price.layout.words()}",
        f"achieved_tflops {_ranged(achieved)}, flops_efficiency {achieved.value / peak_tflops:.4g}: of "
        f"llm-analysis's own {flop:.4g} FLOP a step; MFU by the model's FLOP {price.mfu.value:.3f}",
        f"failures and restarts are not in it: multiply achieved_tflops by the goodput, {_ranged(price.goodput)}, "
        "for the GPU-hours of a whole run",
        *((price.approximation,) if price.approximation else ()),
    )


def _config(model: Model, seq: int) -> dict[str, Any]:
    return {
        "name": model.name,
        "num_layers": model.num_layers,
        "n_head": model.num_heads,
        "hidden_dim": model.hidden_size,
        "vocab_size": model.vocab_size,
        "max_seq_len": seq,
        "num_key_value_heads": model.num_kv_heads,
        "ffn_embed_dim": model.intermediate_size,
        "expansion_ratio": model.intermediate_size / model.hidden_size,
    }


def _stated(spec: gpus.GpuSpec, link: Link, system: Mapping[str, Any]) -> dict[str, Stated]:
    source = cited(spec.source, spec.confidence)
    origins = {
        "intra_node_bandwidth_in_GB_per_sec": cited(link.sources["node"], link.confidence),
        "inter_node_bandwidth_in_GB_per_sec": cited(link.sources["network"], link.confidence),
        "intra_node_min_message_latency": "not measured: none",
    }
    return {key: Stated(value=value, source=origins.get(key, source)) for key, value in system.items() if key != "name"}


def _ranged(span: Span) -> str:
    return f"{span.value:.4g} ({span.low:.4g} to {span.high:.4g})"
