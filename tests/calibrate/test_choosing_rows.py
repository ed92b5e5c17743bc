"""Which rows a calibration is made of, and what it says of those that it leaves out."""

import dataclasses

import msgspec
import pytest
from made_up_gpu import changed, points, write

from flopwatt.analysis.calibrate import calibrating
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.errors import InputError
from flopwatt.runs.records import TIMED, SequenceItem, Use

pytestmark = pytest.mark.usefixtures("unfitted")


def calibrated(*paths, **wanted):
    return calibrating.calibrate(paths, calibrating.Wanted(**wanted), "0.1.0").fitted


def short(record, window_s):
    measurement = msgspec.structs.replace(record.measurement, window_s=window_s)
    return msgspec.structs.replace(record, measurement=measurement)


def test_watts_over_short_windows_are_left_out_and_counted(tmp_path):
    run = changed(
        write(tmp_path / "run.jsonl", points(12)),
        record=lambda record, place: short(record, 0.5 if place < 5 else 5.0),
    )
    (one,) = calibrated(run)
    assert one.points == 12
    ((reason, count),) = one.left_out.items()
    assert reason.startswith("watts only: watts averaged over 0.5 s, less than")
    assert count == 5


def test_windows_of_many_lengths_are_one_reason(tmp_path):
    run = changed(
        write(tmp_path / "run.jsonl", points(12)), record=lambda record, place: short(record, 0.3 + place / 1000)
    )
    (one,) = calibrated(run)
    assert one.left_out == {"watts only: watts averaged over … s, less than the … s that a sensor may need": 12}


def test_a_row_that_several_suites_use_counts_once(tmp_path):
    uses = tuple(Use(suite=name, role="gemm") for name in ("one", "two"))
    run = changed(
        write(tmp_path / "run.jsonl", points(12), window_s=0.5),
        record=lambda record, _: msgspec.structs.replace(record, uses=uses),
    )
    (one,) = calibrated(run)
    assert list(one.left_out.values()) == [12]


def test_failures_and_sequences_are_counted_by_their_format(tmp_path):
    def spoilt(record, place):
        case = record.case
        if place == 0:
            return msgspec.structs.replace(record, status="failed", measurement=None)
        if place == 1:
            items = (SequenceItem(problem=case.problem, role="qkv"),)
            return msgspec.structs.replace(record, case=msgspec.structs.replace(case, problem=None, sequence=items))
        if place >= 8:
            problem = dataclasses.replace(case.problem, dtype="fp16", out_dtype="fp16")
            return msgspec.structs.replace(record, case=msgspec.structs.replace(case, problem=problem))
        return record

    bf16, fp16 = calibrated(changed(write(tmp_path / "run.jsonl", points(12)), record=spoilt))
    assert (bf16.dtype, bf16.points, bf16.left_out) == ("bf16", 6, {"failed or skipped": 1, "a sequence of GEMMs": 1})
    assert (fp16.dtype, fp16.points, fp16.left_out) == ("fp16", 4, {})


def test_several_backends_are_not_mixed(tmp_path):
    run = write(tmp_path / "run.jsonl", points(60), backends=("torch", "triton-tiled"))
    with pytest.raises(InputError, match="choose one with --backend"):
        calibrated(run)
    (one,) = calibrated(run, backend="torch")
    assert one.points <= 30
    assert one.left_out == {"of another backend than torch": 30}


def test_equal_shapes_are_one_point_at_the_geometric_mean(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        calibrating,
        "fit",
        lambda points, *words, fit=calibrating.fit, **how: seen.append(points) or fit(points, *words, **how),
    )
    first = write(tmp_path / "first.jsonl", points(1))
    second = changed(
        write(tmp_path / "second.jsonl", points(1)),
        record=lambda record, _: msgspec.structs.replace(
            record, measurement=msgspec.structs.replace(record.measurement, time_s=4 * record.measurement.time_s)
        ),
    )
    (one,) = calibrated(first, second)
    assert one.points == 1
    assert seen[0].time_s[0] == pytest.approx(2 * points(1).time_s[0])


def test_rows_of_a_machine_that_is_not_described_are_left_out(tmp_path):
    run = write(tmp_path / "run.jsonl", points(40))
    text = run.read_text()
    run.write_text("".join(line for line in text.splitlines(keepends=True) if '"type":"segment"' not in line))
    with pytest.raises(InputError, match="no measured GEMM left"):
        calibrated(run)


def test_times_that_hold_more_than_the_gemm_are_a_layers(tmp_path):
    run = changed(
        write(tmp_path / "run.jsonl", points(12)),
        record=lambda record, place: msgspec.structs.replace(record, settings={TIMED: "quantisation and GEMM"}),
    )
    file = calibrating.calibrate([run], calibrating.Wanted(), "0.1.0")
    assert [one.kind for one in file.fitted] == ["layer"]
    assert Calibration(file).kind("bf16") == "layer"
    (alone,) = calibrated(write(tmp_path / "alone.jsonl", points(12)))
    assert alone.kind is None
