"""Backend `triton-persistent`: one program an SM takes tile after tile, operands by TMA: the kernel for Hopper.

TMA, the copy engine of sm_90 and later, moves whole tiles by descriptor: no address arithmetic and no registers for it
in the loop, edges filled with zeros and clipped by hardware. A program goes on to its next tile while it stores the
last, since the loops over tiles and over K are flattened into one pipeline. Descriptors are made on the host and passed
as kernel parameters: ones made on the device need a workspace that Triton allocates at each launch.

FLOP: 2·M·N·K. Bytes from L2 to the SMs: M·N·K·element·(1/BLOCK_M + 1/BLOCK_N); from memory: `tile_order`. Published for
this kind on an H100: fp8 8192x8192x4096 at 105 % of cuBLAS (github.com/triton-lang/triton/pull/5461).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import DTYPE_BYTES, Problem
from gemmkernels.tile_order import best_group_m
from gemmkernels.tiling import BARRIER_BYTES, TILE_NAMES, Tile, estimated_work, operand_buffer_bytes, tile_count
from gemmkernels.triton_call import (
    KernelCall,
    format_refusal,
    imprecise_terms,
    launcher,
    layout_refusal,
    machine_refusal,
    scaling_of,
    tma_refusal,
)
from gemmkernels.triton_tiles import grouped_tile, scaled

SUMMARY = "Triton, one program an SM, operands by TMA descriptors: sm_90 and later"

FORMATS: Final = ("bf16", "fp16", "tf32", "fp8_e4m3", "fp8_e5m2", "int8")
OUT_FORMATS: Final = ("bf16", "fp16", "fp32")


@triton.jit  # type: ignore[untyped-decorator]
def load_block(descriptor, batch, row, column, TRANSPOSED: tl.constexpr, BATCHED: tl.constexpr):  # type: ignore[no-untyped-def]
    """A tile of A or B, zero outside the matrix; the descriptor is of what lies in memory, TRANSPOSED or not."""
    if TRANSPOSED:
        return load_block(descriptor, batch, column, row, False, BATCHED).T
    elif BATCHED:
        return descriptor.load([batch, row, column]).reshape(descriptor.block_shape[1], descriptor.block_shape[2])
    else:
        return descriptor.load([row, column])


@triton.jit  # type: ignore[untyped-decorator]
def store_block(descriptor, batch, row, column, block, BATCHED: tl.constexpr):  # type: ignore[no-untyped-def]
    """Write a tile, clipped to the matrix, rounded to its format."""
    block = block.to(descriptor.dtype)
    if BATCHED:
        descriptor.store([batch, row, column], block.reshape(1, block.shape[0], block.shape[1]))
    else:
        descriptor.store([row, column], block)


@triton.jit  # type: ignore[untyped-decorator]
def persistent_gemm(  # type: ignore[no-untyped-def]
    # Descriptors of A, B and C as they lie in memory, each with a leading batch dimension where BATCHED.
    a_desc,
    b_desc,
    c_desc,
    # Pointers: fp32 factors, contiguous; None without SCALING.
    scale_a_ptr,
    scale_b_ptr,
    # Sizes.
    M,
    N,
    K,
    batches,
    # Meta.
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EPILOGUE_SUBTILE: tl.constexpr,
    TRANSPOSED_A: tl.constexpr,
    TRANSPOSED_B: tl.constexpr,
    BATCHED: tl.constexpr,
    SCALING: tl.constexpr,
    ACCUMULATOR: tl.constexpr,
    IMPRECISE_TERMS: tl.constexpr,
):
    """C = A @ B in tiles of C; program p computes every `tl.num_programs(0)`-th, from p on.

    IMPRECISE_TERMS: how many fp8 products Hopper may sum before promotion; None for as many as there are.
    """
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    tiles = tiles_m * tiles_n
    for index in tl.range(tl.program_id(0), tiles * batches, tl.num_programs(0), flatten=True):
        batch = index // tiles
        tile_m, tile_n = grouped_tile(index % tiles, tiles_m, tiles_n, GROUP_M)
        m = tile_m * BLOCK_M
        n = tile_n * BLOCK_N

        accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=ACCUMULATOR)
        for step in range(tl.cdiv(K, BLOCK_K)):
            k = step * BLOCK_K
            a = load_block(a_desc, batch, m, k, TRANSPOSED_A, BATCHED)
            b = load_block(b_desc, batch, k, n, TRANSPOSED_B, BATCHED)
            accumulator = tl.dot(
                a,
                b,
                accumulator,
                input_precision="tf32",
                max_num_imprecise_acc=IMPRECISE_TERMS,
                out_dtype=ACCUMULATOR,
            )

        # In halves, C's tile takes half the shared memory: enough for one more stage of A and B.
        if EPILOGUE_SUBTILE == 2:
            left, right = tl.split(accumulator.reshape(BLOCK_M, 2, BLOCK_N // 2).permute(0, 2, 1))
            left = scaled(left, scale_a_ptr, scale_b_ptr, batch, m, n, M, N, SCALING)
            store_block(c_desc, batch, m, n, left, BATCHED)
            n += BLOCK_N // 2
            right = scaled(right, scale_a_ptr, scale_b_ptr, batch, m, n, M, N, SCALING)
            store_block(c_desc, batch, m, n, right, BATCHED)
        else:
            c = scaled(accumulator, scale_a_ptr, scale_b_ptr, batch, m, n, M, N, SCALING)
            store_block(c_desc, batch, m, n, c, BATCHED)


Candidate = tuple[int, int, int, int, int, int]
"""A `Tile` and EPILOGUE_SUBTILE."""

CANDIDATES: Final[tuple[Candidate, ...]] = (
    (128, 256, 64, 8, 3, 1),
    (128, 256, 64, 8, 4, 2),
    (128, 256, 64, 8, 3, 2),
    (256, 128, 64, 8, 3, 1),
    (256, 128, 64, 8, 4, 2),
    (256, 128, 64, 8, 3, 2),
    (128, 128, 64, 8, 4, 1),
    (128, 128, 64, 4, 4, 1),
    (128, 128, 64, 8, 6, 2),
    (128, 64, 64, 4, 5, 1),
    (64, 128, 64, 4, 5, 1),
    (64, 64, 64, 4, 6, 1),
    (64, 32, 64, 4, 6, 1),
    (64, 16, 64, 4, 6, 1),
)
"""For 2-byte elements. BLOCK_K is 128 bytes of any format, the widest row that TMA swizzles. Not below 64 rows, which
would be multiplied by Ampere's instructions; 256x256 tiles, and 128x256 ones on 4 warps, spill."""

