"""Backend `triton-tiled-8bit`: `triton-tiled` for one-byte formats, fp8 into scaled floating point and int8 into int32.

FLOP: 2·M·N·K. Bytes from L2 to the SMs: M·N·K·(1/BLOCK_M + 1/BLOCK_N), half those of a 16-bit format at twice its
rate, so the tiles stay the same and BLOCK_K doubles. int8 is exact. fp8 sums keep about 13 fraction bits inside
Hopper's tensor cores (DeepSeek-V3, arXiv 2412.19437, section 3.3): unless `fast_accumulation`, every 128 terms are
added to an fp32 accumulator outside, which costs registers and time. That is part of what is computed, not a way of
computing it: no candidate sums fast, and cuBLAS without its fast accumulation (`torch-fp8`) is what to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import triton
import triton.language as tl

from gemmkernels.backend import Config, ConfigValue, Device, Launch, Operands
from gemmkernels.problem import Problem
from gemmkernels.tile_order import best_group_m
from gemmkernels.tiling import TILE_NAMES, Tile, estimated_work, operand_buffer_bytes, tile_count
from gemmkernels.triton_call import KernelCall, format_refusal, launcher, machine_refusal
from gemmkernels.triton_persistent import scaled
from gemmkernels.triton_tiles import grouped_tile, load_tile

SUMMARY = "Triton, one program a tile of C, pointer tiles of 8-bit formats: int8 on sm_80, fp8 on sm_89 and later"

FORMATS: Final = ("fp8_e4m3", "fp8_e5m2", "int8")
FP8_OUT_FORMATS: Final = ("bf16", "fp16", "fp32")

PROMOTION_INTERVAL: Final = 128
"""Products summed inside a Hopper tensor core before they are added up in fp32: four of its instructions."""


@triton.jit  # type: ignore[untyped-decorator]
def tiled_8bit_gemm(  # type: ignore[no-untyped-def]
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
    ACCUMULATOR: tl.constexpr,
    IMPRECISE_TERMS: tl.constexpr,
):
    """C = (A @ B) · scales for one tile of one pair of the batch.

    IMPRECISE_TERMS: how many products Hopper may sum before promotion; None for as many as there are.
    """
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    program = tl.program_id(0)
    batch = (program // (tiles_m * tiles_n)).to(tl.int64)
    tile_m, tile_n = grouped_tile(program % (tiles_m * tiles_n), tiles_m, tiles_n, GROUP_M)

    # Offsets are 64-bit: row times stride passes 2**31 in matrices that fit a GPU.
    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    m_inside = (m < M)[:, None]
    n_inside = (n < N)[None, :]
    a_tile = a_ptr + batch * stride_a_batch + m[:, None] * stride_am + k[None, :].to(tl.int64) * stride_ak
    b_tile = b_ptr + batch * stride_b_batch + k[:, None].to(tl.int64) * stride_bk + n[None, :] * stride_bn

    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=ACCUMULATOR)
    for k_start in range(0, K, BLOCK_K):
        k_inside = k < K - k_start
        a = load_tile(a_tile, m_inside, k_inside[None, :], EVEN_M, EVEN_K)
        b = load_tile(b_tile, k_inside[:, None], n_inside, EVEN_K, EVEN_N)
        accumulator = tl.dot(a, b, accumulator, max_num_imprecise_acc=IMPRECISE_TERMS, out_dtype=ACCUMULATOR)
        a_tile += BLOCK_K * stride_ak
        b_tile += BLOCK_K * stride_bk

    c = scaled(accumulator, scale_a_ptr, scale_b_ptr, batch, tile_m * BLOCK_M, tile_n * BLOCK_N, M, N, SCALING)
    c_tile = c_ptr + batch * stride_c_batch + m[:, None] * stride_cm + n[None, :]
    tl.store(c_tile, c.to(c_ptr.dtype.element_ty), mask=m_inside & n_inside)


AMPERE: Final[tuple[Tile, ...]] = (
    (128, 256, 64, 8, 4),
    (128, 256, 128, 8, 3),
    (256, 128, 64, 8, 4),
    (128, 128, 128, 8, 3),
    (128, 128, 64, 4, 4),
    (128, 64, 128, 4, 4),
    (64, 128, 128, 4, 4),
    (64, 64, 128, 4, 4),
    (32, 64, 128, 4, 4),
    (64, 32, 128, 4, 4),
    (16, 64, 128, 4, 5),
    (64, 16, 128, 4, 5),
)
HOPPER: Final[tuple[Tile, ...]] = (
    (128, 256, 128, 8, 3),
    (128, 256, 128, 8, 4),
    (256, 128, 128, 8, 3),
    (128, 128, 128, 8, 4),
    (128, 128, 128, 4, 3),
    (128, 64, 128, 4, 4),
    (64, 128, 128, 4, 4),
    (64, 64, 128, 4, 4),
    (64, 32, 128, 4, 5),
    (32, 64, 128, 4, 5),
    (64, 16, 128, 4, 5),
    (16, 64, 128, 4, 5),
)
"""From 64 rows on a tile is multiplied by Hopper's own instructions, below by Ampere's or, fp8 as fp16, by HMMA."""

HOPPER_PROMOTED: Final[tuple[Tile, ...]] = ((64, 256, 128, 8, 3), *HOPPER[2:])
"""Promotion holds a second accumulator: 128x256 tiles spill."""

BLACKWELL_FP8: Final[tuple[Tile, ...]] = tuple(tile for tile in HOPPER if tile[:2] != (256, 128))
"""256x128 tiles with scales by row spill. int8 Triton multiplies by Ampere's instructions there."""

