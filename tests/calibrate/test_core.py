"""The physical core: each term costs what its name says, and what it says of itself is how it comes to its seconds."""

import numpy as np
import pytest
from made_up_gpu import CHIP

from flopwatt.analysis.calibrate import core, features
from flopwatt.analysis.calibrate.core import PARAMETERS, START, VIEW, core_time, core_view, fit_core
from flopwatt.analysis.calibrate.points import make_shapes

CUTS = [
    (bm, bn, parts) for bm, bn in core.TILES for parts in (core.SPLITS if bm * bn <= core.SPLIT_TILE_MOST else (1,))
]
COMPUTE, L2, DRAM, WAVES, FULL, CUT, NEXT, FOURTH, LAUNCH = range(VIEW)


def parameters(**values):
    changed = dict(zip(PARAMETERS, START, strict=True)) | {name: np.log(value) for name, value in values.items()}
    return np.array(list(changed.values()))


def seconds(shapes, **values):
    return core_time(parameters(**values), shapes, CHIP)


def test_a_wave_also_waits_for_its_tiles_to_be_written():
    shapes = make_shapes(2560, 1280, [64, 8192])  # one wave of 50, or two, of any tile
    plain, longer = (core_view(parameters(epilogue=value), shapes, CHIP).columns for value in (3, 6))
    assert (plain[:, CUT] == longer[:, CUT]).all()
    bm, bn = np.array([CUTS[int(cut)][:2] for cut in plain[:, CUT]]).T
    waves = np.ceil(np.ceil(2560 / bm) * np.ceil(1280 / bn) / CHIP.sm_count)
    written_s = 3 * bm * bn * 2 * CHIP.sm_count / (0.8 * 8 * CHIP.bytes_per_s)
    rest = 1 - 0.5 * (1 - np.exp(plain[:, WAVES]) / waves)  # half of what is missing from a wave is not waited for
    added_s = np.exp(longer[:, COMPUTE]) - np.exp(plain[:, COMPUTE])
    assert added_s == pytest.approx(waves * rest * written_s, rel=1e-9)
    slower = seconds(shapes, epilogue=6) / seconds(shapes, epilogue=3)
    assert slower[0] > 1.05
    assert slower[1] < 1.03


def test_the_power_limit_slows_what_keeps_tensor_cores_busy_for_long():
    shapes = make_shapes([16384, 256, 1], [16384, 256, 65536], [16384, 256, 65536])
    free = seconds(shapes, throttle=1e-12)
    slowed = seconds(shapes, throttle=0.2, throttle_s=1e-3) / free - 1
    busy = shapes.flop / free / CHIP.flop_per_s
    assert slowed[0] == pytest.approx(0.2 * busy[0] * free[0] / (free[0] + 1e-3), rel=1e-3)
    assert slowed[0] > 0.1
    assert (slowed[1:] < 1e-3).all()
    half = seconds(shapes, throttle=0.2, throttle_s=free[0] - 2e-6) / free - 1
    assert half[0] == pytest.approx(0.1 * busy[0], rel=1e-3)


def test_what_l2_still_holds_comes_from_it_and_not_from_dram():
    """Half of what is held where a GEMM has as many bytes as L2 keeps, next to nothing of a much larger one."""
    middle = 0.5 * CHIP.l2_bytes
    side = np.sqrt(middle / 2)
    shapes = make_shapes(1, np.round([side / 10, side, side * 10]), np.round([side / 10, side, side * 10]))
    cold, warm = (core_view(parameters(warm=share), shapes, CHIP).columns[:, DRAM] for share in (1e-12, 0.8))
    assert 1 - np.exp(warm - cold) == pytest.approx([0.8 * 7 / 8, 0.4 * 7 / 8, 0.0], rel=0.01, abs=1e-6)
    assert np.exp(cold) == pytest.approx(shapes.bytes / (0.8 * CHIP.bytes_per_s), rel=1e-9)


