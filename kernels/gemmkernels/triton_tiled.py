"""Backend `triton-tiled`: one program a tile of C, operands through pointer tiles: the kernel for Ampere.

FLOP: 2·M·N·K. Bytes from L2 to the SMs: M·N·K·element·(1/BLOCK_M + 1/BLOCK_N); from memory, between `Problem.min_bytes`
and that, by how much of A and B the group of tiles under way finds in L2. The published configurations for the A100
(128x256 tiles, 8 warps, groups of 8: 98-101 % of cuBLAS) are in github.com/triton-lang/triton/issues/743.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import triton
import triton.language as tl

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import DTYPE_BYTES, Problem
from gemmkernels.tile_order import best_group_m
from gemmkernels.tiling import BARRIER_BYTES, TILE_NAMES, Tile, estimated_work, operand_buffer_bytes, tile_count
from gemmkernels.triton_call import (
    KernelCall,
    evenness,
    format_refusal,
    imprecise_terms,
    launcher,
    machine_refusal,
    scaling_of,
    strides_of,
)
from gemmkernels.triton_tiles import grouped_tile, multiply_along_k, scaled

SUMMARY = "Triton, one program a tile of C, pointer tiles: sm_80 and later"

FORMATS: Final = ("bf16", "fp16", "tf32", "fp32")
OUT_FORMATS: Final = ("bf16", "fp16", "fp32")


@triton.jit  # type: ignore[untyped-decorator]
def tiled_gemm(  # type: ignore[no-untyped-def]
    # Pointers: first element of A [batch, M, K], B [batch, K, N], C [batch, M, N].
    a_ptr,
    b_ptr,
    c_ptr,
    # Pointers: fp32 factors, contiguous; None without SCALING.
    scale_a_ptr,
    scale_b_ptr,
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
    SCALING: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    IMPRECISE_TERMS: tl.constexpr,
):
    """C = A @ B, times the scales of 8-bit formats, for one tile of one pair of the batch."""
    # Which tile. Batches follow each other on the first grid axis, which alone is not limited to 65535.
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    program = tl.program_id(0)
    batch = (program // (tiles_m * tiles_n)).to(tl.int64)
    tile = program % (tiles_m * tiles_n)
    tile_m, tile_n = grouped_tile(tile, tiles_m, tiles_n, GROUP_M)

    # Offsets are 64-bit: row times stride passes 2**31 in matrices that fit a GPU.
    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    # fmt: off
    accumulator = multiply_along_k(
        a_ptr + batch * stride_a_batch, b_ptr + batch * stride_b_batch, m, n, 0, K, M, N, K,
        stride_am, stride_ak, stride_bk, stride_bn,
        BLOCK_M, BLOCK_N, BLOCK_K, EVEN_M, EVEN_N, EVEN_K, INPUT_PRECISION, ACCUMULATOR, IMPRECISE_TERMS,
    )
    # fmt: on
    c = scaled(accumulator, scale_a_ptr, scale_b_ptr, batch, tile_m * BLOCK_M, tile_n * BLOCK_N, M, N, SCALING)
    c_tile = c_ptr + batch * stride_c_batch + m[:, None] * stride_cm + n[None, :]
    tl.store(c_tile, c.to(c_ptr.dtype.element_ty), mask=(m < M)[:, None] & (n < N)[None, :])


AMPERE_16BIT: Final[tuple[Tile, ...]] = (
    (128, 256, 32, 8, 4),
    (128, 256, 64, 8, 3),
    (256, 128, 32, 8, 4),
    (128, 128, 64, 8, 3),
    (128, 128, 32, 4, 4),
    (128, 64, 64, 4, 4),
    (64, 128, 64, 4, 4),
    (64, 64, 32, 4, 5),
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
BLACKWELL_TF32: Final[tuple[Tile, ...]] = tuple(tile for tile in TF32 if tile[:2] != (256, 128))
"""256x128 tiles spill 144 bytes a thread where an operand, not contiguous along K, is turned round in registers."""

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


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    return machine_refusal(problem, device) or format_refusal(problem, FORMATS, OUT_FORMATS)


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """Tiles that fit the device's shared memory, in the order of `estimated_work`: the first is the default."""
    ordered = sorted(fitting_tiles(problem, device), key=lambda tile: estimated_work(problem, device, tile))
    return [
        dict(zip(TILE_NAMES, tile, strict=True), GROUP_M=best_group_m(problem, device, tile[0], tile[1]))
        for tile in ordered
    ]


def fitting_tiles(problem: Problem, device: Device) -> list[Tile]:
    """Tiles for the format and alignment that fit the device's shared memory, the largest first."""
    tiles = _tiles(problem, device)
    # An interpreter has no shared memory to run out of.
    limit = device.shared_memory_bytes if device.kind == "cuda" else math.inf
    return [tile for tile in tiles if shared_bytes(tile, DTYPE_BYTES[problem.dtype]) <= limit]


def shared_bytes(tile: Tile, element_bytes: int) -> int:
    """Shared memory of one block: a buffer of A and of B for each stage, and a few barriers.

    sm_80 needs one stage less, since it multiplies from registers. Compiling does not check the limit; launching fails.
    """
    return operand_buffer_bytes(tile, element_bytes) + BARRIER_BYTES


def _tiles(problem: Problem, device: Device) -> tuple[Tile, ...]:
    capability = device.capability or (0, 0)
    if not rows_are_aligned(problem):
        return UNALIGNED_32BIT if DTYPE_BYTES[problem.dtype] == 4 else UNALIGNED_16BIT
    if problem.dtype == "fp32":
        return FP32
    if problem.dtype == "tf32":
        return TF32 if capability < (10, 0) else BLACKWELL_TF32
    return AMPERE_16BIT if capability < (9, 0) else HOPPER_16BIT


def rows_are_aligned(problem: Problem) -> bool:
    """Whether the rows of A and B in memory are known to start at multiples of 16 bytes."""
    a_row = problem.m if problem.layout[0] == "t" else problem.k
    b_row = problem.k if problem.layout[1] == "t" else problem.n
    return a_row % ALIGNMENT == 0 == b_row % ALIGNMENT


def calls(problem: Problem, operands: Operands, config: Config, device: Device) -> Sequence[KernelCall]:
    """One launch of `tiled_gemm`: a program for each tile of each pair."""
    a_strides, b_strides, (c_batch, c_row, _) = (strides_of(t) for t in (operands.a, operands.b, operands.out))
    block_m, block_n, block_k = (int(config[name]) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    sizes = (problem.m, problem.n, problem.k)
    meta: dict[str, Any] = {name: value for name, value in config.items() if name != "fast_accumulation"}
    meta |= evenness(sizes, (block_m, block_n, block_k))
    meta |= {
        "SCALING": scaling_of(operands),
        "INPUT_PRECISION": "ieee" if problem.dtype == "fp32" else "tf32",
        "ACCUMULATOR": tl.int32 if problem.dtype == "int8" else tl.float32,
        "IMPRECISE_TERMS": imprecise_terms(config),
        "enable_fp_fusion": True,  # Triton 3.10 changes the default, and 3.9 warns of it
    }
    pointers = (operands.a, operands.b, operands.out, operands.scale_a, operands.scale_b)
    positional = (*pointers, *sizes, *a_strides, *b_strides, c_batch, c_row)
    return (KernelCall(tiled_gemm, (tile_count(problem, block_m, block_n),), positional, meta),)


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher on the current CUDA device and stream; the first launch compiles, a second or so."""
    return launcher(calls, problem, config, device)
