"""Backend `torch-cublaslt`: `torch` told to prefer cuBLASLt, whose heuristics may pick other kernels than cuBLAS's."""

from __future__ import annotations

from collections.abc import Sequence

from gemmkernels import torch_mm
from gemmkernels.backend import Config, Device, Launch
from gemmkernels.problem import Problem

SUMMARY = "torch.mm and torch.bmm through cuBLASLt"


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    if device.kind == "cpu":
        return "cuBLASLt computes on a GPU only: choose backend torch"
    return torch_mm.supports(problem, device)


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """The one library it is for."""
    return [{"blas": "cublaslt"}]


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher that writes into `out`. Raises RuntimeError where PyTorch was built without cuBLASLt."""
    return torch_mm.prepare(problem, {"blas": "cublaslt"} | dict(config), device)
