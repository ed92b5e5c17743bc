"""What a way of computing a GEMM must answer, and the table of those there are. Modules load when used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from gemmkernels.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

ConfigValue: TypeAlias = int | float | str | bool
Config: TypeAlias = Mapping[str, ConfigValue]
"""How a kernel computes (tile sizes, warps, stages), as plain values that a run file can hold."""


@dataclass(frozen=True, slots=True)
class Device:
    """What a backend may ask about the machine it would run on.

    kind: `cuda` or `cpu`. index: the CUDA ordinal. capability: compute capability, (9, 0) for Hopper, None on a CPU.
    shared_memory_bytes: the most one block may use. l2_bytes: GPU L2, or the CPU's last-level cache.
    """

    kind: str
    name: str
    index: int = 0
    capability: tuple[int, int] | None = None
    sm_count: int = 0
    shared_memory_bytes: int = 0
    l2_bytes: int = 0
    memory_bytes: int = 0

    @property
    def torch_name(self) -> str:
        """The device string PyTorch knows: `cuda:0` or `cpu`."""
        return f"cuda:{self.index}" if self.kind == "cuda" else "cpu"


@dataclass(frozen=True, slots=True)
class Operands:
    """One GEMM's tensors, as logical (strided) views: a [M,K], b [K,N], out [M,N], with a leading batch where > 1.

    A `t` in the layout means the view is the transpose of what lies contiguous in memory; `out` is always row-major.
    scale_a, scale_b: fp32 dequantisation factors of fp8 operands, [1] or [M,1] and [1,N], else None.
    """

    a: Tensor
    b: Tensor
    out: Tensor
    scale_a: Tensor | None = None
    scale_b: Tensor | None = None


Launch: TypeAlias = Callable[[Operands], None]
"""Starts one GEMM on the current stream and returns without waiting; allocates nothing once warm."""


class Backend(Protocol):
    """One way to compute a GEMM; each module named in `BACKENDS` is one."""

    @property
    def SUMMARY(self) -> str:  # noqa: N802 - modules implement it as a constant
        """One line for `flopwatt backends`."""
        ...

    def supports(self, problem: Problem, device: Device) -> str | None:
        """Why this backend cannot compute `problem` on `device`, in one line; None when it can."""
        ...

    def configs(self, problem: Problem, device: Device) -> Sequence[Config]:
        """Candidate configurations, the default first; `[{}]` where there is nothing to choose."""
        ...

    def prepare(self, problem: Problem, config: Config, device: Device) -> Launch:
        """A launcher for `problem` with `config`. Compilation may happen here or at the first launch."""
        ...


BACKENDS: Final[dict[str, str]] = {
    "torch": "gemmkernels.torch_mm",
    "torch-cublaslt": "gemmkernels.torch_cublaslt",
    "numpy": "gemmkernels.numpy_blas",
    "torch-fp8": "gemmkernels.torch_fp8",
    "torch-fp8-fast": "gemmkernels.torch_fp8_fast",
    "torch-int8": "gemmkernels.torch_int8",
    "triton-tiled": "gemmkernels.triton_tiled",
    "triton-tiled-8bit": "gemmkernels.triton_8bit",
    "triton-persistent": "gemmkernels.triton_persistent",
    "triton-persistent-fast": "gemmkernels.triton_persistent_fast",
    "gluon-persistent": "gemmkernels.gluon_persistent",
    "gluon-persistent-fast": "gemmkernels.gluon_persistent_fast",
    "triton-splitk": "gemmkernels.triton_splitk",
}
"""Backend name → module."""

_BASELINES: Final = {"fp8_e4m3": "torch-fp8", "fp8_e5m2": "torch-fp8", "int8": "torch-int8"}


def baseline(dtype: str) -> str:
    """The backend that multiplies this format by the vendor's library: what others are compared with."""
    return _BASELINES.get(dtype, "torch")


class UnknownBackend(LookupError):
    """A backend name that is not in `BACKENDS`."""

    def __init__(self, name: str) -> None:
        super().__init__(f"unknown backend {name!r}: choose from {', '.join(BACKENDS)}")


def load(name: str) -> Backend:
    """The backend called `name`. Raises UnknownBackend, or ImportError where its package is not installed."""
    try:
        module = BACKENDS[name]
    except KeyError:
        raise UnknownBackend(name) from None
    return cast(Backend, importlib.import_module(module))
