"""A system for GenZ: the compute rate and bandwidth at which its roofline takes as long as a calibration says.

GenZ takes the larger of flop ÷ Flops and bytes ÷ Memory_BW for every operator, of an ideal machine; so the figures
are derated ones: all prefill GEMMs of the models together take what was predicted, and so do their decode GEMMs. Its
TFLOPS are of bf16, from which it derives other formats by fixed factors, its GB are binary: one GB/s is 2³⁰ B/s.

Source: PyPI genz-llm 0.0.16, GenZ/system.py, operator_base.py and unit.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

import numpy as np

from flopwatt.analysis.calibrate.core import Array
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.formats.exporting import gemms
from flopwatt.analysis.formats.exporting.conditions import Stated, cited
from flopwatt.analysis.formats.exporting.export import Consumer, Export, check_kind, published, published_link
from flopwatt.analysis.formats.exporting.gemms import Predicted
from flopwatt.errors import InputError
from flopwatt.runs.suites import Model

CONSUMER: Final = Consumer(
    name="GenZ",
    source="PyPI genz-llm 0.0.16, GenZ/system.py and operator_base.py",
    formula="the larger of flop × factor of the format / Flops and bytes / Memory_BW, one GB/s being 2³⁰ B/s",
    takes=("kernel", "layer"),
)
BITS: Final[Mapping[str, tuple[str, float]]] = {
    "bf16": ("bf16", 1.0), "fp16": ("bf16", 1.0), "fp8_e4m3": ("fp8", 0.5), "int8": ("int8", 0.5), "fp32": ("f32", 2.0),
}  # fmt: skip
"""GenZ's name for a format, and what it multiplies the time of a FLOP by against bf16."""

PREFILL: Final = (2048, 4096, 8192)
DECODE: Final = (1, 4, 16)
"""Tokens of the GEMMs that fix the two rates: plenty, where tensor cores rule, and few, where memory does."""


def export(calibration: Calibration, models: tuple[Model, ...], dtype: str | None) -> Export:
    """The dict to give as `system_name`. models: whose GEMMs fix the rates; dtype: None for the calibration's first.

    Raises InputError for another kind, a GPU that nothing is published of, or a format that GenZ has not.
    """
    spec = published(calibration, CONSUMER)
    link = published_link(spec, CONSUMER)
    dtype = dtype or next((one for one in calibration.dtypes if one in BITS), calibration.dtypes[0])
    if dtype not in BITS:
        raise InputError(f"GenZ has no {dtype}: choose one of {', '.join(BITS)} with --dtype")
    kind = calibration.kind(dtype)
    check_kind(CONSUMER, kind, of=dtype)
    bits, factor = BITS[dtype]
    prefill, decode = (
        gemms.predict(calibration, dtype, gemms.forward(models, tokens, dtype)) for tokens in (PREFILL, DECODE)
    )
    flop_per_s = float(np.sum(prefill.shapes.flop) / np.sum(prefill.found.time_s))
    bytes_per_s = float(np.sum(_bytes(decode)) / np.sum(decode.found.time_s))
    system = {
        "Flops": flop_per_s * factor / 1e12,
        "Memory_BW": bytes_per_s / 2**30,
        "Memory_size": spec.memory_bytes / 2**30,
        "ICN": link.node_bytes_per_s / 2**30,
        "real_values": True,
    }
    off = {
        "prefill": _errors(prefill, flop_per_s, bytes_per_s),
        "decode": _errors(decode, flop_per_s, bytes_per_s),
    }
    return Export(
        consumer=CONSUMER,
        kind=kind,
        files={"": json.dumps(system, indent=2).encode() + b"\n"},
        predicted=(prefill, decode),
        usage=f"prefill_moddeling(system_name=json.load(open(FILE)), bits={bits!r}, system_eff=1, …)",
        stated={
            "Memory_size": Stated(value=system["Memory_size"], source=cited(spec.source, spec.confidence)),
            "ICN": Stated(value=system["ICN"], source=cited(link.sources["node"], link.confidence)),
        },
        notes=(
            f"for bits={bits!r} and system_eff=1 alone: these are derated rates, of {dtype}",
            f"Flops: of {len(prefill.found)} GEMMs with {', '.join(map(str, PREFILL))} tokens; Memory_BW: of "
            f"{len(decode.found)} with {', '.join(map(str, DECODE))}; models: {', '.join(one.name for one in models)}",
            *(f"single {phase} GEMMs are off by {np.median(one):.0%} (median), {np.max(one):.0%} (most)"
              for phase, one in off.items()),
        ),
    )  # fmt: skip


def _bytes(predicted: Predicted) -> Array:
    """What GenZ counts: every element in the format of the operands."""
    shapes = predicted.shapes
    return np.asarray((shapes.m * shapes.k + shapes.k * shapes.n + shapes.m * shapes.n) * shapes.in_bytes)


def _errors(predicted: Predicted, flop_per_s: float, bytes_per_s: float) -> Array:
    given = np.maximum(predicted.shapes.flop / flop_per_s, _bytes(predicted) / bytes_per_s)
    return np.asarray(np.abs(given / predicted.found.time_s - 1))
