"""A system file for Calculon, held against its documented formula, written down here a second time."""

from __future__ import annotations

import json

import numpy as np
import pytest
from known_gpu import known

from flopwatt.analysis.formats import calculon
from flopwatt.analysis.formats.exporting import gemms
from flopwatt.errors import InputError

ELEMENT_BYTES = {"bfloat16": 2, "float16": 2, "float8": 1}


def first_at_most(steps, size):
    return next(value for least, value in steps if size >= least)


def linear_s(system, datatype, m, n, k):
    """Calculon's time of one linear layer's pass, in seconds."""
    flop = 2 * m * n * k
    matrix = system["matrix"][datatype]
    flop_s = flop / (matrix["tflops"] * 1e12 * first_at_most(matrix["gflops_efficiency"], flop / 1e9))
    moved = (m * k + k * n + m * n) * ELEMENT_BYTES[datatype]
    memory = system["mem1"]
    memory_s = moved / (memory["GBps"] * 1e9 * first_at_most(memory["MB_efficiency"], moved / 1e6))
    return flop_s + memory_s if system["processing_mode"] == "no_overlap" else max(flop_s, memory_s)


def exported(calibration, asked=(), mode="no_overlap"):
    made = calculon.export(calibration, {"bf16": gemms.from_rows(asked, "bf16")} if asked else {}, mode)
    return json.loads(made.files[""]), made


@pytest.mark.parametrize("mode", ["no_overlap", "roofline"])
def test_its_formula_gives_the_time_of_every_exported_gemm_within_one_percent(mode):
    calibration = known()
    rows = [
        (4096, 12288, 6144, 1),
        (4096, 6144, 2048, 1),
        (8192, 28672, 4096, 1),
        (512, 1024, 1024, 1),
        (96, 128, 64, 1),
    ]
    for asked in ((), rows):
        system, made = exported(calibration, asked, mode)
        shapes = made.predicted[0].shapes
        assert len(shapes) == (len(rows) if asked else 16)
        for m, n, k in zip(shapes.m, shapes.n, shapes.k, strict=True):
            wanted = float(calibration.predict(m, n, k).time_s[0])
            assert linear_s(system, "bfloat16", m, n, k) == pytest.approx(wanted, rel=0.01), (m, n, k)


def test_without_subtracting_the_memory_term_it_would_be_off():
    calibration = known()
    system, _ = exported(calibration, mode="roofline")
    naive = {**system, "processing_mode": "no_overlap"}
    wanted = float(calibration.predict(2048, 2048, 2048).time_s[0])
    assert linear_s(naive, "bfloat16", 2048, 2048, 2048) > 1.15 * wanted


def test_gemms_of_equal_flop_take_together_what_they_take():
    calibration = known()
    rows = [(4096, 12288, 1536, 1), (4096, 1536, 12288, 1), (12288, 1536, 4096, 1)]
    system, made = exported(calibration, rows)
    assert len(system["matrix"]["bfloat16"]["gflops_efficiency"]) == 1
    wanted = sum(float(calibration.predict(m, n, k).time_s[0]) for m, n, k, _ in rows)
    assert sum(linear_s(system, "bfloat16", m, n, k) for m, n, k, _ in rows) == pytest.approx(wanted, rel=1e-6)
    assert any("3 of 3 GEMMs share their FLOP" in note for note in made.notes)


def test_a_gpu_half_as_fast_has_half_the_efficiency_in_roofline():
    rows = [(8192, 8192, 8192, 1)]
    fast, slow = (exported(known(slower=slower), rows, "roofline")[0] for slower in (1.0, 2.0))
    ((_, quick),), ((_, halved),) = (one["matrix"]["bfloat16"]["gflops_efficiency"] for one in (fast, slow))
    assert halved == pytest.approx(quick / 2)


def test_a_gemm_beyond_the_formula_is_said():
    rows = [(2048, 2048, 32, 1)]
    _, made = exported(known(slower=0.5), rows)
    assert any("1 of 1 steps are off by more than 1 %" in note and "no_overlap" in note for note in made.notes)


def test_the_file_is_what_calculon_accepts():
    system, made = exported(known(dtypes=("bf16", "fp8_e4m3")))
    assert set(system["matrix"]) == set(system["vector"]) == {"bfloat16", "float8"}
    for engine in (*system["matrix"].values(), *system["vector"].values()):
        gflop, efficiency = np.array(engine["gflops_efficiency"]).T
        assert (np.diff(gflop) < 0).all()
        assert gflop[-1] == 0
        assert ((efficiency > 0) & (efficiency <= 1)).all()
    keys = {"bandwidth", "efficiency", "size", "latency", "ops", "must_be_filled", "processor_usage"}
    for network in system["networks"]:
        assert set(network) == keys
        assert set(network["ops"]) == {"p2p", "reduce_scatter", "all_gather", "all_reduce"}
        assert network["ops"]["p2p"][1] is None
    assert system["mem1"]["GiB"] == 80
    assert system["networks"][0]["bandwidth"] == 450
    assert made.stated["networks[0].bandwidth"].value == 450


def test_foreign_words_are_refused():
    with pytest.raises(InputError, match="Calculon has none of int8"):
        calculon.export(known(dtypes=("int8",)), {})
    with pytest.raises(InputError, match="takes kernel figures"):
        calculon.export(known(kind="layer"), {})
    layer = known(dtypes=("bf16", "fp8_e4m3"), layers=("fp8_e4m3",))
    with pytest.raises(InputError, match="takes kernel figures, and this calibration's fp8_e4m3 is of kind layer"):
        calculon.export(layer, {"fp8_e4m3": gemms.squares("fp8_e4m3")})
    with pytest.raises(InputError, match="choose one of no_overlap, roofline"):
        calculon.mode("sum")


def test_a_format_whose_times_are_a_layers_is_left_out_and_said_to_be():
    made = calculon.export(known(dtypes=("bf16", "fp8_e4m3"), layers=("fp8_e4m3",)), {})
    assert set(json.loads(made.files[""])["matrix"]) == {"bfloat16"}
    assert "fp8_e4m3 left out: its times are of a layer, not of a GEMM alone" in made.notes


def test_gemms_of_one_size_are_said_to_stand_for_no_others():
    tiny = calculon.export(known(), {"bf16": gemms.from_rows([(1, 64, 64, 1)], "bf16")})
    assert any("times are off (median) by a factor of" in note for note in tiny.notes)


def test_figures_that_nobody_checked_say_so():
    checked, unverified = (calculon.export(known(gpu), {}).stated for gpu in ("H100-SXM5-80GB", "B200-SXM6-180GB"))
    for name in ("mem1.GBps", "networks[0].bandwidth", "networks[1].bandwidth"):
        assert not checked[name].source.endswith("unverified")
        assert unverified[name].source.endswith("; unverified")
