"""What tiles cost: their shared memory, and an estimate of the time that a problem takes in them."""

from __future__ import annotations

import math
from typing import Final

from gemmkernels.backend import Device
from gemmkernels.problem import Problem

Tile = tuple[int, int, int, int, int]
"""BLOCK_M, BLOCK_N, BLOCK_K, num_warps, num_stages."""

TILE_NAMES: Final = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_warps", "num_stages")

TILE_SIDE_COST: Final = 16
"""What loading one row or column of operands costs beside multiplying, in elements of C: larger tiles reuse more."""

BARRIER_BYTES: Final = 128
"""Shared memory that the compiler takes for barriers: up to 88 bytes were seen."""


def operand_buffer_bytes(tile: Tile, element_bytes: int) -> int:
    """Shared memory of one block's operands: a buffer of A and one of B for each stage."""
    block_m, block_n, block_k, _, stages = tile
    return stages * (block_m + block_n) * block_k * element_bytes


def tile_cost(block_m: int, block_n: int) -> int:
    """Relative time of one tile for each step along K."""
    return block_m * block_n + TILE_SIDE_COST * (block_m + block_n)


def tile_count(problem: Problem, block_m: int, block_n: int) -> int:
    """Tiles of C in all of the batch, overhanging ones included."""
    return problem.batch * math.ceil(problem.m / block_m) * math.ceil(problem.n / block_n)


def estimated_work(problem: Problem, device: Device, tile: Tile) -> int:
    """Relative time of `problem` in tiles of this size: waves of tiles over the SMs, times the cost of one.

    Counts what overhangs the edges, so that small problems get small tiles, and the last wave as a whole one.
    """
    block_m, block_n, *_ = tile
    waves = math.ceil(tile_count(problem, block_m, block_n) / max(1, device.sm_count))
    return waves * tile_cost(block_m, block_n)
