"""Kernels compiled without launching them, also for a GPU that is not there, and what a GPU would make of them.

What is compiled lands in Triton's own cache, under the key that a launch on such a GPU looks up: the launch then finds
it. No CUDA context is made. The tools that read a cubin come with the triton package.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.driver import driver

from gemmkernels.backend import Device, Operands
from gemmkernels.inputs import TORCH_DTYPES
from gemmkernels.problem import Problem
from gemmkernels.triton_call import KernelCall

TOOLS: Final[Path] = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"

DEVICES: Final[dict[int, Device]] = {
    80: Device("cuda", "NVIDIA A100-SXM4-80GB", 0, (8, 0), 108, 166_912, 40 * 2**20, 80 * 2**30),
    90: Device("cuda", "NVIDIA H100 80GB HBM3", 0, (9, 0), 132, 232_448, 50 * 2**20, 80 * 2**30),
    100: Device("cuda", "NVIDIA B200", 0, (10, 0), 148, 232_448, 126 * 2**20, 180 * 2**30),
}
"""Compute capability × 10 → what a backend may ask about such a GPU."""

_LISTED: Final = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)(.*)", re.MULTILINE)
"""An instruction in a listing of SASS: address, maybe a predicate, the opcode with its modifiers, and the rest."""
_TARGET: Final = re.compile(r"\b0x([0-9a-f]+)\b")


class AbsentTensor:
    """A dtype, a shape and strides, with an aligned address and no memory."""

    def __init__(self, dtype: torch.dtype, shape: Sequence[int], transposed: bool = False) -> None:
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


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one kernel takes of a GPU: a thread's registers and stack, where spills go, and a block's shared memory.

    scratch_bytes: of memory, which Triton would allocate at each launch.
    """

    registers: int
    stack_bytes: int
    shared_bytes: int
    scratch_bytes: int
    cubin: bytes

    @property
    def sass(self) -> str:
        """The machine code as text."""
        return _read_cubin(self.cubin, "--dump-sass")

    def instructions(self, name: str) -> int:
        """How often an opcode that starts with `name` stands in the SASS."""
        return len(re.findall(rf"\b{name}", self.sass))

    def spills_in_loops(self) -> int:
        """Accesses to the stack that lie in a loop. Elsewhere they cost nothing: a value is put aside once."""
        code = [(int(address, 16), opcode, rest) for address, opcode, rest in _LISTED.findall(self.sass)]
        back = [
            (int(target[1], 16), address)
            for address, opcode, rest in code
            if opcode.startswith("BRA") and (target := _TARGET.search(rest)) and int(target[1], 16) <= address
        ]
        stack = [address for address, opcode, _ in code if opcode.startswith(("LDL", "STL"))]
        return sum(any(first <= address <= last for first, last in back) for address in stack)

    def opcodes(self) -> frozenset[str]:
        """The opcodes of the SASS, each with its modifiers: `HGMMA.64x256x16.F32.BF16`."""
        return frozenset(opcode for _, opcode, _ in _LISTED.findall(self.sass))


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
    out = AbsentTensor(TORCH_DTYPES[problem.out_dtype], (*lead, problem.m, problem.n))
    return Operands(a, b, out, *_absent_scales(problem, lead))  # type: ignore[arg-type]


def compile_call(call: KernelCall, capability: int) -> Compiled:
    """Compile one launch's kernel for `capability`, specialised as the launch would.

    Raises what the compiler raises, of whatever type.
    """
    with absent_gpu(capability):
        compiled = call.compile()
    cubin = compiled.asm["cubin"]
    usage = _read_cubin(cubin, "--dump-resource-usage")
    found = re.search(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", usage)
    assert found, usage
    registers, stack, local = map(int, found.groups())
    metadata = compiled.metadata
    return Compiled(registers, stack + local, metadata.shared, metadata.global_scratch_size, cubin)


def _absent_scales(problem: Problem, lead: tuple[int, ...]) -> tuple[AbsentTensor | None, AbsentTensor | None]:
    if not problem.dtype.startswith("fp8"):
        return None, None
    if problem.scaling != "row":
        return _OneFactor(), _OneFactor()
    return AbsentTensor(torch.float32, (*lead, problem.m, 1)), AbsentTensor(torch.float32, (*lead, 1, problem.n))


class _OneFactor(AbsentTensor):
    """A single fp32 factor."""

    def __init__(self) -> None:
        self.dtype, self.shape, self._stride = torch.float32, (1,), (1,)


@lru_cache(maxsize=32)  # problems of one layout mostly share a kernel
def _read_cubin(cubin: bytes, option: str) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([TOOLS / "cuobjdump", option, file.name], check=True, capture_output=True, text=True)
    return done.stdout
