"""What a calibration tells of the board, its state, the files it is from and the code that made it."""

import hashlib
import subprocess

import msgspec
import pytest
from made_up_gpu import GPU, changed, points, write

from flopwatt.analysis.calibrate import calibrating, files, provenance
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.calibrate.records import Spread
from flopwatt.errors import InputError


def calibrated(*paths, priors=()):
    return calibrating.calibrate(paths, calibrating.Wanted(), "0.1.0", priors)


@pytest.fixture(scope="module")
def two_boards(tmp_path_factory):
    """A calibration of two runs: another driver, clock and temperature in the second."""
    folder = tmp_path_factory.mktemp("runs")
    first = changed(
        write(folder / "first.jsonl", points(20)),
        environment={"vbios": "96.00", "versions": {"torch": "2.11", "cuda": "12.8"}},
    )

    def warmer(record, place):
        measurement = msgspec.structs.replace(
            record.measurement, clock_hz=1.5e9 + place, temp_c=60.0, throttle_power=0.25, throttle_thermal=0.0
        )
        return msgspec.structs.replace(record, measurement=measurement)

    second = changed(
        write(folder / "second.jsonl", points(20, seed=3)),
        header={"id": "c" * 32, "licence": "MIT"},
        environment={"driver": "581.2", "versions": {"torch": "2.13", "cuda": "12.8"}},
        record=warmer,
    )
    return folder, calibrated(first, second)


def test_identity_holds_every_value_that_occurred(two_boards):
    identity = two_boards[1].identity
    assert identity.boards == ("b" * 12,)
    assert identity.vbios == ("96.00",)
    assert identity.driver == ("580.1", "581.2")
    assert identity.cuda == ("12.8",)
    assert identity.frameworks == {"torch": ("2.11", "2.13")}
    assert identity.kernels == ("torch",)


def test_state_is_the_spread_of_what_was_read(two_boards):
    state = two_boards[1].state
    assert (state.regime, state.inputs, state.cache) == ("sustained", "normal", "rotating")
    assert state.power_limit_w == Spread(low=500.0, median=500.0, high=500.0, count=40)
    assert state.clock_hz == Spread(low=1.5e9, median=1.5e9, high=1.5e9, count=20)
    assert state.temp_c == Spread(low=60.0, median=60.0, high=60.0, count=20)
    assert state.throttle_power.median == 0.25
    assert state.throttle_thermal.high == 0.0


def test_sources_hold_hash_run_and_licence_of_each_file(two_boards):
    folder, file = two_boards
    assert [source.file for source in file.sources] == ["first.jsonl", "second.jsonl"]
    assert [source.run_id for source in file.sources] == ["a" * 32, "c" * 32]
    assert [source.licence for source in file.sources] == ["CC0-1.0", "MIT"]
    for source in file.sources:
        assert source.sha256 == hashlib.sha256((folder / source.file).read_bytes()).hexdigest()
        assert (source.gpu, source.origin, source.prior) == (GPU, "imported", False)
    assert file.origin == "imported"


def test_the_points_are_in_the_file_with_what_was_said_of_them(two_boards):
    one = two_boards[1].fitted[0]
    assert len(one.shapes) == len(one.layouts) == len(one.measured_w) == len(one.held_out_w) == one.points
    assert set(one.layouts) == {"nt"}
    off = sum(abs(said / was - 1) for said, was in zip(one.held_out_w, one.measured_w, strict=True)) / one.points
    assert one.errors_power.mape == pytest.approx(off * 100, rel=1e-3)


def test_a_prior_that_helped_is_a_source(tmp_path, two_boards):
    prior = Calibration(msgspec.structs.replace(two_boards[1], gpu="Sibling"))
    file = calibrated(write(tmp_path / "few.jsonl", points(25, seed=5)), priors=[prior])
    assert [lent.gpu for lent in file.fitted[0].time.residual.transfers] == ["Sibling"]
    assert [(source.file, source.prior) for source in file.sources] == [
        ("few.jsonl", False), ("first.jsonl", True), ("second.jsonl", True),
    ]  # fmt: skip


def test_simulated_and_real_do_not_mix(tmp_path, two_boards, unfitted):
    run = changed(
        write(tmp_path / "few.jsonl", points(12)),
        header={"origin": "simulated"},
        record=lambda record, _: msgspec.structs.replace(record, origin="simulated"),
    )
    with pytest.raises(InputError, match="simulated GPUs learn from simulated ones alone"):
        calibrated(run, priors=[Calibration(two_boards[1])])
    with pytest.raises(InputError, match="several of origin"):
        calibrated(run, write(tmp_path / "other.jsonl", points(12, seed=2)))
    assert calibrated(run).origin == "simulated"


def test_the_commit_is_that_of_the_checkout_or_none(monkeypatch, tmp_path):
    def refuses(*_, **__):
        raise subprocess.CalledProcessError(128, "git")

    found = provenance.commit()
    assert found is None or len(found.removesuffix("-dirty")) == 40
    monkeypatch.setattr(subprocess, "run", refuses)
    assert provenance.commit() is None


def test_what_is_not_known_is_null_not_a_guess(tmp_path):
    file = calibrating.from_spec_sheet("H100-SXM5-80GB", "0.1.0")
    files.save(file, tmp_path / "cal.json")
    again = files.load_calibration(tmp_path / "cal.json").file
    assert again == file
    assert (again.origin, again.unvalidated, again.sources) == (None, True, ())
    assert again.identity.form_factor == "SXM5"
    assert again.identity.driver == ()
    assert again.state.power_limit_w is None
    assert all(one.idle_w is None and one.limit_w == 700.0 for one in again.fitted)
