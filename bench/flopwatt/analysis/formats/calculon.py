"""A system file for Calculon: efficiency of the matrix engine in steps of GFLOP, so that its sum gives a GEMM's time.

Calculon takes flop ÷ (peak × efficiency) + bytes ÷ (bandwidth × efficiency) in the mode `no_overlap`, and the larger of
the two as `roofline`; bytes are those of both operands and the result in the one format of the run. An efficiency is
looked up by FLOP alone, in the first step that is not above it. The exporter solves that for the efficiency at each
GEMM's FLOP. GEMMs of the same FLOP share a step, which then gives their total.

Source: github.com/calculon-ai/calculon, calculon/{processor,memory,system,llm/layers}.py; it is not on PyPI, where
another program has the name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np

from flopwatt.analysis.calibrate.core import Array, Shapes
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.cost.machine import Link
from flopwatt.analysis.formats.exporting import gemms
from flopwatt.analysis.formats.exporting.conditions import Stated, cited
from flopwatt.analysis.formats.exporting.export import Consumer, Export, check_kind, published, published_link
from flopwatt.analysis.formats.exporting.gemms import Predicted
from flopwatt.errors import InputError
from flopwatt.runs import gpus

Mode: TypeAlias = Literal["no_overlap", "roofline"]

CONSUMER: Final = Consumer(
    name="Calculon",
    source="github.com/calculon-ai/calculon, systems/*.json with one entry a datatype",
    formula="no_overlap: flop / (tflops × efficiency) + bytes / (GBps × efficiency); roofline: the larger of the two",
    takes=("kernel",),
)
NAMES: Final[Mapping[str, str]] = {"bf16": "bfloat16", "fp16": "float16", "fp8_e4m3": "float8", "fp32": "float32"}
TOLERANCE: Final = 0.01
"""Relative error of a GEMM's time, from which on it counts as one that the formula cannot give."""

MANIFOLD: Final = 2.0
"""Ratio of two times from which on they differ by a factor rather than by percent."""


@dataclass(frozen=True, slots=True)
class _Memory:
    """mem1 as it is exported: published bandwidth, and the share of it that the calibration has seen."""

    bytes_per_s: float
    efficiency: float

    def time_s(self, shapes: Shapes) -> Array:
        """Calculon's time for the memory of each GEMM: every element in the format of the operands."""
        elements = shapes.m * shapes.k + shapes.k * shapes.n + shapes.m * shapes.n
        return np.asarray(shapes.batch * elements * shapes.in_bytes / (self.bytes_per_s * self.efficiency))


def export(calibration: Calibration, asked: Mapping[str, Shapes], mode: Mode = "no_overlap") -> Export:
    """The system file. asked: GEMMs by format that it reproduces; none takes squares of every size.

    Raises InputError for another kind, a GPU that nothing is published of, or no format that Calculon has.
    """
    check_kind(CONSUMER, calibration.file.kind)
    spec = published(calibration, CONSUMER)
    link = published_link(spec, CONSUMER)
    known, notes = _formats(calibration, asked)
    predicted, matrix = [], {}
    memory = _memory(calibration, [dtype for dtype in calibration.dtypes if dtype in NAMES])
    for dtype in known:
        one = gemms.predict(calibration, dtype, asked[dtype] if asked else gemms.squares(dtype))
        tflops = calibration.fitted(dtype).chip.flop_per_s / 1e12
        steps = _steps(one, tflops, memory, mode)
        predicted.append(one)
        matrix[NAMES[dtype]] = {"tflops": tflops, "gflops_efficiency": steps}
        notes += _notes(calibration, one, tflops, steps, memory, mode)
    system, stated = _system(spec, link, memory, matrix)
    return Export(
        consumer=CONSUMER,
        kind="kernel",
        files={"": json.dumps({**system, "processing_mode": mode}, indent=2).encode() + b"\n"},
        predicted=predicted,
        usage=f"calculon llm APP EXECUTION SYSTEM.json STATS, datatype {' or '.join(matrix)} in EXECUTION",
        stated=stated,
        notes=notes,
    )


def _formats(calibration: Calibration, asked: Mapping[str, Shapes]) -> tuple[list[str], list[str]]:
    """The formats to write, and why others are left out. Raises InputError where that leaves none of those asked."""
    known, notes = [], []
    for dtype in asked or calibration.dtypes:
        if dtype not in NAMES:
            notes.append(f"{dtype} left out: Calculon has no such format")
        elif (kind := calibration.kind(dtype)) not in CONSUMER.takes and not asked:
            notes.append(f"{dtype} left out: its times are of a {kind}, not of a GEMM alone")
        else:
            check_kind(CONSUMER, kind, of=dtype)
            known.append(dtype)
    if not known:
        given = ", ".join(asked or calibration.dtypes)
        raise InputError(f"Calculon has none of {given}: it takes {', '.join(NAMES)}, of kind kernel")
    return known, notes


def mode(word: str | None) -> Mode:
    """The processing mode of that name, `no_overlap` where none is named. Raises InputError."""
    if word not in (None, *get_args(Mode)):
        raise InputError(f"unknown processing mode {word!r}: choose one of {', '.join(get_args(Mode))}")
    return "roofline" if word == "roofline" else "no_overlap"


def evaluate(shapes: Shapes, tflops: float, steps: list[list[float]], memory_s: Array, mode: Mode) -> Array:
    """Seconds that Calculon gives each GEMM of `steps` and its memory's time."""
    least = np.array([gflop for gflop, _ in steps])[::-1] * 1e9
    efficiency = np.array([value for _, value in steps])[::-1]
    compute = shapes.flop / (tflops * 1e12 * efficiency[np.searchsorted(least, shapes.flop, side="right") - 1])
    return np.asarray(compute + memory_s if mode == "no_overlap" else np.maximum(compute, memory_s))