UNALIGNED: Final[tuple[Tile, ...]] = (
    (128, 64, 64, 8, 3),
    (64, 64, 64, 8, 3),
    (64, 32, 64, 4, 3),
    (64, 16, 64, 4, 3),
    (16, 64, 64, 4, 3),
)
"""Where rows do not start at multiples of 16 bytes, Triton loads byte by byte through registers."""

ALIGNMENT: Final = 16


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    out_formats = ("int32",) if problem.dtype == "int8" else FP8_OUT_FORMATS
    refusal = format_refusal(problem, FORMATS, out_formats) or machine_refusal(problem, device)
    if refusal is not None:
        return refusal
    if problem.layout != "nt":
        return f"{problem.dtype} is multiplied only where both operands are contiguous along K: choose layout nt"
    if device.kind == "cuda" and problem.dtype != "int8" and (device.capability or (0, 0)) < (8, 9):
        return f"{device.name} has no fp8 tensor cores, which came with compute capability 8.9: choose int8 or bf16"
    return None


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """Tiles that fit the device's shared memory, in the order of `estimated_work`: the first is the default."""
    tiles = _tiles(problem, device)
    if device.kind == "cuda":  # an interpreter has no shared memory to run out of
        tiles = tuple(tile for tile in tiles if shared_bytes(tile) <= device.shared_memory_bytes)
    ordered = sorted(tiles, key=lambda tile: estimated_work(problem, device, tile))
    return [_config(problem, device, tile) for tile in ordered]


def _config(problem: Problem, device: Device, tile: Tile) -> Config:
    config: dict[str, ConfigValue] = dict(zip(TILE_NAMES, tile, strict=True))
    config["GROUP_M"] = best_group_m(problem, device, tile[0], tile[1])
    if problem.dtype != "int8":
        config["fast_accumulation"] = False
    return config


def shared_bytes(tile: Tile) -> int:
    """Shared memory of one block: a buffer of A and of B for each stage, and a few barriers."""
    return operand_buffer_bytes(tile, 1) + 32


def _tiles(problem: Problem, device: Device) -> tuple[Tile, ...]:
    if problem.k % ALIGNMENT:
        return UNALIGNED
    if device.capability == (9, 0):
        return HOPPER if problem.dtype == "int8" else HOPPER_PROMOTED
    newer = (device.capability or (0, 0)) > (9, 0) and problem.dtype != "int8"
    return BLACKWELL_FP8 if newer else AMPERE


def calls(problem: Problem, operands: Operands, config: Config, device: Device) -> Sequence[KernelCall]:
    """One launch of `tiled_8bit_gemm`: a program for each tile of each pair."""
    a, b, out = operands.a, operands.b, operands.out
    (a_batch, *a_strides), (b_batch, *b_strides), (c_batch, c_row, _) = (
        t.stride() if len(t.stride()) == 3 else (0, *t.stride()) for t in (a, b, out)
    )
    meta: dict[str, Any] = dict(config)
    fast = bool(meta.pop("fast_accumulation", True))
    block_m, block_n, block_k = (int(config[name]) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    meta |= {
        "EVEN_M": problem.m % block_m == 0,
        "EVEN_N": problem.n % block_n == 0,
        "EVEN_K": problem.k % block_k == 0,
        "SCALING": _scaling(operands),
        "ACCUMULATOR": tl.int32 if problem.dtype == "int8" else tl.float32,
        "IMPRECISE_TERMS": None if fast else min(PROMOTION_INTERVAL, block_k),
        "enable_fp_fusion": True,  # Triton 3.10 changes the default, and 3.9 warns of it
    }
    sizes = (problem.m, problem.n, problem.k)
    strides = (a_batch, *a_strides, b_batch, *b_strides, c_batch, c_row)
    positional = (a, b, out, operands.scale_a, operands.scale_b, *sizes, *strides)
    return (KernelCall(tiled_8bit_gemm, (tile_count(problem, block_m, block_n),), positional, meta),)


def _scaling(operands: Operands) -> str:
    if operands.scale_a is None:
        return "none"
    return "tensor" if len(operands.scale_a.shape) == 1 else "row"


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher on the current CUDA device and stream; the first launch compiles, a second or so."""
    return launcher(calls, problem, config, device)
