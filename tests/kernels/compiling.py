"""Compiles a Triton kernel for a GPU that is not there, and reads from the cubin what a GPU would make of it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from gemmkernels.backend import Config, Device, Operands
from gemmkernels.inputs import TORCH_DTYPES
from gemmkernels.problem import Problem
from gemmkernels.triton_call import CallsOf, KernelCall

TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"

DEVICES = {
    80: Device("cuda", "NVIDIA A100-SXM4-80GB", 0, (8, 0), 108, 166_912, 40 * 2**20, 80 * 2**30),
    90: Device("cuda", "NVIDIA H100 80GB HBM3", 0, (9, 0), 132, 232_448, 50 * 2**20, 80 * 2**30),
    100: Device("cuda", "NVIDIA B200", 0, (10, 0), 148, 232_448, 126 * 2**20, 180 * 2**30),
}
"""Compute capability × 10 → what a backend may ask about such a GPU."""


class AbsentTensor:
    """A dtype, a shape and strides, with an aligned address and no memory."""

    def __init__(self, dtype: Any, shape: Sequence[int], transposed: bool = False) -> None:
        self.dtype, self.shape = dtype, tuple(shape)
        *lead, rows, columns = shape
        inner = (1, rows) if transposed else (columns, 1)
        self._stride = (*([rows * columns] * len(lead)), *inner)

    def stride(self) -> tuple[int, ...]:
        return self._stride

    @staticmethod
    def data_ptr() -> int:
        return 0

    @staticmethod
    def ptr_range() -> int:
        return 0


@dataclass(frozen=True)
class Compiled:
    """What one kernel takes of a GPU: a thread's registers and stack, where spills go, and a block's shared memory."""

    registers: int
    stack_bytes: int
    shared_bytes: int
    sass: str

    def instructions(self, name: str) -> int:
        """How often an opcode that starts with `name` stands in the SASS."""
        return len(re.findall(rf"\b{name}", self.sass))


@contextmanager
def absent_gpu(capability: int) -> Iterator[None]:
    """Triton believes that the current device has this compute capability (80, 90, 100)."""
    target = GPUTarget("cuda", capability, 32)
    stub = SimpleNamespace(
        get_current_target=lambda: target,
        get_current_device=lambda: capability,
        get_current_stream=lambda device: 0,
        set_current_device=lambda device: None,
        get_active_torch_device=lambda: None,
    )
    previous = driver._active
    driver.set_active(stub)
    try:
        yield
    finally:
        driver._active = previous


def absent_operands(problem: Problem) -> Operands:
    """Operands of `problem` without memory."""
    lead = (problem.batch,) if problem.batch > 1 else ()
    dtype = TORCH_DTYPES[problem.dtype]
    a, b = (
        AbsentTensor(dtype, (*lead, *shape), letter == "t")
        for shape, letter in zip(((problem.m, problem.k), (problem.k, problem.n)), problem.layout, strict=True)
    )
    return Operands(a, b, AbsentTensor(TORCH_DTYPES[problem.out_dtype], (*lead, problem.m, problem.n)))  # type: ignore[arg-type]


def compile_call(call: KernelCall, capability: int) -> Compiled:
    """Compile one launch's kernel for `capability`, specialised as the launch would."""
    with absent_gpu(capability):
        compiled = call.compile()
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        usage = _run("cuobjdump", "--dump-resource-usage", cubin)
        sass = _run("cuobjdump", "--dump-sass", cubin)
    found = re.search(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", usage)
    assert found, usage
    registers, stack, local = map(int, found.groups())
    return Compiled(registers, stack + local, compiled.metadata.shared, sass)


def compile_first(calls: CallsOf, problem: Problem, config: Config, capability: int) -> Compiled:
    """The first kernel that a module's `calls` launches for one problem and configuration."""
    device = DEVICES[capability]
    return compile_call(calls(problem, absent_operands(problem), config, device)[0], capability)


def _run(tool: str, *arguments: object) -> str:
    return subprocess.run([TOOLS / tool, *map(str, arguments)], check=True, capture_output=True, text=True).stdout
