"""The kernel of `gluon-persistent`, in Gluon, Triton's dialect in which warps, barriers and copies are written out.

Importing this raises ImportError or AttributeError where Triton is older than 3.6 or has renamed what it uses.

One block a SM, alive for the whole GEMM, made of three partitions. A loader, one warp, fetches K tiles of A and B with
TMA into a ring of STAGES buffers; two consumers, a warp group each, multiply them. Stage s of the ring has two
barriers: `full[s]` completes when the bytes of both tiles have landed, `empty[s]` when all that read them are done. The
k-th K tile that a block loads in its life, its *step*, lies in stage k % STAGES, on the (k // STAGES)-th use of it, and
the parity of that is the phase to wait for. Loader and consumers count steps on their own; nothing else is shared.

Cooperative consumers take the upper and the lower half of every tile of C. Alternating ones take whole tiles in turn,
so that one stores its tile while the other multiplies. A phase's parity tells a consumer nothing of a stage that has
been used twice since it last looked, so that it waits, at `my_turn`, until the other has seen all its operands land.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from triton.experimental import gluon
from triton.experimental.gluon import language as gl
from triton.experimental.gluon.language.nvidia.hopper import (
    fence_async_shared,
    mbarrier,
    tma,
    warpgroup_mma,
    warpgroup_mma_wait,
)
from triton.experimental.gluon.nvidia.hopper import TensorDescriptor

from gemmkernels import triton_tiles

CONSUMERS: Final = gl.constexpr(2)
WARPS_PER_CONSUMER: Final = gl.constexpr(4)
CONSUMER_REGISTERS: Final = gl.constexpr(240)
LOADER_REGISTERS: Final = gl.constexpr(24)
"""Of each thread. The loader's warp group has three idle warps: 128 · (240 + 240 + 24) of the 65536 that a SM has."""

grouped_tile = gluon.jit(triton_tiles.grouped_tile.fn)

# Triton 3.8 renamed both copies, and 3.9 took the old names out of use.
tma_load = getattr(tma, "async_load", None) or tma.async_copy_global_to_shared
tma_store = getattr(tma, "async_store", None) or tma.async_copy_shared_to_global

ELEMENTS: Final = {"bf16": gl.bfloat16, "fp16": gl.float16, "fp32": gl.float32, "fp8_e4m3": gl.float8e4nv}


def describe(matrix: Any, dtype: str, block: tuple[int, int], transposed: bool = False) -> Any:
    """TMA's descriptor of a matrix that is given as its logical view, and of the block that one copy moves.

    `transposed`: the view is the transpose of what lies in memory, and so will the block be. Raises AssertionError
    where rows do not start at multiples of 16 bytes.
    """
    order = -1 if transposed else 1
    stored_block = list(block[::order])
    layout = shared_layout(tuple(stored_block), dtype)
    return TensorDescriptor(matrix, list(matrix.shape[::order]), list(matrix.stride()[::order]), stored_block, layout)


@cache
def shared_layout(block: tuple[int, ...], dtype: str) -> Any:
    """How TMA lays a block out in shared memory: swizzled as wide as it is."""
    return gl.NVMMASharedLayout.get_default_for(list(block), ELEMENTS[dtype])


@gluon.constexpr_function  # type: ignore[untyped-decorator]
def c_buffers_each(subtiles: int) -> int:
    """Staging buffers of a consumer: one is stored while the next is filled, where there is more than one to fill."""
    return min(2, subtiles)


