"""Backend `triton-tiled`: one program a tile of C, operands through pointer tiles: the kernel for Ampere.

FLOP: 2·M·N·K. Bytes from L2 to the SMs: M·N·K·element·(1/BLOCK_M + 1/BLOCK_N); from memory, between `Problem.min_bytes`
and that, by how much of A and B the group of tiles under way finds in L2. The published configurations for the A100
(128x256 tiles, 8 warps, groups of 8: 98-101 % of cuBLAS) are in github.com/triton-lang/triton/issues/743.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Final

import triton
import triton.language as tl

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import DTYPE_BYTES, Problem
from gemmkernels.triton_call import KernelCall, launcher

SUMMARY = "Triton, one program a tile of C, pointer tiles: sm_80 and later"

FORMATS: Final = ("bf16", "fp16", "tf32", "fp32")
OUT_FORMATS: Final = ("bf16", "fp16", "fp32")


@triton.jit  # type: ignore[untyped-decorator]
def load_tile(pointers, rows_inside, columns_inside, EVEN_ROWS: tl.constexpr, EVEN_COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    """A tile, zero where it hangs over an edge that is not known to be even."""
    if EVEN_ROWS and EVEN_COLUMNS:
        return tl.load(pointers)
    elif EVEN_ROWS:
        return tl.load(pointers, mask=columns_inside, other=0.0)
    elif EVEN_COLUMNS:
        return tl.load(pointers, mask=rows_inside, other=0.0)
    else:
        return tl.load(pointers, mask=rows_inside & columns_inside, other=0.0)


@triton.jit  # type: ignore[untyped-decorator]
def tiled_gemm(  # type: ignore[no-untyped-def]
    # Pointers: first element of A [batch, M, K], B [batch, K, N], C [batch, M, N].
    a_ptr,
    b_ptr,
    c_ptr,
    # Sizes.
    M,
    N,
    K,
    # Strides, in elements; those of a layout's contiguous dimension are 1, which Triton specialises on.
    stride_a_batch,
    stride_am,
    stride_ak,
    stride_b_batch,
    stride_bk,
    stride_bn,
    stride_c_batch,
    stride_cm,
    # Meta.
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_M: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
):
    """C = A @ B, accumulated in fp32, for one tile of one pair of the batch."""
    # Which tile. Batches follow each other on the first grid axis, which alone is not limited to 65535.
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    program = tl.program_id(0)
    batch = (program // (tiles_m * tiles_n)).to(tl.int64)
    tile = program % (tiles_m * tiles_n)

    # GROUP_M rows of tiles are walked column by column, so that tiles under way together share A and B in L2.
    tiles_in_group = GROUP_M * tiles_n
    first_m = (tile // tiles_in_group) * GROUP_M
    group_m = min(tiles_m - first_m, GROUP_M)
    tile_m = first_m + (tile % tiles_in_group) % group_m
    tile_n = (tile % tiles_in_group) // group_m

    # Offsets are 64-bit: row times stride passes 2**31 in matrices that fit a GPU.
    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    m_inside = (m < M)[:, None]
    n_inside = (n < N)[None, :]
    a_tile = a_ptr + batch * stride_a_batch + m[:, None] * stride_am + k[None, :].to(tl.int64) * stride_ak
    b_tile = b_ptr + batch * stride_b_batch + k[:, None].to(tl.int64) * stride_bk + n[None, :] * stride_bn

    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k_start in range(0, K, BLOCK_K):
        k_inside = k < K - k_start
        a = load_tile(a_tile, m_inside, k_inside[None, :], EVEN_M, EVEN_K)
        b = load_tile(b_tile, k_inside[:, None], n_inside, EVEN_K, EVEN_N)
        accumulator = tl.dot(a, b, accumulator, input_precision=INPUT_PRECISION)
        a_tile += BLOCK_K * stride_ak
        b_tile += BLOCK_K * stride_bk

    c_tile = c_ptr + batch * stride_c_batch + m[:, None] * stride_cm + n[None, :]
    tl.store(c_tile, accumulator.to(c_ptr.dtype.element_ty), mask=m_inside & n_inside)


Tile = tuple[int, int, int, int, int]
"""BLOCK_M, BLOCK_N, BLOCK_K, num_warps, num_stages."""

AMPERE_16BIT: Final[tuple[Tile, ...]] = (
    (128, 256, 32, 8, 4),
    (128, 256, 64, 8, 3),
    (256, 128, 32, 8, 4),
    (128, 128, 64, 8, 3),
    (128, 128, 32, 4, 4),
    (128, 64, 64, 4, 4),
    (64, 128, 64, 4, 4),
    (64, 64, 64, 4, 4),
    (32, 64, 64, 4, 5),
    (64, 32, 64, 4, 5),
    (16, 64, 64, 4, 5),
    (64, 16, 64, 4, 5),
)
HOPPER_16BIT: Final[tuple[Tile, ...]] = (
    (128, 256, 64, 8, 3),
    (128, 256, 64, 8, 4),
    (256, 128, 64, 8, 3),
    (128, 128, 64, 8, 4),
    (128, 128, 64, 4, 3),
    (128, 64, 64, 4, 4),
    (64, 128, 64, 4, 4),
    (64, 64, 64, 4, 4),
    (64, 32, 64, 4, 5),
    (32, 64, 64, 4, 5),
    (64, 16, 64, 4, 5),
    (16, 64, 64, 4, 5),
)
"""From 64 rows on a tile is multiplied by Hopper's or Blackwell's own instructions, below by Ampere's."""

