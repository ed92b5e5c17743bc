"""A GEMM as a mathematical problem: its sizes, number formats and memory layout, and what follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DTYPE_BYTES: Final[dict[str, int]] = {
    "fp32": 4,
    "tf32": 4,
    "bf16": 2,
    "fp16": 2,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "int8": 1,
    "int32": 4,
}
"""Bytes of one stored element. tf32 is stored as fp32; int32 exists as an output only."""

DTYPES: Final = ("fp32", "tf32", "bf16", "fp16", "fp8_e4m3", "fp8_e5m2", "int8")
"""Input formats, by their names in run files."""

LAYOUTS: Final = ("nn", "nt", "tn")
"""First letter A, second B; `t` means stored transposed. BLAS libraries, column-major, call our `nt` "TN"."""

SCALINGS: Final = ("tensor", "row")
"""How fp8 operands are scaled: one factor a tensor, or one a row of A and a column of B."""

DEFAULT_OUT_DTYPE: Final[dict[str, str]] = {
    "fp32": "fp32",
    "tf32": "fp32",
    "bf16": "bf16",
    "fp16": "fp16",
    "fp8_e4m3": "bf16",
    "fp8_e5m2": "bf16",
    "int8": "int32",
}

MAX_DIMENSION: Final = 2**24
MAX_BYTES: Final = 2**43
"""8 TiB: more than any one device holds, so a larger problem is a slip of the keyboard."""


class ProblemError(ValueError):
    """Sizes, format or layout that no GEMM can have; the message names the remedy."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One GEMM, C[M,N] = A[M,K] @ B[K,N] for each of `batch` independent pairs, row-major C.

    m, n, k, batch: sizes, each at least 1. dtype: format of A and B. out_dtype: format of C; empty means the usual
    one for `dtype`. layout: how A and B lie in memory, see `LAYOUTS`. scaling: of fp8 operands, else None.

    Raises ProblemError for sizes outside 1..2**24, over 8 TiB in all, or an unknown name.
    """

    m: int
    n: int
    k: int
    batch: int = 1
    dtype: str = "bf16"
    out_dtype: str = ""
    layout: str = "nn"
    scaling: str | None = None

    def __post_init__(self) -> None:
        for name in ("m", "n", "k", "batch"):
            size = getattr(self, name)
            if not 1 <= size <= MAX_DIMENSION:
                raise ProblemError(
                    f"{name.upper()} = {size} is outside 1..{MAX_DIMENSION}: give each size as a positive integer"
                )
        if self.dtype not in DTYPES:
            raise ProblemError(f"unknown dtype {self.dtype!r}: choose one of {', '.join(DTYPES)}")
        if self.layout not in LAYOUTS:
            raise ProblemError(f"unknown layout {self.layout!r}: choose one of {', '.join(LAYOUTS)}")
        if not self.out_dtype:
            object.__setattr__(self, "out_dtype", DEFAULT_OUT_DTYPE[self.dtype])
        if self.out_dtype not in DTYPE_BYTES:
            raise ProblemError(f"unknown out_dtype {self.out_dtype!r}: choose one of {', '.join(DTYPE_BYTES)}")
        if self.scaling is not None and (self.scaling not in SCALINGS or not self.dtype.startswith("fp8")):
            raise ProblemError(
                f"scaling {self.scaling!r} with {self.dtype}: fp8 takes one of {', '.join(SCALINGS)}, others none"
            )
        if self.min_bytes > MAX_BYTES:
            raise ProblemError(
                f"{self.m}x{self.n}x{self.k} needs {self.min_bytes / 2**40:.0f} TiB: "
                "give a shape that fits a GPU's memory"
            )

    @property
    def flop(self) -> int:
        """Floating-point operations: a multiply and an add for each of M·N·K·batch terms."""
        return 2 * self.batch * self.m * self.n * self.k

    @property
    def min_bytes(self) -> int:
        """Bytes if A and B are each read once and C is written once."""
        inputs = DTYPE_BYTES[self.dtype] * (self.m * self.k + self.k * self.n)
        return self.batch * (inputs + DTYPE_BYTES[self.out_dtype] * self.m * self.n)

    @property
    def arithmetic_intensity(self) -> float:
        """FLOP per byte at `min_bytes`."""
        return self.flop / self.min_bytes

    @property
    def shape(self) -> str:
        """`MxNxK`, with the batch in front where there is one: `32x4096x4096x128`."""
        sizes = (self.m, self.n, self.k) if self.batch == 1 else (self.batch, self.m, self.n, self.k)
        return "x".join(map(str, sizes))