@gluon.jit  # type: ignore[untyped-decorator]
def load_operands(  # type: ignore[no-untyped-def]
    a_desc,
    b_desc,
    a_ring,
    b_ring,
    full,
    empty,
    M,
    N,
    K,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr,
    GROUP_M: gl.constexpr,
    STAGES: gl.constexpr,
    PARTS: gl.constexpr,
    TRANSPOSED_A: gl.constexpr,
    TRANSPOSED_B: gl.constexpr,
):
    """The loader: each K tile of each of this block's tiles of C, as soon as its stage is empty."""
    tiles_m = gl.cdiv(M, BLOCK_M)
    tiles_n = gl.cdiv(N, BLOCK_N)
    step = 0
    for tile in range(gl.program_id(0), tiles_m * tiles_n, gl.num_programs(0)):
        tile_m, tile_n = grouped_tile(tile, tiles_m, tiles_n, GROUP_M)
        for k in range(0, K, BLOCK_K):
            stage = step % STAGES
            # A new barrier counts as having completed phase 1: the first round waits for nothing.
            mbarrier.wait(empty.index(stage), (step // STAGES + 1) % 2)
            landed = full.index(stage)
            mbarrier.expect(landed, PARTS * a_desc.block_type.nbytes + b_desc.block_type.nbytes)
            for part in gl.static_range(PARTS):
                row = tile_m * BLOCK_M + part * (BLOCK_M // PARTS)
                if TRANSPOSED_A:
                    tma_load(a_desc, [k, row], landed, a_ring.index(stage * PARTS + part))
                else:
                    tma_load(a_desc, [row, k], landed, a_ring.index(stage * PARTS + part))
            column = tile_n * BLOCK_N
            if TRANSPOSED_B:
                tma_load(b_desc, [column, k], landed, b_ring.index(stage))
            else:
                tma_load(b_desc, [k, column], landed, b_ring.index(stage))
            step += 1


@gluon.jit  # type: ignore[untyped-decorator]
def split_columns(x, PIECES: gl.constexpr):  # type: ignore[no-untyped-def]
    """`x` cut into PIECES (a power of two) of equal width, left to right, as a tuple."""
    if PIECES == 1:
        return (x,)
    else:
        left, right = x.reshape([x.shape[0], 2, x.shape[1] // 2]).permute(0, 2, 1).split()
        return split_columns(left, PIECES // 2) + split_columns(right, PIECES // 2)


@gluon.jit  # type: ignore[untyped-decorator]
def rescaled(x, row, column, M, N, scale_a_ptr, scale_b_ptr, SCALING: gl.constexpr):  # type: ignore[no-untyped-def]
    """`x`, whose first element is C[row, column], times the factor of A and that of B: of the tensor, or of the row."""
    if SCALING == "tensor":
        return x * (gl.load(scale_a_ptr) * gl.load(scale_b_ptr))
    else:
        rows = row + gl.arange(0, x.shape[0], gl.SliceLayout(1, x.type.layout))
        columns = column + gl.arange(0, x.shape[1], gl.SliceLayout(0, x.type.layout))
        scale_a = gl.load(scale_a_ptr + rows, mask=rows < M, other=0.0)
        scale_b = gl.load(scale_b_ptr + columns, mask=columns < N, other=0.0)
        return x * scale_a[:, None] * scale_b[None, :]


@gluon.jit  # type: ignore[untyped-decorator]
def multiply(  # type: ignore[no-untyped-def]
    RANK: gl.constexpr,
    c_desc,
    c_buffers,
    scale_a_ptr,
    scale_b_ptr,
    a_ring,
    b_ring,
    full,
    empty,
    my_turn,
    M,
    N,
    K,
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr,
    GROUP_M: gl.constexpr,
    STAGES: gl.constexpr,
    PARTS: gl.constexpr,
    TRANSPOSED_A: gl.constexpr,
    TRANSPOSED_B: gl.constexpr,
    EPILOGUE_SUBTILE: gl.constexpr,
    SCALING: gl.constexpr,
    PROMOTED: gl.constexpr,
):
    """Consumer RANK: multiplies and stores its half of each tile of C, or the whole of each second one."""
    # Of CONSUMERS warp groups, PARTS share a tile, and so many take turns:
    TURNS: gl.constexpr = CONSUMERS // PARTS
    TURN: gl.constexpr = RANK // PARTS
    PART: gl.constexpr = RANK % PARTS
    ROWS: gl.constexpr = BLOCK_M // PARTS
    layout: gl.constexpr = gl.NVMMADistributedLayout(
        version=[3, 0], warps_per_cta=[4, 1], instr_shape=[16, BLOCK_N, 256 // a_ring.dtype.primitive_bitwidth]
    )
    BUFFERS: gl.constexpr = c_buffers.shape[0] // CONSUMERS
    tiles_m = gl.cdiv(M, BLOCK_M)
    tiles_n = gl.cdiv(N, BLOCK_N)
    k_tiles = gl.cdiv(K, BLOCK_K)

    step = TURN * k_tiles
    turns_taken = 0
    first = gl.program_id(0) + TURN * gl.num_programs(0)
    for tile in range(first, tiles_m * tiles_n, TURNS * gl.num_programs(0)):
        if TURNS > 1:
            mbarrier.wait(my_turn.index(TURN), (turns_taken + 1 - TURN) % 2)
            turns_taken += 1
        accumulator = gl.zeros([ROWS, BLOCK_N], gl.float32, layout)
        for k_tile in range(k_tiles):
            stage = step % STAGES
            mbarrier.wait(full.index(stage), step // STAGES % 2)
            a = a_ring.index(stage * PARTS + PART)
            b = b_ring.index(stage)
            if TRANSPOSED_A:
                a = a.permute((1, 0))
            if TRANSPOSED_B:
                b = b.permute((1, 0))
            if PROMOTED:
                partial = warpgroup_mma(a, b, gl.zeros_like(accumulator), use_acc=False, is_async=True)
                partial = warpgroup_mma_wait(0, deps=[partial])
                mbarrier.arrive(empty.index(stage), count=1)
                accumulator += partial
            else:
                accumulator = warpgroup_mma(a, b, accumulator, is_async=True)
                # This product stays under way; the one before has now read its operands.
                accumulator = warpgroup_mma_wait(1, deps=[accumulator])
                mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1, pred=k_tile > 0)
            step += 1
        if TURNS > 1:
            mbarrier.arrive(my_turn.index(1 - TURN), count=1)
        if not PROMOTED:
            accumulator = warpgroup_mma_wait(0, deps=[accumulator])
            mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1)
        step += (TURNS - 1) * k_tiles

        tile_m, tile_n = grouped_tile(tile, tiles_m, tiles_n, GROUP_M)
        row = tile_m * BLOCK_M + PART * ROWS
        subtiles = split_columns(accumulator, EPILOGUE_SUBTILE)
        for subtile in gl.static_range(EPILOGUE_SUBTILE):
            column = tile_n * BLOCK_N + subtile * (BLOCK_N // EPILOGUE_SUBTILE)
            c = subtiles[subtile]
            if SCALING != "none":
                c = rescaled(c, row, column, M, N, scale_a_ptr, scale_b_ptr, SCALING)
            buffer = c_buffers.index(RANK * BUFFERS + subtile % BUFFERS)
            # The copy that last left this buffer has read it, though a later one may still be under way.
            tma.store_wait(BUFFERS - 1)
            buffer.store(c.to(c_desc.dtype))
            fence_async_shared()
            tma_store(c_desc, [row, column], buffer)
    tma.store_wait(0)


@gluon.jit  # type: ignore[untyped-decorator]
def persistent_gemm(  # type: ignore[no-untyped-def]
    # TMA descriptors of A, B and C as they lie in memory; a block is what one copy moves.
    a_desc,
    b_desc,
    c_desc,
    # fp32 factors of A and B, or anything where SCALING is "none".
    scale_a_ptr,
    scale_b_ptr,
    # Sizes.
    M,
    N,
    K,
    # Meta.
    BLOCK_M: gl.constexpr,
    BLOCK_N: gl.constexpr,
    BLOCK_K: gl.constexpr,
    GROUP_M: gl.constexpr,
    STAGES: gl.constexpr,
    PARTS: gl.constexpr,
    TRANSPOSED_A: gl.constexpr,
    TRANSPOSED_B: gl.constexpr,
    EPILOGUE_SUBTILE: gl.constexpr,
    SCALING: gl.constexpr,
    PROMOTED: gl.constexpr,
):
    """C = A @ B, accumulated in fp32.

    PARTS: 2 for cooperative consumers, 1 for alternating ones. PROMOTED: the tensor cores sum each K tile from zero,
    and the sums are added up outside.
    """
    # A stage is released when the next one is being multiplied.
    gl.static_assert(STAGES >= 2)
    BUFFERS: gl.constexpr = c_buffers_each(EPILOGUE_SUBTILE)
    # Gluon knows no starred lists.
    a_ring = gl.allocate_shared_memory(a_desc.dtype, [STAGES * PARTS] + a_desc.block_type.shape, a_desc.layout)  # noqa: RUF005
    b_ring = gl.allocate_shared_memory(b_desc.dtype, [STAGES] + b_desc.block_type.shape, b_desc.layout)  # noqa: RUF005
    c_buffers = gl.allocate_shared_memory(c_desc.dtype, [CONSUMERS * BUFFERS] + c_desc.block_type.shape, c_desc.layout)  # noqa: RUF005
    full = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    empty = gl.allocate_shared_memory(gl.int64, [STAGES, 1], mbarrier.MBarrierLayout())
    my_turn = gl.allocate_shared_memory(gl.int64, [CONSUMERS, 1], mbarrier.MBarrierLayout())
    for stage in gl.static_range(STAGES):
        mbarrier.init(full.index(stage), count=1)
        mbarrier.init(empty.index(stage), count=PARTS)
    for consumer in gl.static_range(CONSUMERS):
        mbarrier.init(my_turn.index(consumer), count=1)
    fence_async_shared()

    # fmt: off
    gl.warp_specialize(
        [
            (multiply, (
                0, c_desc, c_buffers, scale_a_ptr, scale_b_ptr, a_ring, b_ring, full, empty, my_turn, M, N, K,
                BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M, STAGES, PARTS, TRANSPOSED_A, TRANSPOSED_B,
                EPILOGUE_SUBTILE, SCALING, PROMOTED,
            )),
            (multiply, (
                1, c_desc, c_buffers, scale_a_ptr, scale_b_ptr, a_ring, b_ring, full, empty, my_turn, M, N, K,
                BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M, STAGES, PARTS, TRANSPOSED_A, TRANSPOSED_B,
                EPILOGUE_SUBTILE, SCALING, PROMOTED,
            )),
            (load_operands, (
                a_desc, b_desc, a_ring, b_ring, full, empty, M, N, K,
                BLOCK_M, BLOCK_N, BLOCK_K, GROUP_M, STAGES, PARTS, TRANSPOSED_A, TRANSPOSED_B,
            )),
        ],
        [WARPS_PER_CONSUMER, 1],
        [CONSUMER_REGISTERS, LOADER_REGISTERS],
    )
    # fmt: on
