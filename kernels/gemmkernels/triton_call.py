"""One launch of a Triton or Gluon kernel as a value, so that running, compiling ahead and inspecting share one path.

Every module here whose kernels Triton compiles has `calls(problem, operands, config, device)`: what it launches for one
GEMM, in order. `run` launches it; `KernelCall.compile` compiles it for the current target and launches nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import DTYPE_BYTES, Problem

TMA_ALIGNMENT_BYTES: Final = 16
"""What rows in memory have to be multiples of for TMA to copy tiles of them."""

PROMOTION_INTERVAL: Final = 128
"""Products summed inside a Hopper tensor core before they are added up in fp32: four of its instructions."""


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
        return f"this kernel multiplies {', '.join(formats)} only: choose {pointer_backend(problem.dtype)}"
    if problem.out_dtype not in out_formats:
        return f"this kernel writes no {problem.out_dtype}: choose out_dtype {', '.join(out_formats)}"
    return None


def pointer_backend(dtype: str) -> str:
    """The Triton backend that multiplies this format wherever its rows start."""
    return "triton-tiled-8bit" if DTYPE_BYTES[dtype] == 1 else "triton-tiled"


def layout_refusal(problem: Problem) -> str | None:
    """Why tensor cores do not take an 8-bit problem as it lies in memory, in one line; None when they do."""
    if DTYPE_BYTES[problem.dtype] == 1 and problem.layout != "nt":
        return f"{problem.dtype} is multiplied only where both operands are contiguous along K: choose layout nt"
    return None


def fast_refusal(problem: Problem, promoting: str) -> str | None:
    """Why `problem` has no fast accumulation, in one line; None when it has. promoting: the backend without."""
    return None if problem.dtype.startswith("fp8") else f"fast accumulation is of fp8 formats: choose {promoting}"


def tma_refusal(problem: Problem) -> str | None:
    """Why TMA cannot copy one of A, B and C as they lie in memory, in one line; None when it can."""
    a_row = problem.m if problem.layout[0] == "t" else problem.k
    b_row = problem.k if problem.layout[1] == "t" else problem.n
    rows = (("A", a_row, problem.dtype), ("B", b_row, problem.dtype), ("C", problem.n, problem.out_dtype))
    for name, elements, dtype in rows:
        row_bytes = elements * DTYPE_BYTES[dtype]
        if row_bytes % TMA_ALIGNMENT_BYTES:
            return (
                f"{name}'s rows of {row_bytes} bytes are no multiples of the {TMA_ALIGNMENT_BYTES} that TMA needs: "
                f"choose {pointer_backend(problem.dtype)}"
            )
    return None


# What launches have in common


def strides_of(matrix: Any) -> tuple[int, int, int]:
    """Batch (0 without one), row and column stride, in elements."""
    batch, row, column = (0, *matrix.stride())[-3:]
    return batch, row, column


def scaling_of(operands: Operands) -> str:
    """`none`, `tensor` or `row`: which dequantisation factors there are."""
    if operands.scale_a is None:
        return "none"
    return "tensor" if len(operands.scale_a.shape) == 1 else "row"


def evenness(sizes: Sequence[int], blocks: Sequence[int]) -> dict[str, bool]:
    """EVEN_M, EVEN_N and EVEN_K: whether no tile hangs over, so that no mask is needed."""
    return {f"EVEN_{name}": size % block == 0 for name, size, block in zip("MNK", sizes, blocks, strict=True)}


def imprecise_terms(config: Config) -> int | None:
    """How many fp8 products Hopper may sum inside its tensor cores; None for as many as there are."""
    if config.get("fast_accumulation", True):
        return None
    return min(PROMOTION_INTERVAL, int(config["BLOCK_K"]))
