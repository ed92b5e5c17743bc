"""The L2 model: the published orders' traffic, the closed form against the simulation, and the orders it chooses."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import pytest

from gemmkernels.backend import Device, load
from gemmkernels.problem import Problem
from gemmkernels.tile_order import (
    GROUP_CHOICES,
    TileGrid,
    best_group_m,
    group_ms,
    grouped,
    predicted_bytes,
    simulated_bytes,
)

MIB = 2**20
H100 = Device("cuda", "NVIDIA H100 80GB HBM3", 0, (9, 0), 132, 232_448, 50 * MIB)
TRAINING_SHAPES = (
    Problem(8192, 4096, 4096),
    Problem(8192, 6144, 4096),
    Problem(8192, 28672, 4096),
    Problem(8192, 4096, 14336),
    Problem(8192, 1280, 8192),
    Problem(8192, 8192, 1024),
    Problem(8192, 7168, 8192),
    Problem(8192, 8192, 3584),
    Problem(2048, 6144, 12288),
    Problem(12288, 2048, 6144),
)
TILED_BACKENDS = (
    "triton-tiled",
    "triton-tiled-8bit",
    "triton-persistent",
    "triton-persistent-fast",
    "gluon-persistent",
    "gluon-persistent-fast",
)
TILES = ((128, 256), (128, 128))


@pytest.mark.parametrize(("rows", "columns", "group_m"), [(5, 7, 2), (8, 3, 8), (4, 9, 16), (7, 1, 1), (1, 6, 8)])
def test_the_order_is_that_of_the_kernels_and_visits_every_tile_once(rows: int, columns: int, group_m: int):
    order = [grouped(tile, rows, columns, group_m) for tile in range(rows * columns)]
    assert sorted(order) == [(row, column) for row in range(rows) for column in range(columns)]
    kernels = pytest.importorskip("gemmkernels.triton_tiles", reason="needs triton: pip install flopwatt[measure]")
    assert order == [kernels.grouped_tile.fn(tile, rows, columns, group_m) for tile in range(rows * columns)]


def test_groups_are_walked_column_by_column():
    assert [grouped(tile, 3, 3, 2) for tile in range(9)] == [
        *((0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2)),
        *((2, 0), (2, 1), (2, 2)),
    ]


def test_the_traffic_of_a_large_square_problem_by_order():
    """8.5, 4.7, 2.8, 1.3 and 4.6 GB: an independent model's figures, for 132 tiles under way and C left out."""
    grid = replace(TileGrid.of(Problem(16384, 16384, 4096), 128, 256, 132), c_bytes=0)
    expected = {1: 8.5e9, 4: 4.7e9, 8: 2.8e9, 16: 1.3e9, 64: 4.6e9}
    for group_m, moved in expected.items():
        assert simulated_bytes(grid, group_m, 40 * MIB) == pytest.approx(moved, rel=0.03)
        assert predicted_bytes(grid, group_m, 40 * MIB) == pytest.approx(moved, rel=0.1)


def test_c_takes_its_share_of_the_cache_and_of_the_traffic():
    """With C's tiles, 16 rows of tiles no longer stay in 40 MB beside what passes by, but do in 50 MB."""
    grid = TileGrid.of(Problem(16384, 16384, 4096), 128, 256, 132)
    assert simulated_bytes(grid, 16, 40 * MIB) == pytest.approx(2.85e9, rel=0.01)
    assert simulated_bytes(grid, 16, 50 * MIB) == pytest.approx(1.84e9, rel=0.01)


def test_what_fits_is_read_once():
    problem = Problem(2048, 2048, 2048)
    grid = TileGrid.of(problem, 128, 128, 132)
    for group_m in GROUP_CHOICES:
        assert simulated_bytes(grid, group_m, 50 * MIB) == problem.min_bytes
        assert predicted_bytes(grid, group_m, 50 * MIB) == problem.min_bytes


def test_without_a_cache_every_wave_reads_what_it_touches():
    """Two tiles under way, in one row of four: A's panel and two of B's, twice."""
    grid = TileGrid(rows=1, columns=4, a_bytes=800, b_bytes=80, c_bytes=8, in_flight=2)
    assert simulated_bytes(grid, 1, 100) == 2 * (800 + 2 * 80) + 4 * 8


