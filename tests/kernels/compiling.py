"""Compiles a Triton kernel for a GPU that is not there, and reads from the cubin what a GPU would make of it."""

from __future__ import annotations

from gemmkernels.backend import Config
from gemmkernels.compile_ahead import (
    DEVICES,
    TOOLS,
    AbsentTensor,
    Compiled,
    absent_gpu,
    absent_operands,
    compile_call,
)
from gemmkernels.problem import Problem
from gemmkernels.triton_call import CallsOf

__all__ = [
    "DEVICES",
    "EVERY_CANDIDATE",
    "TOOLS",
    "AbsentTensor",
    "Compiled",
    "absent_gpu",
    "absent_operands",
    "compile_call",
    "compile_first",
]

EVERY_CANDIDATE = (("bf16", "nn"), ("bf16", "nt"), ("bf16", "tn"), ("tf32", "nt"), ("fp32", "nt"))
"""Formats and layouts whose candidates are all compiled: minutes. `make compiled` lists more, kernels/COMPILED.md."""


def compile_first(calls: CallsOf, problem: Problem, config: Config, capability: int) -> Compiled:
    """The first kernel that a module's `calls` launches for one problem and configuration."""
    device = DEVICES[capability]
    return compile_call(calls(problem, absent_operands(problem), config, device)[0], capability)
