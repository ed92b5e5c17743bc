"""Backend `torch-fp8`: PyTorch's scaled_mm, cuBLASLt's fp8 GEMM, or CUTLASS where cuBLAS cannot scale by row.

`fast_accumulation` False is what PyTorch does unless told otherwise, and what training computes gradients with: partial
sums leave Hopper's tensor cores for fp32 now and then. `torch-fp8-fast` leaves them there, as training's forward pass
and inference do. They compute different things, so they are two backends and no comparison mixes them.

The operation is that of the public `torch.nn.functional.scaled_mm`, reached through the entry point behind it that
writes into a given C: the public one allocates C anew at each call. Where PyTorch has none yet, `torch._scaled_mm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch

from gemmkernels.backend import Config, Device, Launch, Operands, baseline
from gemmkernels.inputs import TORCH_DTYPES
from gemmkernels.problem import Problem

SUMMARY = "PyTorch's scaled_mm: the vendor's fp8 GEMM, partial sums promoted to fp32"

OUT_FORMATS: Final = ("bf16", "fp16", "fp32")
SIDE_MULTIPLE: Final = 16
"""What scaled_mm asks of N and K; M may be anything."""


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    return _format_refusal(problem) or _device_refusal(device) or _shape_refusal(problem)


def _format_refusal(problem: Problem) -> str | None:
    if not problem.dtype.startswith("fp8"):
        return f"scaled_mm multiplies fp8 matrices alone: choose backend {baseline(problem.dtype)}"
    if problem.dtype == "fp8_e5m2":
        return "cuBLAS multiplies no e5m2 by e5m2, only by e4m3: choose fp8_e4m3"
    if problem.scaling == "row" and problem.out_dtype != "bf16":
        return "PyTorch scales by row into bf16 on every GPU, into other formats on some: choose out_dtype bf16"
    if problem.out_dtype not in OUT_FORMATS:
        return f"scaled_mm is asked for {', '.join(OUT_FORMATS)} here, not {problem.out_dtype}: choose one of them"
    return None


def _device_refusal(device: Device) -> str | None:
    if device.kind == "cpu":
        return "PyTorch emulates fp8 on a CPU, at 0.1 GFLOPS: choose bf16"
    if (device.capability or (0, 0)) < (8, 9):
        return f"{device.name} has no fp8 tensor cores, which came with compute capability 8.9: choose bf16 or int8"
    return None


def _shape_refusal(problem: Problem) -> str | None:
    if problem.layout != "nt":
        return (
            "cuBLAS multiplies fp8 only where both operands are contiguous along K: choose layout nt, "
            "with operands transposed beforehand"
        )
    if problem.batch > 1:
        return "scaled_mm multiplies one pair of matrices: choose batch 1"
    if problem.n % SIDE_MULTIPLE or problem.k % SIDE_MULTIPLE:
        return f"N = {problem.n} and K = {problem.k} have to be multiples of {SIDE_MULTIPLE}: choose such a shape"
    return None


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """The library chooses all but how it sums."""
    return [{"fast_accumulation": False}]


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher that writes into `out`."""
    fast = bool(config.get("fast_accumulation", False))
    out_dtype = TORCH_DTYPES[problem.out_dtype]
    recipe = _recipe(problem.scaling)
    if recipe is None:
        scaled_mm: Any = torch._scaled_mm

        def launch_older(operands: Operands) -> None:
            scaled_mm(
                operands.a,
                operands.b,
                operands.scale_a,
                operands.scale_b,
                out_dtype=out_dtype,
                use_fast_accum=fast,
                out=operands.out,
            )

        return launch_older

    scaled_mm_v2: Any = torch._scaled_mm_v2

    def launch(operands: Operands) -> None:
        scaled_mm_v2(
            operands.a,
            operands.b,
            [operands.scale_a],
            [recipe],
            [],
            [operands.scale_b],
            [recipe],
            [],
            None,
            out_dtype,
            use_fast_accum=fast,
            out=operands.out,
        )

    return launch


def _recipe(scaling: str | None) -> int | None:
    """The public `ScalingType` of a scaling as the operation takes it; None where PyTorch has no such type yet."""
    kinds = getattr(torch.nn.functional, "ScalingType", None)
    if kinds is None:
        return None
    return int((kinds.RowWise if scaling == "row" else kinds.TensorWise).value)
