"""Backend `triton-splitk`: K divided among programs, for outputs of fewer tiles than the GPU has SMs.

Each of SPLIT_K programs a tile multiplies its own part of K. REDUCTION "workspace": the parts go to an fp32 workspace
that a second kernel sums in a fixed order, so that results repeat bit for bit. "atomic": C, fp32, is set to zero by a
first kernel and then added to, in whichever order the parts arrive. Operands come through pointer tiles: any strides,
sm_80 and later. With SWAP_AB the tiles are those of C^T = B^T A^T, for C of few rows: tensor cores from Hopper on take
64 rows at a time, but as few as 8 columns.

FLOP: 2·M·N·K, and M·N·SPLIT_K to sum. Bytes: those of A, B and C, and 8·M·N·SPLIT_K to and from the workspace, most of
which stay in L2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import torch
import triton
import triton.language as tl
from triton.runtime.jit import MockTensor

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import Problem
from gemmkernels.tile_order import best_group_m
from gemmkernels.tiling import TILE_NAMES, Tile, tile_cost, tile_count
from gemmkernels.triton_call import KernelCall, evenness, format_refusal, launcher, machine_refusal, strides_of
from gemmkernels.triton_tiled import fitting_tiles, rows_are_aligned
from gemmkernels.triton_tiles import grouped_tile, multiply_along_k

SUMMARY = "Triton, K divided among programs, for outputs of few tiles: sm_80 and later"

FORMATS: Final = ("bf16", "fp16", "tf32", "fp32")
OUT_FORMATS: Final = ("bf16", "fp16", "fp32")


@triton.jit  # type: ignore[untyped-decorator]
def splitk_gemm(  # type: ignore[no-untyped-def]
    # Pointers: first element of A [batch, M, K], B [batch, K, N], and of the target: C or the workspace.
    a_ptr,
    b_ptr,
    target_ptr,
    # Sizes.
    M,
    N,
    K,
    batches,
    # Strides, in elements; those of a contiguous dimension are 1, which Triton specialises on.
    stride_a_batch,
    stride_am,
    stride_ak,
    stride_b_batch,
    stride_bk,
    stride_bn,
    stride_target_split,
    stride_target_batch,
    stride_target_m,
    stride_target_n,
    # Meta.
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    SPLIT_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    EVEN_M: tl.constexpr,
    EVEN_N: tl.constexpr,
    EVEN_K: tl.constexpr,
    INPUT_PRECISION: tl.constexpr,
    ATOMIC: tl.constexpr,
):
    """One part's A @ B for one tile of one pair of the batch, in fp32: stored, or where ATOMIC added, to its target."""
    # Which tile, and which part: programs of one part follow each other, since they share what they load.
    tiles_m = tl.cdiv(M, BLOCK_M)
    tiles_n = tl.cdiv(N, BLOCK_N)
    tiles = tiles_m * tiles_n
    program = tl.program_id(0)
    part = program // (tiles * batches)
    batch = (program // tiles % batches).to(tl.int64)
    tile_m, tile_n = grouped_tile(program % tiles, tiles_m, tiles_n, GROUP_M)

    # Parts differ by one step at most.
    steps = tl.cdiv(K, BLOCK_K)
    first_step = part * steps // SPLIT_K
    end_step = (part + 1) * steps // SPLIT_K

    # Offsets are 64-bit: row times stride passes 2**31 in matrices that fit a GPU.
    m = tile_m.to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tile_n.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    # fmt: off
    accumulator = multiply_along_k(
        a_ptr + batch * stride_a_batch, b_ptr + batch * stride_b_batch, m, n, first_step * BLOCK_K, end_step * BLOCK_K,
        M, N, K, stride_am, stride_ak, stride_bk, stride_bn,
        BLOCK_M, BLOCK_N, BLOCK_K, EVEN_M, EVEN_N, EVEN_K, INPUT_PRECISION, tl.float32, None,
    )
    # fmt: on
    target = target_ptr + part.to(tl.int64) * stride_target_split + batch * stride_target_batch
    target_tile = target + m[:, None] * stride_target_m + n[None, :] * stride_target_n
    inside = (m < M)[:, None] & (n < N)[None, :]
    if ATOMIC:
        tl.atomic_add(target_tile, accumulator, mask=inside, sem="relaxed")
    else:
        tl.store(target_tile, accumulator, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def sum_parts(  # type: ignore[no-untyped-def]
    # Pointers: first element of the workspace [PARTS, rows, N] and of C [batch, M, N].
    workspace_ptr,
    c_ptr,
    # Sizes: rows are those of all the batch, and a part has rows·N elements.
    rows,
    M,
    N,
    part_elements,
    # Strides, in elements; C's columns are contiguous.
    stride_c_batch,
    stride_cm,
    # Meta.
    PARTS: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """C = the sum of the parts, in order, for some of its rows and columns; with PARTS = 0, C = 0."""
    blocks_n = tl.cdiv(N, COLUMNS)
    row = (tl.program_id(0) // blocks_n).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(0) % blocks_n * COLUMNS + tl.arange(0, COLUMNS)
    inside = (row < rows)[:, None] & (n < N)[None, :]
    partial = workspace_ptr + row[:, None] * N + n[None, :]
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for _ in tl.static_range(PARTS):
        total += tl.load(partial, mask=inside, other=0.0)
        partial += part_elements
    c = c_ptr + (row // M * stride_c_batch + row % M * stride_cm)[:, None] + n[None, :]
    tl.store(c, total.to(c_ptr.dtype.element_ty), mask=inside)


LARGEST_TILE: Final = 128 * 128
LARGEST_UNALIGNED_TILE: Final = 64 * 128
"""128x128 tiles whose operands pass through registers spill 40 bytes a thread on sm_80."""
MIN_TENSOR_CORE_ROWS: Final = 64
"""Of a tile, for Hopper's and Blackwell's own instructions."""

MIN_STEPS: Final = 4
"""Steps along K that a part has at least: fewer do not fill the pipeline."""
MAX_PARTS: Final = 64
WAVES: Final = (1, 2, 3, 4)
"""Numbers of waves that the parts of all tiles may fill."""

ELEMENT_COST: Final = 128
"""What writing and reading one fp32 partial sum costs beside multiplying, in terms of the product: 8 bytes through L2,
at some 64 bytes a clock and SM, against some 1024 multiplications a clock and SM of 16-bit terms."""
REDUCTION_BLOCK: Final = 1024


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    refusal = machine_refusal(problem, device) or format_refusal(problem, FORMATS, OUT_FORMATS)
    if refusal is None and not configs(problem, device):
        return f"K = {problem.k} is too short to be divided: choose triton-tiled"
    return refusal


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """Tiles that fit the device's shared memory, ways of dividing K that fill the SMs, in the order of estimated work.

    Each with a workspace; the first also with atomics where C is fp32.
    """
    swap = problem.m < MIN_TENSOR_CORE_ROWS and _is_hopper_or_later(device)
    rows_and_columns = replace(problem, m=problem.n, n=problem.m) if swap else problem
    candidates: dict[tuple[Tile, int], float] = {}
    for tile in _tiles(problem, device):
        tiles = tile_count(rows_and_columns, tile[0], tile[1])
        most = min(MAX_PARTS, math.ceil(problem.k / tile[2]) // MIN_STEPS)
        for waves in WAVES:
            parts = min(most, waves * max(1, device.sm_count) // tiles)
            if parts >= 2:
                candidates[tile, parts] = _estimated_work(rows_and_columns, device, tile, parts)
        if most >= 2 and not any(tile == chosen for chosen, _ in candidates):
            candidates[tile, 2] = _estimated_work(rows_and_columns, device, tile, 2)
    ordered = sorted(candidates, key=lambda candidate: candidates[candidate])
    found: list[Config] = [
        dict(
            zip(TILE_NAMES, tile, strict=True),
            GROUP_M=_best_group_m(rows_and_columns, device, tile, parts),
            SPLIT_K=parts,
            SWAP_AB=swap,
            REDUCTION="workspace",
        )
        for tile, parts in ordered
    ]
    if problem.out_dtype == "fp32":
        found[1:1] = [dict(config, REDUCTION="atomic") for config in found[:1]]
    return found


def _estimated_work(problem: Problem, device: Device, tile: Tile, parts: int) -> float:
    """Relative time: waves of parts over the SMs, times the cost of one, and writing and summing the parts."""
    block_m, block_n, block_k, *_ = tile
    sm_count = max(1, device.sm_count)
    waves = math.ceil(tile_count(problem, block_m, block_n) * parts / sm_count)
    depth = math.ceil(math.ceil(problem.k / block_k) / parts) * block_k
    reduction = ELEMENT_COST * problem.batch * problem.m * problem.n * parts / sm_count
    return waves * depth * tile_cost(block_m, block_n) + reduction


def _best_group_m(problem: Problem, device: Device, tile: Tile, parts: int) -> int:
    """That of one part: the programs of a part follow each other."""
    return best_group_m(replace(problem, k=math.ceil(problem.k / parts), out_dtype="fp32"), device, tile[0], tile[1])


def _tiles(problem: Problem, device: Device) -> list[Tile]:
    """Those of `triton_tiled` that are not large, since K is divided where tiles are few."""
    least_rows = MIN_TENSOR_CORE_ROWS if _is_hopper_or_later(device) and problem.dtype != "fp32" else 1
    largest = LARGEST_TILE if rows_are_aligned(problem) else LARGEST_UNALIGNED_TILE
    return [tile for tile in fitting_tiles(problem, device) if tile[0] >= least_rows and tile[0] * tile[1] <= largest]


def _is_hopper_or_later(device: Device) -> bool:
    return (device.capability or (0, 0)) >= (9, 0)


def calls(
    problem: Problem, operands: Operands, config: Config, device: Device, workspace: Any = None
) -> Sequence[KernelCall]:
    """Two launches: `splitk_gemm`, before it C is set to zero (atomic) or after it `sum_parts`.

    workspace: fp32, of `workspace_elements`. Without one, the calls of a workspace reduction can only be compiled.
    """
    out = operands.out
    c_batch, c_row, _ = strides_of(out)
    if config["REDUCTION"] == "atomic":
        product = _product(problem, operands, config, out, (0, c_batch, c_row, 1))
        return (_sum(problem, out, out, parts=0), product)
    target = MockTensor(torch.float32) if workspace is None else workspace
    matrix = problem.m * problem.n
    product = _product(problem, operands, config, target, (problem.batch * matrix, matrix, problem.n, 1))
    return (product, _sum(problem, target, out, parts=int(config["SPLIT_K"])))


def _sum(problem: Problem, workspace: Any, out: Any, parts: int) -> KernelCall:
    """The launch of `sum_parts`."""
    columns = min(REDUCTION_BLOCK, triton.next_power_of_2(problem.n))
    rows = REDUCTION_BLOCK // columns
    all_rows = problem.batch * problem.m
    blocks = math.ceil(all_rows / rows) * math.ceil(problem.n / columns)
    c_batch, c_row, _ = strides_of(out)
    positional = (workspace, out, all_rows, problem.m, problem.n, all_rows * problem.n, c_batch, c_row)
    meta = {"PARTS": parts, "ROWS": rows, "COLUMNS": columns, "enable_fp_fusion": True}
    return KernelCall(sum_parts, (blocks,), positional, meta)


def _product(
    problem: Problem, operands: Operands, config: Config, target: Any, target_strides: tuple[int, int, int, int]
) -> KernelCall:
    """The launch of `splitk_gemm`, of C^T = B^T A^T where the configuration says so."""
    a, b = operands.a, operands.b
    (a_batch, am, ak), (b_batch, bk, bn) = strides_of(a), strides_of(b)
    split, batch, row, column = target_strides
    rows, columns = problem.m, problem.n
    if config["SWAP_AB"]:
        a, b = b, a
        (a_batch, am, ak), (b_batch, bk, bn) = (b_batch, bn, bk), (a_batch, ak, am)
        row, column, rows, columns = column, row, columns, rows
    block_m, block_n, block_k = (int(config[name]) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    parts = int(config["SPLIT_K"])
    meta: dict[str, Any] = {name: value for name, value in config.items() if name not in ("SWAP_AB", "REDUCTION")}
    meta |= evenness((rows, columns, problem.k), (block_m, block_n, block_k))
    meta |= {
        "INPUT_PRECISION": "ieee" if problem.dtype == "fp32" else "tf32",
        "ATOMIC": config["REDUCTION"] == "atomic",
        "enable_fp_fusion": True,  # Triton 3.10 changes the default, and 3.9 warns of it
    }
    tiles = problem.batch * math.ceil(rows / block_m) * math.ceil(columns / block_n)
    strides = (a_batch, am, ak, b_batch, bk, bn, split, batch, row, column)
    positional = (a, b, target, rows, columns, problem.k, problem.batch, *strides)
    return KernelCall(splitk_gemm, (tiles * parts,), positional, meta)


def workspace_elements(problem: Problem, config: Config) -> int:
    """fp32 numbers between the two launches: one C a part."""
    parts = int(config["SPLIT_K"]) if config["REDUCTION"] == "workspace" else 0
    return parts * problem.batch * problem.m * problem.n


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    """A launcher on the current CUDA device and stream, with a workspace of its own; the first launch compiles.

    Launches share the workspace: they follow each other on one stream.
    """
    workspace = torch.empty(workspace_elements(problem, config), dtype=torch.float32, device=device.torch_name)
    return launcher(partial(calls, workspace=workspace), problem, config, device)