PROMOTED: Final[tuple[Candidate, ...]] = (
    (64, 256, 64, 8, 4, 1),
    *(candidate for candidate in CANDIDATES if candidate[:2] != (128, 256)),
)
"""For fp8 on Hopper, where the sum of each K tile is added to an fp32 accumulator outside the tensor cores: two of them
for 128x256 tiles spill, for 256x128 ones do not."""

BLOCK_K_BYTES: Final = 128


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    out_formats = ("int32",) if problem.dtype == "int8" else OUT_FORMATS
    return (
        machine_refusal(problem, device)
        or _hardware_refusal(device)
        or format_refusal(problem, FORMATS, out_formats)
        or layout_refusal(problem)
        or tma_refusal(problem)
    )


def _hardware_refusal(device: Device) -> str | None:
    if device.kind == "cpu" or (device.capability or (0, 0)) >= (9, 0):
        return None
    return (
        f"{device.name} has no TMA, which came with compute capability 9.0, and descriptors become unpipelined "
        "pointer code there: choose triton-tiled or triton-tiled-8bit"
    )


def configs(problem: Problem, device: Device, fast_accumulation: bool = False) -> Sequence[Config]:
    """Tiles that fit the device's shared memory, in the order of `estimated_work`: the first is the default.

    NUM_SMS is the number of programs: fewer than the device's SMs spends less power where memory is the limit.
    fast_accumulation: whether Hopper may sum all fp8 products in its tensor cores, which keep about 13 fraction bits.
    """
    fp8 = problem.dtype.startswith("fp8")
    promoted = fp8 and device.capability == (9, 0) and not fast_accumulation
    block_k = BLOCK_K_BYTES // DTYPE_BYTES[problem.dtype]
    fitting = []
    for block_m, block_n, _, warps, stages, subtile in PROMOTED if promoted else CANDIDATES:
        tile = (block_m, block_n, block_k, warps, stages)
        # An interpreter has no shared memory to run out of.
        if device.kind == "cpu" or shared_bytes(problem, device, tile, subtile) <= device.shared_memory_bytes:
            fitting.append((tile, subtile))
    fitting.sort(key=lambda candidate: estimated_work(problem, device, candidate[0]))
    return [
        dict(
            zip(TILE_NAMES, tile, strict=True),
            EPILOGUE_SUBTILE=subtile,
            GROUP_M=best_group_m(problem, device, tile[0], tile[1]),
            NUM_SMS=max(1, device.sm_count),
            **({"fast_accumulation": fast_accumulation} if fp8 else {}),
        )
        for tile, subtile in fitting
    ]


