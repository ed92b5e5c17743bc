"""Backend `numpy`: np.matmul, the BLAS that NumPy was built with, beside PyTorch's on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import Problem

SUMMARY = "np.matmul: NumPy's BLAS, fp32 on the CPU"


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    if device.kind != "cpu":
        return "NumPy computes on the CPU only: choose --device cpu"
    if problem.dtype != "fp32" or problem.out_dtype != "fp32":
        return "NumPy's BLAS multiplies fp32 into fp32 alone: choose fp32"
    return None


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """Nothing to choose: the library does."""
    return [{}]


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher that multiplies views of the tensors' own memory; nothing is copied."""

    def launch(operands: Operands) -> None:
        np.matmul(operands.a.numpy(), operands.b.numpy(), out=operands.out.numpy())

    return launch