TF32: Final[tuple[Tile, ...]] = (
    (128, 256, 32, 8, 3),
    (256, 128, 32, 8, 3),
    (128, 128, 32, 8, 3),
    (128, 128, 32, 8, 4),
    (128, 64, 32, 4, 4),
    (64, 128, 32, 4, 4),
    (64, 64, 32, 4, 4),
    (32, 64, 32, 4, 5),
    (64, 32, 32, 4, 5),
    (16, 64, 32, 4, 5),
    (64, 16, 32, 4, 5),
)
FP32: Final[tuple[Tile, ...]] = (
    (128, 128, 16, 8, 3),
    (128, 64, 16, 8, 3),
    (64, 64, 16, 4, 3),
    (64, 64, 16, 4, 4),
    (32, 64, 16, 4, 4),
    (64, 32, 16, 4, 4),
    (16, 64, 32, 4, 4),
    (64, 16, 32, 4, 4),
)
"""Multiplied outside the tensor cores: 64 accumulators a thread at most, the operands being in registers too."""

UNALIGNED_16BIT: Final[tuple[Tile, ...]] = (
    (128, 128, 32, 8, 3),
    (64, 128, 32, 8, 3),
    (64, 64, 32, 4, 3),
    (32, 64, 32, 4, 3),
    (64, 32, 32, 4, 3),
    (16, 64, 32, 4, 3),
    (64, 16, 32, 4, 3),
)
UNALIGNED_32BIT: Final[tuple[Tile, ...]] = tuple(
    (m, n, 16, warps, stages) for m, n, _, warps, stages in UNALIGNED_16BIT[1:]
)
"""Where rows do not start at multiples of 16 elements, Triton loads element by element through registers, not
asynchronously into shared memory: 128x256 tiles would spill up to 4 KiB a thread."""

ALIGNMENT: Final = 16
"""Sizes and strides that are multiples of this are known as such to the compiled kernel."""

GROUP_M: Final = 8