def shared_bytes(problem: Problem, device: Device, tile: Tile, subtile: int) -> int:
    """The most shared memory that one block is compiled to: buffers of A and B, C's tile, barriers, and scratch.

    Scratch: row factors change layout there. On Blackwell so do the accumulator's halves where they are stored in
    4 bytes, and tf32 operands that are not contiguous along K are turned round, two tiles at a time.
    """
    block_m, block_n, block_k, *_ = tile
    element_bytes, c_element_bytes = DTYPE_BYTES[problem.dtype], DTYPE_BYTES[problem.out_dtype]
    c_bytes = block_m * block_n // subtile * c_element_bytes
    scratch = 4 * max(block_m, block_n) if problem.scaling == "row" else 0
    if device.capability is not None and device.capability >= (10, 0):
        if subtile == 2 and c_element_bytes == 4:
            scratch += c_bytes
        if problem.dtype == "tf32":
            turned = (problem.layout[0] == "t") * block_m + (problem.layout[1] == "n") * block_n
            scratch += 2 * turned * block_k * element_bytes
    return operand_buffer_bytes(tile, element_bytes) + c_bytes + scratch + BARRIER_BYTES


def calls(problem: Problem, operands: Operands, config: Config, device: Device) -> Sequence[KernelCall]:
    """One launch of `persistent_gemm`: NUM_SMS programs, or one for each tile where there are fewer."""
    meta: dict[str, Any] = {
        name: value for name, value in config.items() if name not in ("NUM_SMS", "fast_accumulation")
    }
    block_m, block_n, block_k, subtile = (
        int(config[name]) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K", "EPILOGUE_SUBTILE")
    )
    transposed = [letter == "t" for letter in problem.layout]
    a = _descriptor(operands.a, transposed[0], (block_m, block_k))
    b = _descriptor(operands.b, transposed[1], (block_k, block_n))
    c = _descriptor(operands.out, False, (block_m, block_n // subtile))
    meta |= {
        "TRANSPOSED_A": transposed[0],
        "TRANSPOSED_B": transposed[1],
        "BATCHED": problem.batch > 1,
        "SCALING": scaling_of(operands),
        "ACCUMULATOR": tl.int32 if problem.dtype == "int8" else tl.float32,
        "IMPRECISE_TERMS": imprecise_terms(config),
        "enable_fp_fusion": True,  # Triton 3.10 changes the default, and 3.9 warns of it
    }
    grid = (min(int(config["NUM_SMS"]), tile_count(problem, block_m, block_n)),)
    sizes = (problem.m, problem.n, problem.k, problem.batch)
    positional = (a, b, c, operands.scale_a, operands.scale_b, *sizes)
    return (KernelCall(persistent_gemm, grid, positional, meta),)


def _descriptor(matrix: Any, transposed: bool, block: tuple[int, int]) -> TensorDescriptor:
    """Of a matrix, or of a batch, as it lies in memory; `block`: the tile in the logical view."""
    shape, strides, sides = (
        [*values[:-2], *(values[-2:][::-1] if transposed else values[-2:])]
        for values in (matrix.shape, matrix.stride(), (1,) * (len(matrix.shape) - 2) + block)
    )
    return TensorDescriptor(matrix, shape, strides, sides)


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher on the current CUDA device and stream; the first launch compiles, a second or so."""
    return launcher(calls, problem, config, device)