@pytest.mark.parametrize(
    ("name", "value", "sizes", "slower"),
    [
        ("launch_s", 4e-6, (64, 64, 64), 2e-6),
        ("ragged", 0.5, (1001, 4096, 4096), None),
        ("ragged", 0.5, (1000, 4096, 4096), 0.0),
        ("reduce_s", 1.5e-5, (8192, 8192, 64), 0.0),
        ("reduce_s", 3e-6, (64, 64, 65536), 1.5e-6),
    ],
)
def test_other_terms_cost_their_seconds_where_they_apply(name, value, sizes, slower):
    shapes = make_shapes(*sizes)
    added_s = seconds(shapes, **{name: value}, choice=1e9, throttle=1e-12) - seconds(shapes, choice=1e9, throttle=1e-12)
    if slower is None:  # a twentieth in place of half a percent
        slower = seconds(shapes, ragged=1e-12, choice=1e9, throttle=1e-12)[0] * 0.1 * (value - 0.05)
        slower -= 2e-6 * 0.1 * (value - 0.05)
    assert added_s[0] == pytest.approx(slower, rel=1e-6, abs=1e-12)


def test_the_view_is_of_the_winning_cut():
    shapes = make_shapes([1, 8192, 128, 16], [512, 8192, 4096, 57344], [65536, 8192, 128, 8192])
    view = core_view(START, shapes, CHIP)
    assert view.columns.shape == (4, VIEW)
    assert (view.seconds == core_time(START, shapes, CHIP)).all()
    columns = view.columns.T
    bm, bn, parts = np.array([CUTS[int(cut)] for cut in columns[CUT]]).T
    assert parts[0] > 1
    assert parts[1] == 1
    assert bm[1] * bn[1] >= 128 * 256
    waves = np.ceil(shapes.m / bm) * np.ceil(shapes.n / bn) * parts / CHIP.sm_count
    assert np.exp(columns[WAVES]) == pytest.approx(waves)
    assert columns[FULL] == pytest.approx(waves / np.ceil(waves))
    from_dram = np.exp(columns[DRAM]) / (shapes.bytes / (0.8 * CHIP.bytes_per_s))
    assert from_dram[[1, 3]] == pytest.approx(1, rel=1e-6)
    assert (from_dram <= 1).all()
    traffic = np.ceil(shapes.m / bm) * np.ceil(shapes.n / bn) * (bm + bn) * shapes.k * 2
    assert np.exp(columns[L2]) == pytest.approx(traffic / (0.8 * 8 * CHIP.bytes_per_s))
    assert (columns[NEXT] >= 0).all()
    assert (columns[FOURTH] >= columns[NEXT]).all()
    best_s = 2e-6 / np.exp(columns[LAUNCH])
    assert (best_s >= np.exp(columns[[COMPUTE, L2, DRAM]]).max(axis=0)).all()
    assert np.exp(columns[[COMPUTE, DRAM]]).argmax(axis=0).tolist() == [1, 0, 0, 1]


def test_what_the_residual_sees_ends_in_the_view():
    shapes = make_shapes([1, 8192], [512, 8192], [65536, 8192])
    view = core_view(START, shapes, CHIP)
    trees, process = features.matrix(shapes, view, CHIP, np.zeros(2)), features.smooth(shapes, view, CHIP)
    assert trees.shape == (2, features.FEATURES)
    assert (trees[:, -VIEW:] == view.columns).all()
    assert process.shape == (2, features.SMOOTH_FEATURES)
    # Which cut won, and how far behind the fourth is, are steps: no process over them is smooth.
    kept = [COMPUTE, L2, DRAM, WAVES, FULL, NEXT, LAUNCH]
    assert (process[:, -len(kept) :] == view.columns[:, kept]).all()


def test_a_fit_finds_the_parameters_that_made_the_times():
    rng = np.random.default_rng(0)
    shapes = make_shapes(*(np.round(2 ** rng.uniform(4, 14, 150)) for _ in range(3)))
    made = {"launch_s": 5e-6, "peak_fraction": 0.6, "dram_fraction": 0.9, "epilogue": 6.0}
    time_s = seconds(shapes, **made)
    found = fit_core(shapes, time_s, CHIP)
    assert np.abs(core_time(found, shapes, CHIP) / time_s - 1).max() < 0.02
    learned = dict(zip(PARAMETERS, np.exp(found), strict=True))
    for name, value in made.items():
        assert learned[name] == pytest.approx(value, rel=0.3), name
