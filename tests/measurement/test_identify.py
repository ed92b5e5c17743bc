"""Identifying simulated sensors end to end, what is stored of it, and what `doctor --sensor` says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from flopwatt.commands.sensor import SensorReport, meanings, view
from flopwatt.measurement import identity_store
from flopwatt.measurement.identify import identify_sensor, with_sampling_effect
from flopwatt.measurement.messages import Broken, Identified, RigSpec
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.worker_client import Worker
from flopwatt.runs.records import SensorIdentity

A_FIGURE = SensorIdentity(source="nvml", method="switched load and beat test", update_period_s=0.1, window_s=0.025)


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def varied(chip, faults=None, **sensor):
    scenario = load_scenario(chip)
    return msgspec.structs.replace(
        scenario,
        sensor=msgspec.structs.replace(scenario.sensor, **sensor),
        faults=msgspec.structs.replace(scenario.faults, **(faults or {})),
    )


def identified(scenario, seed=0):
    """(identity, board, seconds of GPU time) of one board."""
    rig = SimulatedRig(scenario, seed=seed, board=seed, idle=False)
    begun = rig.clock.now_ns()
    return identify_sensor(rig), rig.gpu.board, (rig.clock.now_ns() - begun) * 1e-9


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("chip", ["a100", "h100"])
def test_the_shipped_chips_are_told_in_under_a_minute(chip, seed):
    it, board, gpu_s = identified(load_scenario(chip), seed)
    assert it.update_period_s == pytest.approx(board.update_period_s, rel=0.02)
    assert it.window_s == pytest.approx(board.window_s, rel=0.2)
    assert it.counter_tick_s == pytest.approx(board.update_period_s, rel=0.02)
    assert it.counter_covers_all_time is True
    assert it.delay_s == pytest.approx(board.delay_s, abs=0.005)
    assert it.rise_s == pytest.approx(board.rise_s, rel=0.1)
    if board.average_window_s is None:
        assert it.average_window_s is None
    else:
        assert it.average_window_s == pytest.approx(1.0, rel=0.02)
    assert it.call_latency_s == pytest.approx(5e-6)
    assert (it.source, it.method, it.reason) == ("simulated", "switched load and beat test", None)
    assert it.gain_uncertainty == 0.05, "no load tells the gain"
    assert gpu_s < 60


@pytest.mark.parametrize(
    ("chip", "sensor"),
    [
        ("h100", {}),
        ("a100", {"window_s": 0.018}),
        ("h100", {"counter_tick_s": 0.01}),
        ("h100", {"update_period_s": 0.02, "window_s": 0.0105}),
        ("a100", {"stale": 0.1, "counter_stale": 0.1, "zero": 0.05}),
        ("h100", {"unsupported": ("instant",)}),
    ],
)
def test_a_part_time_counter_is_told(chip, sensor):
    it, board, _ = identified(varied(chip, counter_covers_all_time=False, **sensor), seed=1)
    assert it.counter_covers_all_time is False
    assert it.update_period_s == pytest.approx(board.update_period_s, rel=0.02)
    assert it.counter_tick_s == pytest.approx(sensor.get("counter_tick_s", 0.1), rel=0.02)


@pytest.mark.parametrize(
    ("sensor", "none", "reason"),
    [
        ({"unsupported": ("counter",)}, {"counter_tick_s", "counter_covers_all_time"}, "NOT_SUPPORTED"),
        ({"unsupported": ("instant",)}, {"window_s"}, "window_s unidentified: NOT_SUPPORTED"),
        (
            {"no_permission": ("instant", "average")},
            {"update_period_s", "window_s", "average_window_s", "delay_s", "rise_s", "counter_covers_all_time"},
            "update_period_s unidentified: NO_PERMISSION",
        ),
        (
            {"update_period_s": 1.0},
            {"window_s", "average_window_s", "delay_s", "rise_s", "counter_covers_all_time"},
            "a period of 1 s would take 168 s, more than 70",
        ),
    ],
)
def test_what_cannot_be_told_is_none_with_its_reason(sensor, none, reason):
    it, _, gpu_s = identified(varied("h100", **sensor))
    told = [name for name in SensorIdentity.__struct_fields__ if not name.startswith(("sampling_effect", "idle"))]
    assert {name for name in told if getattr(it, name) is None} == none
    assert "unidentified" in it.method
    assert reason in it.reason
    assert gpu_s < 120


def test_the_effect_of_sampling_is_told_beside_the_identity():
    rig = SimulatedRig(load_scenario("h100"), idle=False)
    it = with_sampling_effect(rig, A_FIGURE)
    assert it.sampling_effect_low < 0 < it.sampling_effect_high  # a simulated sampler takes nothing from the load
    assert abs(it.sampling_effect) < 0.002
    lost = SensorIdentity(source="nvml", method="unidentified")
    assert with_sampling_effect(rig, lost) is lost


def test_power_that_reads_zero_when_asked_often_is_asked_less_often():
    it, board, _ = identified(varied("h100", zero_if_polled_within_s=0.05))
    assert it.update_period_s == pytest.approx(board.update_period_s, rel=0.02)
    assert it.window_s == pytest.approx(board.window_s, rel=0.2)


def test_a_gpu_that_is_lost_is_unidentified_and_not_stored():
    it, _, _ = identified(varied("h100", faults={"lost_after_s": 12.0}))
    assert it.method == "unidentified"
    assert it.reason == "unidentified: lost while it was identified: GPU_IS_LOST"
    assert it.update_period_s is it.counter_tick_s is None
    assert identity_store.remember("0" * 12, "1.0", it) == "nothing was identified"


def test_an_identity_is_stored_per_board_driver_and_source(cache):
    assert identity_store.remember("a" * 12, "550.54", A_FIGURE) is None
    assert identity_store.recall("a" * 12, "550.54", "nvml") == A_FIGURE
    assert identity_store.recall("b" * 12, "550.54", "nvml") is None
    assert identity_store.recall("a" * 12, "560.28", "nvml") is None
    assert identity_store.recall("a" * 12, "550.54", "simulated") is None
    assert identity_store.recall(None, "550.54", "nvml") is identity_store.recall("a" * 12, None, "nvml") is None
    assert [path.suffix for path in cache.rglob("*") if path.is_file()] == [".json"], "no temporary file is left"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format":1}', b"\xff\xfe", b'{"format": 99}'])
def test_a_damaged_file_is_as_good_as_none(cache, damage):
    identity_store.remember("a" * 12, "550.54", A_FIGURE)
    (path,) = (cache / "flopwatt").rglob("*.json")
    path.write_bytes(damage)
    assert identity_store.recall("a" * 12, "550.54", "nvml") is None
    assert identity_store.remember("a" * 12, "550.54", A_FIGURE) is None, "and is replaced"
    assert identity_store.recall("a" * 12, "550.54", "nvml") == A_FIGURE


def test_another_format_is_as_good_as_none(cache, monkeypatch):
    identity_store.remember("a" * 12, "550.54", A_FIGURE)
    monkeypatch.setattr(identity_store, "FORMAT", 2)
    assert identity_store.recall("a" * 12, "550.54", "nvml") is None


def test_a_cache_that_cannot_be_written_says_what_to_do(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "set XDG_CACHE_HOME" in identity_store.remember("a" * 12, "550.54", A_FIGURE)
    assert identity_store.recall("a" * 12, "550.54", "nvml") is None


def test_a_relative_cache_home_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert identity_store.remember("a" * 12, "550.54", A_FIGURE) is None
    assert len(list((tmp_path / "home" / ".cache" / "flopwatt").rglob("*.json"))) == 1


def test_the_worker_identifies_stores_and_the_next_one_knows():
    worker = Worker(RigSpec(scenario="h100", idle=False))
    answer = worker.identify()
    worker.close()
    assert isinstance(answer, Identified)
    assert answer.not_stored is None
    assert 30 < answer.elapsed_s < 60
    assert worker.hello.sensor.update_period_s is None, "nothing was known before"
    again = Worker(RigSpec(scenario="h100", idle=False, seed=4))
    again.close()
    assert again.hello.sensor == answer.identity
    other = Worker(RigSpec(scenario="a100", idle=False))
    other.close()
    assert other.hello.sensor.update_period_s is None


def test_a_rig_of_ones_own_is_not_changed_by_what_this_machine_has_stored():
    rig = SimulatedRig(load_scenario("h100"), idle=False)
    identity_store.remember(rig.board_id, rig.sensor_version, msgspec.structs.replace(A_FIGURE, source="simulated"))
    assert SimulatedRig(load_scenario("h100"), idle=False).sensor.update_period_s is None
    assert rig.sensor_version != SimulatedRig(varied("h100", window_s=0.02), idle=False).sensor_version


def test_a_case_that_breaks_after_an_identification_is_still_answered(tmp_path):
    text = (Path(identity_store.__file__).parent / "simulation" / "scenarios" / "h100.toml").read_text()
    scenario = tmp_path / "lost.toml"
    scenario.write_text(text + "\n[faults]\nlost_after_s = 0.01\n")
    worker = Worker(RigSpec(scenario=str(scenario), idle=False))
    answer = worker.identify()
    worker.close()
    assert isinstance(answer, Broken | Identified)
    assert "lost" in (answer.message if isinstance(answer, Broken) else answer.identity.reason)


def flopwatt(*words):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-m", "flopwatt", *words],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
    )


def test_doctor_prints_the_sensor_and_a_run_then_uses_it(tmp_path):
    done = flopwatt("doctor", "--sensor", "--simulate", "h100", "--format", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["sensor"]["update_period_s"] == pytest.approx(0.1, rel=0.02)
    assert report["sensor"]["counter_covers_all_time"] is True
    assert report["idle_w"] < report["idle_context_w"]
    assert (report["origin"], report["not_stored"]) == ("simulated", None)
    run = tmp_path / "run.jsonl"
    words = ["--shape", "4096x4096x4096", "--dtype", "bf16", "--backend", "torch", "--effort", "fast"]
    assert flopwatt("run", "--simulate", "h100", *words, "--regime", "sustained", "-o", str(run)).returncode == 0
    segment = next(line for line in map(json.loads, run.read_text().splitlines()) if line["type"] == "segment")
    assert segment["sensor"] == report["sensor"]


def test_doctor_refuses_a_simulation_without_the_sensor():
    done = flopwatt("doctor", "--simulate", "h100")
    assert (done.returncode, done.stdout) == (2, "")
    assert "go with --sensor" in done.stderr


def test_doctor_on_a_machine_without_a_sensor_says_so_and_no():
    done = flopwatt("doctor", "--sensor", "--device", "cpu")
    assert done.returncode == 1
    assert "unidentified: only a GPU's sensor is identified" in done.stdout


def report_of(identity, **fields):
    defaults = {"gpu": "NVIDIA H100", "board_id": "a" * 12, "driver": "550.54", "idle_w": 73.0, "idle_context_w": None}
    return SensorReport(origin="measured", sensor=identity, elapsed_s=46.0, not_stored=None, **{**defaults, **fields})


def test_the_table_holds_every_figure(capsys):
    from rich.console import Console

    full = msgspec.structs.replace(
        A_FIGURE, counter_tick_s=0.1, counter_covers_all_time=False, call_latency_s=7e-6, gain_uncertainty=0.05
    )
    Console(width=120, color_system=None).print(view(report_of(full)))
    text = capsys.readouterr().out
    for words in ("100.0 ms", "25.0 ms", "25% of the time is seen", "no", "7 µs", "73.0 W", "not readable", "± 5%"):
        assert words in text
    assert "board aaaaaaaaaaaa, driver 550.54" in text


def test_the_table_says_why_beside_what_is_unidentified(capsys):
    from rich.console import Console

    partly = msgspec.structs.replace(A_FIGURE, counter_tick_s=None, reason="counter_tick_s unidentified: NOT_SUPPORTED")
    Console(width=120, color_system=None).print(view(report_of(partly)))
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("energy counter tick"))
    assert row.split() == ["energy", "counter", "tick", "unidentified", "NOT_SUPPORTED"]


@pytest.mark.parametrize(
    ("figures", "sentence"),
    [
        ({"counter_tick_s": 0.1, "counter_covers_all_time": True}, "include all of the time"),
        ({"counter_tick_s": 0.1, "counter_covers_all_time": False}, "adds up readings that see 25% of the time"),
        ({"counter_tick_s": 0.1}, "is not told"),
        ({}, "No usable energy counter: watts are the mean of instant power, which sees 25% of the time"),
        ({"window_s": None}, "rows have no watts"),
        ({"average_window_s": 1.0}, "lags by 1.0 s"),
        ({"gain_uncertainty": 0.05}, "cancels between kernels on this board, not between two boards"),
        ({}, "held for 2.1 s or more"),
    ],
)
def test_what_the_figures_mean_is_said(figures, sentence):
    assert any(sentence in said for said in meanings(msgspec.structs.replace(A_FIGURE, **figures)))
