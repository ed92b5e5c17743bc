"""One launch of a Triton or Gluon kernel as a value, so that running, compiling ahead and inspecting share one path.

Every module here whose kernels Triton compiles has `calls(problem, operands, config, device)`: what it launches for one
GEMM, in order. `run` launches it; `KernelCall.compile` compiles it for the current target and launches nothing.
"""

from __future__ import annotations

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
