"""A system folder for aiconfigurator: what its own engine answers from it, on rows and in between."""

from __future__ import annotations

import io
import itertools
import logging
import re

import numpy as np
import pandas as pd
import pytest
from consumers import run
from known_gpu import known

from flopwatt.analysis.formats.aiconfigurator import open_table, systems
from flopwatt.analysis.formats.exporting import files, gemms
from flopwatt.analysis.formats.exporting.export import describe
from flopwatt.errors import InputError

TABLE = "data/h100_sxm5_80gb/gemm/vllm/0.1.0/gemm_perf.parquet"


@pytest.fixture(scope="module")
def export():
    return systems.export(known(), gemms.models(()), None)


def written(path, made, calibration):
    files.write(path, made.files, describe(made, "aiconfigurator", calibration, "0" * 64, "0.1.0").to_json())
    return path


def test_every_row_holds_the_prediction_in_their_units(export):
    table = pd.read_parquet(io.BytesIO(export.files[TABLE]))
    found = known().predict(table.m, table.n, table.k)
    np.testing.assert_allclose(table.latency, found.time_s * 1e3, rtol=1e-12)
    np.testing.assert_allclose(table.power, found.power_w, rtol=1e-12)
    assert set(table.power_limit) == {700.0}
    assert set(table.gemm_dtype) == {"bfloat16"}
    assert not table.duplicated(["m", "n", "k"]).any()


def test_our_importer_reads_it_back(export, tmp_path):
    path = tmp_path / "gemm_perf.parquet"
    path.write_bytes(export.files[TABLE])
    for entry in itertools.islice(open_table(path).rows, 0, 6000, 1000):
        problem = entry.case.problem
        expected = known().predict(problem.m, problem.n, problem.k)
        assert entry.measurement.time_s == pytest.approx(expected.time_s[0])
        assert entry.measurement.power_w == pytest.approx(expected.power_w[0])
        assert (problem.dtype, problem.layout) == ("bf16", "nt")


@pytest.fixture(scope="module")
def engine(export, tmp_path_factory):
    """Time and energy of one GEMM as aiconfigurator's own engine answers them."""
    database = pytest.importorskip("aiconfigurator_core.sdk.perf_database", reason="the extra reference is missing")
    from aiconfigurator_core.sdk.common import GEMMQuantMode
    from aiconfigurator_core.sdk.operations.gemm import GEMM

    logging.getLogger("aiconfigurator_core").setLevel(logging.ERROR)
    folder = written(tmp_path_factory.mktemp("aiconfigurator") / "systems", export, known())
    loaded = database.get_database("h100_sxm5_80gb", "vllm", "0.1.0", systems_paths=str(folder))

    def answer(m, n, k):
        found = GEMM("gemm", 1.0, int(n), int(k), GEMMQuantMode.bfloat16)._engine_query(loaded, x=int(m))
        return float(found) * 1e-3, found.energy * 1e-3

    return answer


def answers(engine, m, n, k):
    found = np.array([engine(*row) for row in zip(m, n, k, strict=True)])
    wanted = known().predict(m, n, k)
    return np.abs(found[:, 0] / wanted.time_s - 1), np.abs(found[:, 1] / wanted.energy_j - 1)


def test_its_engine_answers_rows_exactly_in_time_and_energy(engine):
    time_off, energy_off = answers(engine, (1, 4096, 64), (28672, 4096, 1024), (4096, 14336, 1024))
    assert time_off.max() < 1e-6
    assert energy_off.max() < 1e-6


def test_weights_of_known_models_are_answered_within_waves_at_any_number_of_tokens(engine):
    pairs = np.array([(10240, 8192), (8192, 28672), (1280, 8192), (106496, 16384), (6144, 4096)])
    m = np.array([100, 500, 1000, 3000, 6000, 10000])
    n, k = np.repeat(pairs, len(m), axis=0).T
    time_off, _ = answers(engine, np.tile(m, len(pairs)), n, k)
    assert np.mean(time_off) < 0.03
    assert time_off.max() < 0.15


def test_weights_of_no_model_are_interpolated(engine):
    rng = np.random.default_rng(3)
    m = np.round(2 ** rng.uniform(0, 15, 200)).astype(int)
    n, k = (np.round(2 ** rng.uniform(7, 15, 200) / 64).astype(int).clip(1) * 64 for _ in range(2))
    time_off, energy_off = answers(engine, m, n, k)
    assert np.mean(time_off) < 0.06
    assert np.mean(energy_off) < 0.06


def test_without_measured_watts_there_is_no_power_column():
    made = systems.export(known(power_points=0), (), None)
    assert "power" not in pd.read_parquet(io.BytesIO(made.files[TABLE])).columns
    assert any("no measured watts" in note for note in made.notes)


def test_fp8_of_a_kernel_is_left_out_and_said_to_be():
    made = systems.export(known(dtypes=("bf16", "fp8_e4m3")), (), None)
    assert set(pd.read_parquet(io.BytesIO(made.files[TABLE])).gemm_dtype) == {"bfloat16"}
    assert any(note.startswith("fp8 left out") for note in made.notes)
    with pytest.raises(InputError, match="can be given none of fp8_e4m3"):
        systems.export(known(dtypes=("fp8_e4m3",)), (), None)


@pytest.mark.parametrize("words", [{"kind": "layer"}, {"layers": ("fp8_e4m3",)}])
def test_fp8_of_a_layer_is_a_row_of_theirs(words):
    calibration = known(dtypes=("bf16", "fp8_e4m3"), **words)
    table = pd.read_parquet(io.BytesIO(systems.export(calibration, (), None).files[TABLE]))
    row = table[table.gemm_dtype == "fp8"].iloc[-1]
    found = calibration.predict(row.m, row.n, row.k, dtype="fp8_e4m3")
    assert row.latency == pytest.approx(found.time_s[0] * 1e3)