@pytest.fixture(scope="module")
def simulated() -> dict[tuple[Problem, tuple[int, int], int], tuple[TileGrid, dict[int, int]]]:
    """For training shapes, tiles and cache sizes, the whole of an H100's L2 and half of it: each order's traffic."""
    found = {}
    for problem in TRAINING_SHAPES:
        for tile in TILES:
            grid = TileGrid.of(problem, *tile, H100.sm_count)
            for l2_bytes in (H100.l2_bytes, H100.l2_bytes // 2):
                traffic = {g: simulated_bytes(grid, g, l2_bytes) for g in GROUP_CHOICES if g < 2 * grid.rows}
                found[problem, tile, l2_bytes] = grid, traffic
    return found


def test_the_closed_form_follows_the_simulation(simulated):
    ratios = sorted(
        predicted_bytes(grid, group_m, l2_bytes) / moved
        for (_, _, l2_bytes), (grid, traffic) in simulated.items()
        for group_m, moved in traffic.items()
    )
    assert statistics.median(ratios) == pytest.approx(1.0, abs=0.01)
    assert ratios[len(ratios) // 20] > 0.9
    assert ratios[-len(ratios) // 20] < 1.2


def test_the_chosen_order_moves_little_more_than_the_best_one_and_less_than_the_customary(simulated):
    chosen, customary = [], []
    for problem in TRAINING_SHAPES:
        for tile in TILES:
            whole, half = (simulated[problem, tile, size][1] for size in (H100.l2_bytes, H100.l2_bytes // 2))
            traffic = {group_m: whole[group_m] + half[group_m] for group_m in whole}
            chosen.append(traffic[best_group_m(problem, H100, *tile)] / min(traffic.values()))
            customary.append(traffic[8] / min(traffic.values()))
    assert statistics.mean(chosen) < 1.01
    assert max(chosen) < 1.1
    assert statistics.mean(customary) > 1.2


@pytest.mark.parametrize(
    ("problem", "tile", "group_m"),
    [
        (Problem(16384, 16384, 4096), (128, 256), 16),
        (Problem(8192, 7168, 8192), (64, 256), 32),
        (Problem(512, 512, 512), (128, 128), 1),
    ],
)
def test_the_order_follows_the_tile_and_the_problem(problem: Problem, tile: tuple[int, int], group_m: int):
    assert best_group_m(problem, H100, *tile) == group_m


def test_a_device_without_figures_gets_the_customary_order():
    assert group_ms(Problem(4096, 4096, 4096), Device("cpu", "a CPU"), 128, 128) == (8,)


def test_orders_are_ranked_by_their_traffic_each_of_its_own():
    """A large square problem moves least in groups of 16, then of 32; one that fits in L2 as much in any order."""
    assert group_ms(Problem(16384, 16384, 4096), H100, 128, 256)[:3] == (16, 32, 8)
    grid = TileGrid.of(Problem(16384, 16384, 4096), 128, 256, 132)
    moved = [
        sum(predicted_bytes(grid, group_m, size) for size in (H100.l2_bytes, H100.l2_bytes // 2))
        for group_m in group_ms(Problem(16384, 16384, 4096), H100, 128, 256)
    ]
    assert moved == sorted(set(moved))
    assert group_ms(Problem(1024, 1024, 1024), H100, 128, 256) == (1,)


@pytest.mark.parametrize("backend", TILED_BACKENDS)
@pytest.mark.parametrize("shape", [(8192, 8192, 8192), (16384, 16384, 4096), (2048, 6144, 12288)])
def test_every_shipped_configuration_walks_its_tiles_in_the_best_order(backend: str, shape: tuple[int, int, int]):
    pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")
    dtype = "fp8_e4m3" if backend.endswith(("8bit", "fast")) else "bf16"
    problem = Problem(*shape, dtype=dtype, layout="nt")
    candidates = load(backend).configs(problem, H100)
    assert len(candidates) >= 5
    for config in candidates:
        expected = best_group_m(problem, H100, int(config["BLOCK_M"]), int(config["BLOCK_N"]))
        assert config["GROUP_M"] == expected, config


def test_parts_of_a_split_k_are_ordered_each_for_itself():
    """Swapped, A's rows are B's columns; a part reads its share of K alone and writes fp32."""
    pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")
    for problem in (Problem(8192, 8192, 8192), Problem(16, 8192, 16384)):
        for config in load("triton-splitk").configs(problem, H100):
            rows, columns = (problem.n, problem.m) if config["SWAP_AB"] else (problem.m, problem.n)
            part = Problem(rows, columns, -(-problem.k // int(config["SPLIT_K"])), out_dtype="fp32")
            block_m, block_n = int(config["BLOCK_M"]), int(config["BLOCK_N"])
            assert config["GROUP_M"] == best_group_m(part, H100, block_m, block_n)


def test_choosing_costs_no_time_worth_counting():
    start = time.process_time()
    for size in range(4096, 4096 + 64 * 100, 64):
        best_group_m(Problem(size, size, size), H100, 128, 256)
    assert time.process_time() - start < 100 * 0.005
