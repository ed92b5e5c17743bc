"""A made-up GPU with known laws: how far off, how wide, how sane, and what a file keeps."""

import msgspec
import numpy as np
import pytest
from made_up_gpu import CHIP, IDLE_W, points, true_power, true_time, wrapped, write

from flopwatt.analysis.calibrate import calibrating, files, fitting
from flopwatt.analysis.calibrate.core import START, core_time
from flopwatt.analysis.calibrate.points import Points, make_shapes
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.calibrate.residual import lender
from flopwatt.errors import CalibrationRefused, InputError


def predict(calibration, shapes):
    return calibration.predict(shapes.m, shapes.n, shapes.k)


def test_time_and_power_of_unseen_shapes_are_near_the_truth(calibration, unseen):
    found = predict(calibration, unseen.shapes)
    assert np.abs(found.time_s / true_time(unseen.shapes) - 1).mean() < 0.035
    assert np.abs(found.power_w / true_power(unseen.shapes) - 1).mean() < 0.03
    joules = true_time(unseen.shapes) * true_power(unseen.shapes)
    assert np.abs(found.energy_j / joules - 1).mean() < 0.06


def test_intervals_cover_what_they_say(calibration, unseen):
    found = predict(calibration, unseen.shapes)
    inside = ~found.extrapolated
    assert inside.mean() > 0.9
    for name, value in (
        ("time_s", unseen.time_s), ("power_w", unseen.power_w), ("energy_j", unseen.time_s * unseen.power_w),
    ):  # fmt: skip
        low, high = getattr(found, name + "_low"), getattr(found, name + "_high")
        assert 0.92 <= ((low <= value) & (value <= high))[inside].mean() <= 0.99, name
        assert ((low <= getattr(found, name)) & (getattr(found, name) <= high)).all(), name


def test_held_out_figures_in_the_file_are_those_of_unseen_shapes(fitted, calibration, unseen):
    off = np.abs(predict(calibration, unseen.shapes).time_s / unseen.time_s - 1).mean() * 100
    assert fitted.errors_time.mape == pytest.approx(off, rel=0.35)
    assert fitted.errors_time.count == 500
    assert sum(site.count for site in fitted.errors_time.by_site) == 500
    assert sum(site.count for site in fitted.errors_time.by_size) == 500
    assert fitted.errors_time.roofline_mape > 3 * fitted.errors_time.mape


def test_nothing_is_faster_than_the_roofs_nor_outside_the_board_limits(calibration):
    rng = np.random.default_rng(3)
    shapes = make_shapes(*(np.round(2 ** rng.uniform(0, 17, 3000)) for _ in range(3)))
    found = predict(calibration, shapes)
    assert (found.time_s >= shapes.flop / CHIP.flop_per_s).all()
    assert (found.time_s_low >= shapes.bytes / CHIP.bytes_per_s * 0.999999).all()
    assert (found.power_w >= IDLE_W).all()
    assert (found.energy_j <= found.time_s * np.maximum(500.0, found.power_w) * 1.000001).all()


def test_a_residual_gone_wrong_does_not_break_the_roofs(fitted):
    replace = msgspec.structs.replace
    time = replace(fitted.time, residual=replace(fitted.time.residual, constant=-5.0))
    wild = replace(fitted, time=time, growth=None)
    shapes = make_shapes([16, 2048, 4096], [4096, 2048, 4096], [4096, 2048, 1024])
    found = predict(wrapped(wild), shapes)
    roofs = np.maximum(shapes.flop / CHIP.flop_per_s, shapes.bytes / CHIP.bytes_per_s)
    assert found.time_s == pytest.approx(roofs, rel=1e-12)
    warm = predict(wrapped(replace(wild, floor_memory=False)), shapes)
    assert warm.time_s[0] < 0.9 * roofs[0]


def test_outside_the_domain_intervals_widen_and_say_so():
    fitted = fitting.fit(points(300, largest=4096), CHIP, "bf16", chip_source="made up")
    calibration = wrapped(fitted)
    inside = calibration.predict(2048, 2048, 2048)
    outside = calibration.predict([32768, 131072], [32768, 131072], 4096)
    assert not inside.extrapolated[0]
    assert outside.extrapolated.all()
    half = np.log(outside.time_s_high / outside.time_s)
    assert half[1] > half[0] > 1.3 * np.log(inside.time_s_high / inside.time_s)[0]
    truth = true_time(make_shapes([32768, 131072], [32768, 131072], 4096))
    assert ((outside.time_s_low <= truth) & (truth <= outside.time_s_high)).all()
    assert np.abs(outside.time_s / truth - 1).max() < 0.15
    assert calibration.predict(2048, 2048, 2048, layout="tn").extrapolated[0]


