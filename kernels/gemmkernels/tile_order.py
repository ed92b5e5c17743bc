"""In which order to compute the tiles of C, and the memory traffic that each order causes, by a model of the L2 cache.

The order of every kernel here: GROUP_M rows of tiles are walked column by column. The model: as many tiles under way as
there are SMs, all at the same place along K; an L2 of full size that replaces what was used longest ago and that C's
tiles pass through as well. It is a model: real tiles drift apart, and the halves of an A100's or H100's L2 may hold
copies of each other's lines, so that the order is chosen to be good with half the capacity too.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gemmkernels.backend import Device
from gemmkernels.problem import DTYPE_BYTES, Problem

GROUP_CHOICES: Final = (1, 2, 4, 8, 16, 32, 64)

CHUNKS_OF_K: Final = 8
"""Pieces of a panel that the simulated L2 keeps or loses as one."""


@dataclass(frozen=True, slots=True)
class TileGrid:
    """The tiles of one C, what each needs, and how many are under way at once.

    a_bytes, b_bytes: one row panel of A and one column panel of B, over all of K. c_bytes: one tile of C.
    """

    rows: int
    columns: int
    a_bytes: int
    b_bytes: int
    c_bytes: int
    in_flight: int

    @classmethod
    def of(cls, problem: Problem, block_m: int, block_n: int, in_flight: int) -> TileGrid:
        """The grid of one pair of `problem`'s batch."""
        panel = problem.k * DTYPE_BYTES[problem.dtype]
        return cls(
            rows=math.ceil(problem.m / block_m),
            columns=math.ceil(problem.n / block_n),
            a_bytes=min(block_m, problem.m) * panel,
            b_bytes=min(block_n, problem.n) * panel,
            c_bytes=min(block_m, problem.m) * min(block_n, problem.n) * DTYPE_BYTES[problem.out_dtype],
            in_flight=max(1, in_flight),
        )

    @property
    def tiles(self) -> int:
        """Tiles of C."""
        return self.rows * self.columns


def grouped(tile: int, rows: int, columns: int, group_m: int) -> tuple[int, int]:
    """Row and column, in tiles, of the `tile`-th tile: what `triton_tiles.grouped_tile` computes on the GPU."""
    in_group = group_m * columns
    first = tile // in_group * group_m
    height = min(rows - first, group_m)
    return first + tile % in_group % height, tile % in_group // height


def simulated_bytes(grid: TileGrid, group_m: int, l2_bytes: int) -> int:
    """Bytes read from and written to memory, counted by running the tiles' accesses through a simulated L2.

    Seconds for 10^5 tiles: what `predicted_bytes` is tested against.
    """
    cached: OrderedDict[tuple[str, int, int], int] = OrderedDict()
    held = 0
    moved = 0
    for line, size in _accesses(grid, group_m):
        if line in cached:
            cached.move_to_end(line)
            continue
        cached[line] = size
        moved += size
        held += size
        while held > l2_bytes:
            held -= cached.popitem(last=False)[1]
    return moved


def _accesses(grid: TileGrid, group_m: int) -> Iterator[tuple[tuple[str, int, int], int]]:
    """Every line that the tiles touch, with its bytes, wave after wave; tiles of a wave share what they load."""
    for start in range(0, grid.tiles, grid.in_flight):
        wave = range(start, min(start + grid.in_flight, grid.tiles))
        places = [grouped(tile, grid.rows, grid.columns, group_m) for tile in wave]
        rows, columns = (dict.fromkeys(indices) for indices in zip(*places, strict=True))
        for chunk in range(CHUNKS_OF_K):
            yield from ((("A", row, chunk), grid.a_bytes // CHUNKS_OF_K) for row in rows)
            yield from ((("B", column, chunk), grid.b_bytes // CHUNKS_OF_K) for column in columns)
        yield from ((("C", row, column), grid.c_bytes) for row, column in places)


def predicted_bytes(grid: TileGrid, group_m: int, l2_bytes: int) -> float:
    """The same in closed form, microseconds: within a quarter of the simulation, most often within a tenth.

    A panel that is wanted again is still in L2 if all that is touched in between fits there.
    """
    group = min(group_m, grid.rows)
    group_tiles = group * grid.columns
    waves = math.ceil(grid.tiles / grid.in_flight)
    wave_rows, wave_columns = _touched(grid, group, grid.in_flight)

    def fits(tiles: int) -> bool:
        rows, columns = _touched(grid, group, tiles)
        return rows * grid.a_bytes + columns * grid.b_bytes + min(tiles, grid.tiles) * grid.c_bytes <= l2_bytes

    a_panels: float = grid.rows
    if not fits(max(grid.in_flight, group)):
        a_panels = max(a_panels, waves * wave_rows)
    b_panels: float = grid.columns
    if not fits(max(grid.in_flight, group_tiles)):
        every_wave = max(b_panels, waves * wave_columns)
        every_group = grid.columns * math.ceil(grid.rows / group)
        b_panels = min(every_wave, every_group) if fits(grid.in_flight) else every_wave
    return a_panels * grid.a_bytes + b_panels * grid.b_bytes + grid.tiles * grid.c_bytes


def _touched(grid: TileGrid, group: int, tiles: int) -> tuple[float, float]:
    """Mean numbers of row and of column panels in a run of successive tiles that starts anywhere."""
    group_tiles = group * grid.columns
    if tiles >= group_tiles:
        return min(grid.rows, group * ((tiles - 1) / group_tiles + 1)), grid.columns
    return min(group, tiles), min(grid.columns, (tiles - 1) / group + 1)


def best_group_m(problem: Problem, device: Device, block_m: int, block_n: int) -> int:
    """The GROUP_M with the least predicted traffic, over the whole L2 and over half of it; of equals the smallest.

    8, the customary value, where the device names no L2 or no SMs.
    """
    return group_ms(problem, device, block_m, block_n)[0]


def group_ms(problem: Problem, device: Device, block_m: int, block_n: int) -> tuple[int, ...]:
    """Values of GROUP_M by predicted traffic, the least first; of several with the same traffic the smallest."""
    if not device.l2_bytes or not device.sm_count:
        return (8,)
    return _group_ms(TileGrid.of(problem, block_m, block_n, device.sm_count), device.l2_bytes)


@lru_cache(maxsize=4096)
def _group_ms(grid: TileGrid, l2_bytes: int) -> tuple[int, ...]:
    traffic: dict[float, int] = {}
    for group in GROUP_CHOICES:
        if group < 2 * grid.rows:
            moved = sum(predicted_bytes(grid, group, size) for size in (l2_bytes, l2_bytes // 2))
            traffic.setdefault(moved, group)
    return tuple(traffic[moved] for moved in sorted(traffic))