TILE_SIDE_COST: Final = 16
"""What loading one row or column of operands costs beside multiplying, in elements of C: larger tiles reuse more."""


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    if problem.dtype not in FORMATS:
        return f"this kernel multiplies no {problem.dtype} matrices: choose one of {', '.join(FORMATS)}"
    if problem.out_dtype not in OUT_FORMATS:
        return f"this kernel writes no {problem.out_dtype}: choose out_dtype {', '.join(OUT_FORMATS)}"
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


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """Tiles that fit the device's shared memory, in the order of `estimated_work`: the first is the default."""
    element_bytes = DTYPE_BYTES[problem.dtype]
    fitting = [
        tile for tile in _tiles(problem, device) if shared_bytes(tile, element_bytes) <= device.shared_memory_bytes
    ]
    # An interpreter has no shared memory to run out of.
    tiles = fitting if device.kind == "cuda" else _tiles(problem, device)
    names = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_warps", "num_stages")
    ordered = sorted(tiles, key=lambda tile: estimated_work(problem, device, tile))
    return [dict(zip(names, tile, strict=True), GROUP_M=GROUP_M) for tile in ordered]


def shared_bytes(tile: Tile, element_bytes: int) -> int:
    """Shared memory of one block: a buffer of A and of B for each stage, and a few barriers.

    sm_80 needs one stage less, since it multiplies from registers. Compiling does not check the limit; launching fails.
    """
    block_m, block_n, block_k, _, stages = tile
    return stages * (block_m + block_n) * block_k * element_bytes + 32


def estimated_work(problem: Problem, device: Device, tile: Tile) -> int:
    """Relative time of `problem` in tiles of this size: waves of tiles over the SMs, times the cost of one.

    Counts what overhangs the edges, so that small problems get small tiles, and the last wave as a whole one.
    """
    block_m, block_n, *_ = tile
    tiles = problem.batch * math.ceil(problem.m / block_m) * math.ceil(problem.n / block_n)
    waves = math.ceil(tiles / max(1, device.sm_count))
    return waves * (block_m * block_n + TILE_SIDE_COST * (block_m + block_n))


def _tiles(problem: Problem, device: Device) -> tuple[Tile, ...]:
    a_row = problem.m if problem.layout[0] == "t" else problem.k
    b_row = problem.k if problem.layout[1] == "t" else problem.n
    if a_row % ALIGNMENT or b_row % ALIGNMENT:
        return UNALIGNED_32BIT if DTYPE_BYTES[problem.dtype] == 4 else UNALIGNED_16BIT
    if DTYPE_BYTES[problem.dtype] == 4:
        return FP32 if problem.dtype == "fp32" else TF32
    return AMPERE_16BIT if (device.capability or (0, 0)) < (9, 0) else HOPPER_16BIT


def calls(problem: Problem, operands: Operands, config: Config, device: Device) -> Sequence[KernelCall]:
    """One launch of `tiled_gemm`: a program for each tile of each pair."""
    a, b, out = operands.a, operands.b, operands.out
    (a_batch, *a_strides), (b_batch, *b_strides), (c_batch, c_row, _) = (
        t.stride() if len(t.stride()) == 3 else (0, *t.stride()) for t in (a, b, out)
    )
    block_m, block_n, block_k = (int(config[name]) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    tiles = math.ceil(problem.m / block_m) * math.ceil(problem.n / block_n)
    sizes = (problem.m, problem.n, problem.k)
    meta = dict(
        config,
        EVEN_M=problem.m % block_m == 0,
        EVEN_N=problem.n % block_n == 0,
        EVEN_K=problem.k % block_k == 0,
        INPUT_PRECISION="ieee" if problem.dtype == "fp32" else "tf32",
        enable_fp_fusion=True,  # Triton 3.10 changes the default, and 3.9 warns of it
    )
    strides = (a_batch, *a_strides, b_batch, *b_strides, c_batch, c_row)
    return (KernelCall(tiled_gemm, (tiles * problem.batch,), (a, b, out, *sizes, *strides), meta),)


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher on the current CUDA device and stream; the first launch compiles, a second or so."""
    return launcher(calls, problem, config, device)