def test_end_to_end_figures_are_refused():
    with pytest.raises(InputError, match="takes kernel or layer figures"):
        systems.export(known(kind="end_to_end"), (), None)


def test_a_shipped_system_lends_its_other_tables_and_is_named():
    pytest.importorskip("aiconfigurator_core", reason="the extra reference is missing")
    made = systems.export(known(), (), "h100_sxm/vllm")
    system = made.files["h100_sxm5_80gb.yaml"].decode()
    assert "mem_empirical_constant_latency: 0.000003" in system
    stack = next(path for path in made.files if path.endswith("gemm_perf.parquet")).split("/")[3:5]
    copied = [path for path in made.files if path.endswith("context_attention_perf.parquet")]
    assert copied == [f"data/h100_sxm5_80gb/attention/{'/'.join(stack)}/context_attention_perf.parquet"]
    assert any("copied unchanged" in note and note.endswith("licence: Apache-2.0") for note in made.notes)
    assert made.stated["gpu.mem_empirical_constant_latency"].source.endswith("systems/h100_sxm.yaml")
    assert sum("gemm_perf" in path for path in made.files) == 1


@pytest.mark.parametrize(("base", "said"), [("h100_sxm", "several stacks"), ("z100", "neither a file nor a system")])
def test_a_base_that_is_none_names_the_choices(base, said):
    pytest.importorskip("aiconfigurator_core", reason="the extra reference is missing")
    with pytest.raises(InputError, match=said):
        systems.export(known(), (), base)


def test_a_base_of_another_architecture_is_refused():
    pytest.importorskip("aiconfigurator_core", reason="the extra reference is missing")
    with pytest.raises(InputError, match="its attention is of another architecture than H100-SXM5-80GB"):
        systems.export(known(), (), "a100_sxm/vllm")


@pytest.mark.parametrize("version", ["../../../../../out", "/out", "", "1/..", "1..2", 'a"\nb: c'])
def test_words_of_a_calibration_name_no_path(version):
    made = systems.export(known(flopwatt=version), (), None)
    table = TABLE.replace("0.1.0", "0")
    assert set(made.files) == {
        "h100_sxm5_80gb.yaml", table, table.replace("gemm_perf.parquet", "collection_meta.yaml")
    }  # fmt: skip


def test_peaks_are_stated_at_the_clock_that_they_hold_for(export):
    peak = export.stated["gpu.bfloat16_tc_flops"]
    assert peak.value == pytest.approx(132 * 4096 * 1.98e9)
    assert peak.source.startswith("at 1.98 GHz, its highest: NVIDIA H100 datasheet")


def estimate(folder, model, tokens):
    """What `aiconfigurator cli estimate` prints for one prefill: ms of each GEMM, and watts a GPU or None."""
    said = run(
        "-m", "aiconfigurator.main", "cli", "estimate", "--systems-paths", folder, "--system", "h100_sxm5_80gb",
        "--backend", "vllm", "--model", model, "--estimate-mode", "static_ctx", "--isl", str(tokens), "--osl", "2",
        "--batch-size", "1", "--detail", "time,energy",
    )  # fmt: skip
    times = {name: float(text) for name, text in re.findall(r"context_(\w+_gemm) +([0-9.]+) ms", said)}
    joules = {name: float(text) * 1e-3 for name, text in re.findall(r"context_(\w+_gemm) +([0-9.]+) W·ms", said)}
    watts = re.search(r"Power \(per GPU\): +([0-9.]+) W", said)
    return times, joules, float(watts[1]) if watts else None


@pytest.mark.slow
def test_aiconfigurator_itself_prints_latency_and_watts_from_the_export(tmp_path):
    layers, tokens, hidden, inner = 126, 4096, 16384, 53248
    answers = {}
    for slower in (1.0, 2.0):
        calibration = known(slower=slower)
        made = systems.export(calibration, gemms.models(()), "h100_sxm/vllm")
        folder = written(tmp_path / str(slower), made, calibration)
        answers[slower] = estimate(folder, "meta-llama/Meta-Llama-3.1-405B", tokens)
    (times, joules, watts), (slow_times, slow_joules, slow_watts) = answers[1.0], answers[2.0]
    down = known().predict(tokens, hidden, inner)
    assert times["ffn2_gemm"] == pytest.approx(layers * down.time_s[0] * 1e3, rel=1e-4)
    assert joules["ffn2_gemm"] == pytest.approx(layers * down.energy_j[0], rel=1e-4)
    for name in ("qkv_gemm", "proj_gemm", "gate_ffn1_gemm", "ffn2_gemm"):
        assert slow_times[name] == pytest.approx(2 * times[name], rel=1e-3)
        assert slow_joules[name] == pytest.approx(2 * joules[name], rel=1e-3)
    # Attention and the rest have no watts: aiconfigurator counts them as 0 W, so that its mean stays below a GEMM's.
    assert watts is not None
    assert 0.85 * down.power_w[0] < watts < down.power_w[0]
    assert watts < slow_watts < down.power_w[0]


@pytest.mark.slow
def test_aiconfigurator_prints_no_watts_where_none_were_measured(tmp_path):
    calibration = known(power_points=0)
    made = systems.export(calibration, gemms.models(()), "h100_sxm/vllm")
    times, joules, watts = estimate(written(tmp_path / "s", made, calibration), "meta-llama/Meta-Llama-3.1-405B", 4096)
    assert times
    assert (joules, watts) == ({}, None)