def _steps(one: Predicted, tflops: float, memory: _Memory, mode: Mode) -> list[list[float]]:
    """[GFLOP, efficiency] from the largest down to 0, one step for each distinct FLOP."""
    flop, time_s, memory_s = one.shapes.flop, one.found.time_s, memory.time_s(one.shapes)
    compute = time_s - memory_s if mode == "no_overlap" else time_s
    steps = []
    for value in np.unique(flop)[::-1]:
        same = flop == value
        ideal, left = value * np.sum(same) / (tflops * 1e12), float(np.sum(compute[same]))
        steps.append([float(value) / 1e9, min(1.0, ideal / left) if left > 0 else 1.0])
    return [*steps[:-1], [0.0, steps[-1][1]]]


def _memory(calibration: Calibration, dtypes: list[str]) -> _Memory:
    fitted = [calibration.fitted(dtype) for dtype in dtypes]
    published_rate = fitted[0].chip.bytes_per_s
    seen = [one.sustained_bytes_per_s for one in fitted if one.floor_memory and one.sustained_bytes_per_s]
    return _Memory(published_rate, min(1.0, max(seen) / published_rate) if seen else 1.0)


def _notes(
    calibration: Calibration, one: Predicted, tflops: float, steps: list[list[float]], memory: _Memory, mode: Mode
) -> list[str]:
    """What the steps cannot say: GEMMs outside the formula, and how far off they are for GEMMs of other shapes."""

    def given(predicted: Predicted) -> Array:
        return evaluate(predicted.shapes, tflops, steps, memory.time_s(predicted.shapes), mode)

    notes = []
    _, group = np.unique(one.shapes.flop, return_inverse=True)
    single = np.abs(given(one) / one.found.time_s - 1)
    totals = np.abs(np.bincount(group, given(one)) / np.bincount(group, one.found.time_s) - 1)
    if beyond := int(np.sum(totals > TOLERANCE)):
        notes.append(
            f"{one.dtype}: {beyond} of {len(totals)} steps are off by more than 1 %, at most {np.max(totals):.0%}: "
            f"faster than memory time and peak allow in {mode}"
        )
    if (shared := np.bincount(group)[group] > 1).any():
        notes.append(
            f"{one.dtype}: {np.sum(shared)} of {len(single)} GEMMs share their FLOP with others; their total is right, "
            f"one alone is off by {np.max(single[shared]):.0%} at most"
        )
    other = gemms.predict(calibration, one.dtype, gemms.forward(gemms.models(()), (1, 64, 1024, 4096), one.dtype))
    ratio = float(np.exp(np.median(np.abs(np.log(given(other) / other.found.time_s)))))
    off = f"{ratio - 1:.0%}" if ratio < MANIFOLD else f"a factor of {ratio:.3g}: give GEMMs of more sizes"
    notes.append(
        f"{one.dtype}: on {len(other.found)} GEMMs of the shipped models, by FLOP alone, times are off (median) by "
        f"{off}"
    )
    return notes


def _system(
    spec: gpus.GpuSpec, link: Link, memory: _Memory, matrix: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Stated]]:
    """The rest of the file, and which of its figures were not measured."""
    vector = spec.peak["fp32"] / 1e12
    seen = memory.efficiency < 1
    source = cited(spec.source, spec.confidence)
    system: dict[str, Any] = {
        "matrix": matrix,
        "vector": {name: {"tflops": vector, "gflops_efficiency": [[0, 1.0]]} for name in matrix},
        "mem1": {
            "GiB": spec.memory_bytes / 2**30,
            "GBps": memory.bytes_per_s / 1e9,
            "MB_efficiency": [[0, memory.efficiency]],
        },
        "mem2": {"GiB": 0, "GBps": 1, "MB_efficiency": [[0, 1.0]]},
        "networks": [
            _network(link.node_bytes_per_s, link.node, filled=True),
            _network(link.network_bytes_per_s, 65536, filled=False),
        ],
    }
    stated = {
        "vector.tflops": Stated(value=vector, source=f"fp32 without tensor cores, reached fully: {source}"),
        "mem1.GiB": Stated(value=system["mem1"]["GiB"], source=source),
        "mem1.GBps": Stated(value=system["mem1"]["GBps"], source=source),
        "mem2": Stated(value=0, source="none: nothing is offloaded to the host"),
        "networks[0].bandwidth": Stated(
            value=link.node_bytes_per_s / 1e9, source=cited(link.sources["node"], link.confidence)
        ),
        "networks[1].bandwidth": Stated(
            value=link.network_bytes_per_s / 1e9, source=cited(link.sources["network"], link.confidence)
        ),
        "networks": Stated(value="efficiency 1, latency 0", source="nothing measured: an ideal ring"),
    }
    if not seen:
        stated["mem1.MB_efficiency"] = Stated(value=1, source="no bandwidth measured, or operands in a cache")
    return system, stated


def _network(bytes_per_s: float, size: int, *, filled: bool) -> dict[str, Any]:
    """A tier of links without loss: a ring moves 2 (n - 1) / n of the data to reduce, half of it to gather."""
    return {
        "bandwidth": bytes_per_s / 1e9,
        "efficiency": 1.0,
        "size": size,
        "latency": 0.0,
        "ops": {
            "p2p": [1.0, None],
            "reduce_scatter": [1.0, -1],
            "all_gather": [1.0, -1],
            "all_reduce": [2.0, -1],
        },
        "must_be_filled": filled,
        "processor_usage": 0.0,
    }
