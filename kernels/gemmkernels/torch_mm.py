"""Backend `torch`: torch.mm and torch.bmm, that is cuBLAS on a GPU and oneDNN on a CPU, the baseline of all others.

On a GPU the configuration names the library: `cublas`, or `cublaslt`, which is reached through another heuristic and
may pick other kernels. The default is the one that PyTorch prefers by itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Final

import torch

from gemmkernels.backend import Config, Device, Launch, Operands, baseline
from gemmkernels.problem import Problem

SUMMARY = "torch.mm and torch.bmm: the vendor's library (cuBLAS, oneDNN)"

FORMATS: Final = ("bf16", "fp16", "tf32", "fp32")
BLAS_LIBRARIES: Final = ("cublas", "cublaslt")


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    if problem.dtype not in FORMATS:
        narrow = "fp8" if problem.dtype.startswith("fp8") else problem.dtype
        return f"torch.mm multiplies no {narrow} matrices: choose backend {baseline(problem.dtype)}"
    own_format = "fp32" if problem.dtype == "tf32" else problem.dtype
    if problem.out_dtype != own_format and not _widens(problem, device):
        return f"torch.mm writes C in the format of A and B, on a GPU also bf16 and fp16 into fp32: choose {own_format}"
    if device.kind == "cpu" and problem.dtype == "tf32":
        return "a CPU has no tf32: choose fp32"
    if device.kind == "cpu" and problem.dtype == "fp16":
        return "PyTorch's fp16 GEMM on a CPU runs at 1-2.5 GFLOPS, hundreds of times below bf16: choose bf16"
    if device.kind == "cuda" and (device.capability or (0, 0)) < (8, 0) and problem.dtype in ("bf16", "tf32"):
        return f"{device.name} has no {problem.dtype} tensor cores, which came with compute capability 8.0: choose fp16"
    return None


def _widens(problem: Problem, device: Device) -> bool:
    """Whether this writes a 16-bit product as fp32, which PyTorch does on CUDA alone."""
    return device.kind == "cuda" and problem.dtype in ("bf16", "fp16") and problem.out_dtype == "fp32"


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """The libraries PyTorch can be told to prefer, its own choice first; on a CPU there is nothing to choose."""
    if device.kind == "cpu":
        return [{}]
    default = preferred_blas()
    return [{"blas": default}, *({"blas": name} for name in BLAS_LIBRARIES if name != default)]


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher that writes into `out`. Transposed views go to the library as such, without a copy.

    The preference is the process's and read at each launch, so it is set around each launch, and then what it was.
    Raises RuntimeError where PyTorch was built without that library.
    """
    multiply = torch.mm if problem.batch == 1 else torch.bmm
    if _widens(problem, device):

        def launch(operands: Operands) -> None:
            multiply(operands.a, operands.b, out_dtype=torch.float32, out=operands.out)

    else:

        def launch(operands: Operands) -> None:
            multiply(operands.a, operands.b, out=operands.out)

    return _preferring(str(config["blas"]), launch) if "blas" in config else launch


def preferred_blas() -> str:
    """The library PyTorch prefers now, in the words of `torch.backends.cuda.preferred_blas_library`."""
    return _word(torch.backends.cuda.preferred_blas_library())


def _word(library: object) -> str:
    return str(library).rpartition(".")[2].lower()  # _BlasBackend.Cublas


def _preferring(library: str, launch: Launch) -> Launch:
    with warnings.catch_warnings():
        # PyTorch warns of the setting once in a process. Here, so that a launch neither warns nor fails to set it.
        warnings.filterwarnings("ignore", message=".*preferred_blas_library")
        _with_preference(library, lambda: None)

    def launch_preferring(operands: Operands) -> None:
        _with_preference(library, lambda: launch(operands))

    return launch_preferring


def _with_preference(library: str, action: Callable[[], None]) -> None:
    before = torch.backends.cuda.preferred_blas_library()
    if _word(before) == library:  # the usual case, at a third of the price, and that is microseconds a launch
        action()
        return
    torch.backends.cuda.preferred_blas_library(library)
    try:
        action()
    finally:
        torch.backends.cuda.preferred_blas_library(before)


def apply_settings(problem: Problem) -> dict[str, str]:
    """Set what PyTorch decides for the whole process, and return what is then in force.

    fp32 is multiplied as IEEE fp32 unless `problem` is tf32; bf16 and fp16 partial sums stay fp32, also in split-K.
    After this, reading the older `allow_tf32` may raise.
    """
    matmul = torch.backends.cuda.matmul
    wanted = "tf32" if problem.dtype == "tf32" else "ieee"
    if hasattr(matmul, "fp32_precision"):
        matmul.fp32_precision = wanted
        in_force = str(matmul.fp32_precision)
    else:
        matmul.allow_tf32 = wanted == "tf32"
        in_force = "tf32" if matmul.allow_tf32 else "ieee"
    matmul.allow_bf16_reduced_precision_reduction = False
    matmul.allow_fp16_reduced_precision_reduction = False
    return {
        "fp32_precision": in_force,
        "bf16_reduced_precision_reduction": str(matmul.allow_bf16_reduced_precision_reduction).lower(),
        "fp16_reduced_precision_reduction": str(matmul.allow_fp16_reduced_precision_reduction).lower(),
    }
