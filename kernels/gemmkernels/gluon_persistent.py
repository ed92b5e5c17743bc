"""Backend `gluon-persistent`: one block a SM for the whole GEMM, one warp loading, two warp groups multiplying: Hopper.

What each of them does, and how they stay in step, is told in `gluon_kernel`. Loads never wait for the stores of a tile,
nor for its scaling: while it is stored the ring fills with operands of the next.

fp8: Hopper's tensor cores keep about 14 bits of a sum (DeepSeek-V3, arXiv 2412.19437, section 3.3). Unless
`fast_accumulation`, each K tile of 128 terms is summed on its own and added in fp32: to be compared with `torch-fp8`.

FLOP: 2·M·N·K. Bytes from L2 to the SMs: M·N·K·element·(1/BLOCK_M + 1/BLOCK_N); from memory: `tile_order`. Published
for the like on an H100, against cuBLAS: persistent in Gluon without warp specialisation 92-102 % (fp16 8192²×K,
triton-lang/triton, python/tutorials/gluon/07-persistence.py); warp-specialised and persistent in another dialect 97 %
(github.com/facebookexperimental/triton/pull/1037).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import DTYPE_BYTES, Problem
from gemmkernels.tile_order import best_group_m
from gemmkernels.tiling import tile_cost, tile_count
from gemmkernels.triton_call import (
    KernelCall,
    format_refusal,
    launcher,
    layout_refusal,
    tma_refusal,
)

try:
    from gemmkernels import gluon_kernel

    GLUON_MISSING = ""
except (ImportError, AttributeError) as missing:
    GLUON_MISSING = str(missing)

SUMMARY = "Gluon, persistent: a TMA loader warp beside two multiplying warp groups: sm_90 only"

FORMATS: Final = ("bf16", "fp16", "fp8_e4m3")
OUT_FORMATS: Final = ("bf16", "fp16", "fp32")

BLOCK_K_BYTES: Final = 128
"""Depth of a K tile: what one row of the widest swizzle holds."""


class Tile(NamedTuple):
    """Tile of C, buffers of the ring, whether both warp groups share a tile, and the pieces it is stored in."""

    block_m: int
    block_n: int
    stages: int
    cooperative: bool
    epilogue_subtile: int


TILES: Final = (
    Tile(128, 256, 4, True, 4),
    Tile(128, 256, 3, True, 2),
    Tile(128, 256, 3, True, 4),
    Tile(256, 128, 4, True, 4),
    Tile(256, 128, 3, True, 4),
    Tile(128, 128, 6, True, 2),
    Tile(128, 128, 4, True, 2),
    Tile(128, 128, 5, False, 2),
    Tile(128, 128, 4, False, 4),
    Tile(64, 256, 4, False, 4),
    Tile(128, 64, 6, False, 1),
    Tile(64, 128, 6, False, 2),
    Tile(64, 64, 8, False, 1),
)
"""64 rows and columns a warp group at least, 64x256 or 128x128 at most: 128 accumulators a thread."""

PROMOTED_TILES: Final = (
    Tile(128, 128, 6, True, 2),
    Tile(128, 128, 4, True, 2),
    Tile(256, 64, 4, True, 2),
    Tile(128, 64, 8, True, 1),
    Tile(128, 64, 4, True, 1),
)
"""For fp8 without fast accumulation, whose partial sums take as many registers again. Both warp groups share a tile, so
that one multiplies while the other adds up."""

SHARED_OVERHEAD_BYTES: Final = 512
"""Barriers, and what the block tells its warps: 200 to 280 bytes as compiled."""


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    return (
        _machine_refusal(device)
        or format_refusal(problem, FORMATS, OUT_FORMATS)
        or layout_refusal(problem)
        or _batch_refusal(problem)
        or tma_refusal(problem)
    )


def _machine_refusal(device: Device) -> str | None:
    if GLUON_MISSING:
        return f"this kernel needs Gluon as in Triton 3.6 to 3.9: choose backend triton-persistent ({GLUON_MISSING})"
    if device.kind != "cuda":
        return "Gluon neither compiles for a CPU nor has an interpreter: choose backend torch"
    if device.capability != (9, 0):
        return (
            f"{device.name} has no wgmma, which compute capability 9.0 alone has: "
            "choose backend triton-tiled or triton-tiled-8bit"
        )
    return None


def _batch_refusal(problem: Problem) -> str | None:
    if problem.batch > 1:
        return "this kernel multiplies a single pair of matrices: choose backend triton-persistent for a batch"
    return None


def configs(problem: Problem, device: Device, fast_accumulation: bool = False) -> Sequence[Config]:
    """Tiles that fit the device's shared memory, in the order of `estimated_work`: the first is the default.

    NUM_SMS is the number of blocks: fewer than the device's SMs spends less power where memory is the limit.
    fast_accumulation: of fp8; without it tiles are smaller, to hold two accumulators.
    """
    fp8 = problem.dtype.startswith("fp8")
    tiles = PROMOTED_TILES if fp8 and not fast_accumulation else TILES
    fitting = [tile for tile in tiles if shared_bytes(tile, problem.out_dtype) <= device.shared_memory_bytes]
    return [
        {
            "BLOCK_M": tile.block_m,
            "BLOCK_N": tile.block_n,
            "BLOCK_K": BLOCK_K_BYTES // DTYPE_BYTES[problem.dtype],
            "num_stages": tile.stages,
            "COOPERATIVE": tile.cooperative,
            "EPILOGUE_SUBTILE": tile.epilogue_subtile,
            "GROUP_M": best_group_m(problem, device, tile.block_m, tile.block_n),
            "NUM_SMS": max(1, device.sm_count),
            **({"fast_accumulation": fast_accumulation} if fp8 else {}),
        }
        for tile in sorted(fitting, key=lambda tile: estimated_work(problem, device, tile))
    ]


def shared_bytes(tile: Tile, out_dtype: str) -> int:
    """Shared memory of one block: the ring, and each warp group's buffers for C on its way out."""
    ring = tile.stages * (tile.block_m + tile.block_n) * BLOCK_K_BYTES
    rows_in_flight = tile.block_m if tile.cooperative else 2 * tile.block_m
    columns_in_flight = tile.block_n * min(2, tile.epilogue_subtile) // tile.epilogue_subtile
    return ring + rows_in_flight * columns_in_flight * DTYPE_BYTES[out_dtype] + SHARED_OVERHEAD_BYTES