def test_few_points_and_none_get_wider_intervals_not_a_refusal():
    halves = []
    m, n, k = (sizes[0] for sizes in (points(60).shapes.m, points(60).shapes.n, points(60).shapes.k))
    for count in (0, 5, 60):
        made = points(60).take(slice(0, count))
        found = wrapped(fitting.fit(made, CHIP, "bf16", chip_source="made up")).predict(m, n, k)
        halves.append(float(np.log(found.time_s_high / found.time_s)[0]))
    assert halves[0] > halves[1] > halves[2] > 0.03


@pytest.mark.parametrize("count", [1, 3])
def test_so_few_points_that_they_fit_by_luck_have_wide_intervals_all_the_same(count):
    made = points(20)
    lucky = type(made)(made.shapes, made.layout, core_time(START, made.shapes, CHIP), made.power_w).take(slice(count))
    interval = fitting.fit(lucky, CHIP, "bf16", chip_source="made up").time.interval
    assert interval.quantile * interval.floor == pytest.approx(0.9 / count, rel=1e-6)


def test_what_a_launch_or_memory_limits_is_no_bound_on_larger_shapes():
    tiny, thin, large = make_shapes(64, 64, 64), make_shapes(16, 16384, 16384), make_shapes(8192, 8192, 8192)
    for shapes, sustained in ((tiny, None), (thin, None), (large, 0.74 * CHIP.flop_per_s)):
        made = Points(shapes, np.zeros(1), true_time(shapes), np.full(1, np.nan))
        fitted = fitting.fit(made, CHIP, "bf16", chip_source="made up")
        assert fitted.sustained_flop_per_s == (sustained and pytest.approx(sustained, rel=0.02))
        found = wrapped(fitted).predict(16384, 16384, 16384).time_s
        assert found == pytest.approx(true_time(make_shapes(16384, 16384, 16384)), rel=0.5)
        if sustained:
            assert found[0] >= 2 * 16384**3 / fitted.sustained_flop_per_s


def test_a_sibling_helps_where_points_are_few(fitted, unseen):
    few = points(40, seed=12)
    off = []
    for priors in ((), (lender("sibling", fitted),)):
        found = predict(wrapped(fitting.fit(few, CHIP, "bf16", chip_source="made up", priors=priors)), unseen.shapes)
        off.append(np.abs(found.time_s / true_time(unseen.shapes) - 1).mean())
    assert off[1] < off[0]


def test_no_shapes_are_no_predictions(calibration):
    found = calibration.predict([], [], [])
    assert len(found) == 0
    assert found.energy_j.shape == (0,)


def test_batch_counts(calibration):
    found = calibration.predict(512, 512, 512, batch=[1, 64])
    assert found.time_s[1] > 8 * found.time_s[0]


def test_runs_become_a_file_and_back(tmp_path, unseen):
    run = write(tmp_path / "run.jsonl", points(150))
    file = calibrating.calibrate([run], calibrating.Wanted(), "0.1.0")
    path = tmp_path / "cal.json"
    files.save(file, path)
    again = files.load_calibration(path)
    assert again.file == file
    shapes = unseen.shapes
    assert (predict(again, shapes).time_s == predict(Calibration(file), shapes).time_s).all()
    assert (file.gpu, file.kind, file.unvalidated) == ("Made-up 100", "kernel", False)
    assert file.fitted[0].points == file.fitted[0].power_points == len(set(file.fitted[0].shapes))
    assert path.stat().st_size < 3e6


def test_a_fit_worse_than_a_roofline_is_refused(tmp_path):
    made = points(40)
    rng = np.random.default_rng(0)
    nonsense = type(made)(made.shapes, made.layout, made.time_s * np.exp(rng.normal(0, 3, len(made))), made.power_w)
    run = write(tmp_path / "run.jsonl", nonsense)
    with pytest.raises(CalibrationRefused, match="a plain roofline"):
        calibrating.calibrate([run], calibrating.Wanted(), "0.1.0")


def test_a_hundred_thousand_shapes_in_seconds(calibration):
    import time

    rng = np.random.default_rng(1)
    sizes = [np.round(2 ** rng.uniform(0, 14, 100_000)) for _ in range(3)]
    start = time.process_time()
    found = calibration.predict(*sizes)
    assert time.process_time() - start < 10  # of two cores' CPU time: five seconds
    one = calibration.predict(*(size[99_999] for size in sizes))
    assert found.time_s[99_999] == pytest.approx(one.time_s[0], rel=1e-12)


@pytest.mark.parametrize(
    "sizes", [(0, 1, 1), (1.5, 1, 1), (np.nan, 1, 1), (2**25, 1, 1), ("x", 1, 1), ([1, 2], [1, 2, 3], 1)]
)
def test_sizes_that_are_none_are_refused(calibration, sizes):
    with pytest.raises(InputError):
        calibration.predict(*sizes)


def test_an_unknown_dtype_or_layout_is_refused(calibration):
    with pytest.raises(InputError, match="has no fp16"):
        calibration.predict(1, 1, 1, dtype="fp16")
    with pytest.raises(InputError, match="unknown layout"):
        calibration.predict(1, 1, 1, layout="tt")
