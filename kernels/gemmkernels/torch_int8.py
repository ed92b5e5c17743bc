"""Backend `torch-int8`: torch._int_mm, int8 by int8 into int32, exact: cuBLASLt on a GPU, oneDNN on a CPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import torch

from gemmkernels.backend import Config, Device, Launch, Operands, baseline
from gemmkernels.problem import Problem

SUMMARY = "torch._int_mm: the vendor's int8 GEMM into int32"

ROWS_AT_LEAST: Final = 17
SIDE_MULTIPLE: Final = 8
"""What torch._int_mm asks of M, and of N and K, on a GPU."""


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    if problem.dtype != "int8":
        return f"torch._int_mm multiplies int8 matrices alone: choose backend {baseline(problem.dtype)}"
    if problem.out_dtype != "int32":
        return f"torch._int_mm writes int32, not {problem.out_dtype}: choose out_dtype int32"
    if problem.batch > 1:
        return "torch._int_mm multiplies one pair of matrices: choose batch 1"
    return _gpu_refusal(problem, device) if device.kind == "cuda" else None


def _gpu_refusal(problem: Problem, device: Device) -> str | None:
    if (device.capability or (0, 0)) < (8, 0):
        return f"{device.name} is older than compute capability 8.0: choose fp16"
    if problem.layout != "nt":
        return "cuBLASLt documents its int8 GEMM where both operands are contiguous along K: choose layout nt"
    if problem.m < ROWS_AT_LEAST:
        return f"torch._int_mm wants M of {ROWS_AT_LEAST} or more, not {problem.m}: choose triton-tiled-8bit"
    if problem.n % SIDE_MULTIPLE or problem.k % SIDE_MULTIPLE:
        return (
            f"torch._int_mm wants N = {problem.n} and K = {problem.k} to be multiples of {SIDE_MULTIPLE}: "
            "choose triton-tiled-8bit"
        )
    return None


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """Nothing to choose: the library does."""
    return [{}]


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher that writes into `out`."""

    def launch(operands: Operands) -> None:
        torch._int_mm(operands.a, operands.b, out=operands.out)

    return launch