def estimated_work(problem: Problem, device: Device, tile: Tile) -> int:
    """Relative time of `problem` in such tiles: waves of tiles over the SMs, times the cost of one.

    Warp groups that alternate multiply two tiles at half the speed each: as if one after the other.
    """
    waves = -(-tile_count(problem, tile.block_m, tile.block_n) // max(1, device.sm_count))
    return waves * tile_cost(tile.block_m, tile.block_n)


def calls(problem: Problem, operands: Operands, config: Config, device: Device) -> Sequence[KernelCall]:
    """One launch of `persistent_gemm`: NUM_SMS blocks, or one a tile where there are fewer."""
    block_m, block_n, block_k = (int(config[name]) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    parts = 2 if config["COOPERATIVE"] else 1
    subtile = int(config["EPILOGUE_SUBTILE"])
    a_transposed, b_transposed = (letter == "t" for letter in problem.layout)
    describe = gluon_kernel.describe
    descriptors = (
        describe(operands.a, problem.dtype, (block_m // parts, block_k), a_transposed),
        describe(operands.b, problem.dtype, (block_k, block_n), b_transposed),
        describe(operands.out, problem.out_dtype, (block_m // parts, block_n // subtile)),
    )
    fp8 = problem.dtype.startswith("fp8")
    meta = {
        "BLOCK_M": block_m,
        "BLOCK_N": block_n,
        "BLOCK_K": block_k,
        "GROUP_M": config["GROUP_M"],
        "STAGES": config["num_stages"],
        "PARTS": parts,
        "TRANSPOSED_A": a_transposed,
        "TRANSPOSED_B": b_transposed,
        "EPILOGUE_SUBTILE": subtile,
        "SCALING": (problem.scaling or "tensor") if fp8 else "none",
        "PROMOTED": fp8 and not config.get("fast_accumulation", False),
        "num_warps": 4,  # of the first consumer, from which the other partitions are counted
        "enable_fp_fusion": True,  # Triton 3.10 changes the default, and 3.9 warns of it
    }
    grid = (min(int(config["NUM_SMS"]), tile_count(problem, block_m, block_n)),)
    sizes = (problem.m, problem.n, problem.k)
    positional = (*descriptors, operands.scale_a, operands.scale_b, *sizes)
    return (KernelCall(gluon_kernel.persistent_gemm, grid, positional, meta),)


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher on the current CUDA device and stream; the first launch compiles, a few seconds."""
    return launcher(calls, problem, config, device)
