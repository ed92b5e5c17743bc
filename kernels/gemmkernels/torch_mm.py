"""Backend `torch`: torch.mm and torch.bmm, that is cuBLAS on a GPU and oneDNN on a CPU, the baseline of all others."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import Problem

SUMMARY = "torch.mm and torch.bmm: the vendor's library (cuBLAS, oneDNN)"

FORMATS = ("bf16", "fp16", "tf32", "fp32")


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    if problem.dtype not in FORMATS:
        return f"torch.mm multiplies no {problem.dtype} matrices: choose one of {', '.join(FORMATS)}"
    own_format = "fp32" if problem.dtype == "tf32" else problem.dtype
    if problem.out_dtype != own_format:
        return f"torch.mm writes C in the format of A and B: choose out_dtype {own_format}"
    if device.kind == "cpu" and problem.dtype == "tf32":
        return "a CPU has no tf32: choose fp32"
    if device.kind == "cpu" and problem.dtype == "fp16":
        return "PyTorch's fp16 GEMM on a CPU runs at 1-2.5 GFLOPS, hundreds of times below bf16: choose bf16"
    if device.kind == "cuda" and (device.capability or (0, 0)) < (8, 0) and problem.dtype in ("bf16", "tf32"):
        return f"{device.name} has no {problem.dtype} tensor cores, which came with compute capability 8.0: choose fp16"
    return None


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """Nothing to choose: the library does."""
    return [{}]


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher that writes into `out`. Transposed views go to the library as such, without a copy."""
    product = torch.mm if problem.batch == 1 else torch.bmm

    def launch(operands: Operands) -> None:
        product(operands.a, operands.b, out=operands.out)

    return launch


def apply_settings(problem: Problem) -> dict[str, str]:
    """Set what PyTorch decides for the whole process, and return what is then in force.

    fp32 is multiplied as IEEE fp32 unless `problem` is tf32; bf16 and fp16 partial sums stay fp32, also in split-K.
    After this, reading the older `allow_tf32` may raise.
    """
    matmul = torch.backends.cuda.matmul
    wanted = "tf32" if problem.dtype == "tf32" else "ieee"
    if hasattr(matmul, "fp32_precision"):
        matmul.fp32_precision = wanted
        in_force = str(matmul.fp32_precision)
    else:
        matmul.allow_tf32 = wanted == "tf32"
        in_force = "tf32" if matmul.allow_tf32 else "ieee"
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False
    return {
        "fp32_precision": in_force,
        "bf16_reduced_precision_reduction": str(matmul.allow_bf16_reduced_precision_reduction).lower(),
        "fp16_reduced_precision_reduction": str(matmul.allow_fp16_reduced_precision_reduction).lower(),
    }
