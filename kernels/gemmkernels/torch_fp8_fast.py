"""Backend `torch-fp8-fast`: `torch-fp8` with partial sums left in the tensor cores, at fewer bits on Hopper."""

from __future__ import annotations

from collections.abc import Sequence

from gemmkernels import torch_fp8
from gemmkernels.backend import Config, Device, Launch
from gemmkernels.problem import Problem

SUMMARY = "PyTorch's scaled_mm with fast accumulation: fewer bits in Hopper's partial sums"


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    return torch_fp8.supports(problem, device)


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """The library chooses all but how it sums."""
    return [{"fast_accumulation": True}]


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher that writes into `out`."""
    return torch_fp8.prepare(problem, {"fast_accumulation": True} | dict(config), device)
