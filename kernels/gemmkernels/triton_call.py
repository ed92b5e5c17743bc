"""One launch of a Triton or Gluon kernel as a value, so that running, compiling ahead and inspecting share one path.

Every module here whose kernels Triton compiles has `calls(problem, operands, config, device)`: what it launches for one
GEMM, in order. `run` launches it; `KernelCall.compile` compiles it for the current target and launches nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import Problem


@dataclass(frozen=True, slots=True)
class KernelCall:
    """A compiled-when-used kernel with its grid, positional arguments, and meta-parameters and options by name."""

    kernel: Any
    grid: tuple[int, ...]
    positional: tuple[Any, ...]
    meta: Mapping[str, Any]

    def run(self) -> None:
        """Starts the kernel on the current stream."""
        self.kernel[self.grid](*self.positional, **self.meta)

    def compile(self) -> Any:
        """Triton's compiled kernel for the current target, specialised as `run` would: `.metadata`, `.asm`.

        Loads nothing onto a GPU. Raises what the compiler raises.
        """
        return self.kernel.warmup(*self.positional, grid=self.grid, **self.meta)


CallsOf: TypeAlias = Callable[[Problem, Operands, Config, Device], Sequence[KernelCall]]
"""What a kernel module launches for one GEMM, in order."""


def launcher(calls: CallsOf, problem: Problem, config: Config, device: Device) -> Launch:
    """A `Launch` that makes and runs `calls` for the operands it is given; the first launch compiles."""

    def launch(operands: Operands) -> None:
        for call in calls(problem, operands, config, device):
            call.run()

    return launch


def machine_refusal(problem: Problem, device: Device) -> str | None:
    """Why Triton can run nothing for `problem` on `device`, in one line; None when it can."""
    if device.kind == "cuda":
        old = (device.capability or (0, 0)) < (8, 0)
        return f"{device.name} is older than compute capability 8.0: choose backend torch" if old else None
    if os.environ.get("TRITON_INTERPRET") != "1":
        return (
            "Triton compiles for GPUs only: choose backend torch, or set TRITON_INTERPRET=1 to interpret small shapes"
        )
    if problem.dtype == "bf16":
        return "Triton's interpreter multiplies bf16 as integers, silently: choose fp32 or fp16"
    return None


def format_refusal(problem: Problem, formats: Sequence[str], out_formats: Sequence[str]) -> str | None:
    """Why a kernel for these formats cannot compute `problem`, in one line; None when it can."""
    if problem.dtype not in formats:
        return f"this kernel multiplies no {problem.dtype} matrices: choose one of {', '.join(formats)}"
    if problem.out_dtype not in out_formats:
        return f"this kernel writes no {problem.out_dtype}: choose out_dtype {', '.join(out_formats)}"
    return None
