"""Backend `triton-tiled-8bit`: `triton-tiled` for one-byte formats, fp8 into scaled floating point and int8 into int32.

FLOP: 2·M·N·K. Bytes from L2 to the SMs: M·N·K·(1/BLOCK_M + 1/BLOCK_N), half those of a 16-bit format at twice its
rate, so the tiles stay the same and BLOCK_K doubles. int8 is exact. fp8 sums keep about 13 fraction bits inside
Hopper's tensor cores (DeepSeek-V3, arXiv 2412.19437, section 3.3): unless `fast_accumulation`, every 128 terms are
added to an fp32 accumulator outside, which costs registers and time. That is part of what is computed, not a way of
computing it: no candidate sums fast, and cuBLAS without its fast accumulation (`torch-fp8`) is what to compare with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemmkernels import triton_tiled
from gemmkernels.backend import Config, ConfigValue, Device
from gemmkernels.problem import Problem
from gemmkernels.tile_order import best_group_m
from gemmkernels.tiling import TILE_NAMES, Tile, estimated_work, operand_buffer_bytes
from gemmkernels.triton_call import format_refusal, layout_refusal, machine_refusal

SUMMARY = "Triton, one program a tile of C, pointer tiles of 8-bit formats: int8 on sm_80, fp8 on sm_89 and later"

FORMATS: Final = ("fp8_e4m3", "fp8_e5m2", "int8")
FP8_OUT_FORMATS: Final = ("bf16", "fp16", "fp32")

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
    refusal = (
        machine_refusal(problem, device) or format_refusal(problem, FORMATS, out_formats) or layout_refusal(problem)
    )
    if refusal is not None:
        return refusal
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


calls: Final = triton_tiled.calls
prepare: Final = triton_tiled.prepare
