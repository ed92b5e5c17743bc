"""Scalars for llm-analysis: a whole model's rate, never a GEMM's, from which it answers the predicted step."""

from __future__ import annotations

import json

import pytest
from consumers import answer
from known_gpu import known

from flopwatt.analysis.cost.choosing import Wanted
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.formats import llm_analysis
from flopwatt.analysis.formats.llm_analysis import Training, flop_of_step
from flopwatt.errors import InputError
from flopwatt.runs.suites import load_model

TRAIN = """
import json, sys
from llm_analysis.analysis import train
from llm_analysis.config import GPUConfig, gpu_configs
gpu, words = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("gpu", "train"))
gpu_configs[gpu["name"]] = GPUConfig(**gpu)
found = train(model_name=f"{sys.argv[1]}/model.json", log_level="ERROR", **words)
print(json.dumps({name: found[name] for name in ("latency_per_iter", "gpu_hours", "flops_efficiency")}))
"""
TOKENS = 1e12
WANTED = Wanted(gpus=256, tp=4, pp=1, seq=4096, micro_batch=1, global_batch=512)


def exported(calibration, model="llama-2-70b", wanted=WANTED):
    made = llm_analysis.export(calibration, Training(model, TOKENS, wanted))
    return made, {name: json.loads(content) for name, content in made.files.items()}


def test_a_kernel_calibration_alone_is_refused_with_the_way_out():
    with pytest.raises(InputError, match=r"takes end_to_end figures.*kind kernel: give --model NAME --gpus N"):
        llm_analysis.export(known(), None)


def test_the_export_is_tagged_end_to_end_and_far_below_gemm_speed():
    made, files = exported(known())
    assert made.kind == "end_to_end"
    gemm = 2 * 4096 * 28672 * 8192 / known().predict(4096, 28672, 8192).time_s[0]
    assert 0.2 * gemm < files["train.json"]["achieved_tflops"] * 1e12 < 0.9 * gemm
    assert files["gpu.json"]["peak_fp16_TFLOPS"] == pytest.approx(989.4)
    assert files["gpu.json"]["hbm_bandwidth_in_GB_per_sec"] == pytest.approx(3350)


def test_operations_are_counted_as_llm_analysis_counts_them():
    # 24·b·s·L·h²·(1 + s/6h + V/12Lh) forward, for a model with as many K/V heads as heads: its own formula.
    model = load_model("gpt-3-175b")
    layout = Layout(global_batch=8, seq=2048)
    hidden, layers = model.hidden_size, model.num_layers
    correction = 1 + 2048 / (6 * hidden) + model.vocab_size / (12 * layers * hidden)
    forward = 24 * 8 * 2048 * layers * hidden**2 * correction
    assert flop_of_step(model, layout) == pytest.approx(3 * forward, rel=1e-9)
    full = Layout(global_batch=8, seq=2048, recompute="full")
    assert flop_of_step(model, full) == pytest.approx(4 * forward, rel=1e-9)


def test_a_layout_that_cannot_be_is_refused():
    with pytest.raises(InputError):
        exported(known(), wanted=Wanted(gpus=1, seq=4096))


def step_s(made):
    return float(made.notes[0].split(" in ")[1].split()[0])


@pytest.mark.slow
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_llm_analysis_itself_answers_the_predicted_step(tmp_path, recompute):
    answers = []
    for slower in (1.0, 1.25):
        wanted = Wanted(gpus=256, tp=8, pp=4, seq=4096, micro_batch=1, global_batch=512, recompute=recompute)
        made, files = exported(known(slower=slower), "llama-2-70b", wanted)
        folder = tmp_path / str(slower)
        folder.mkdir()
        for name, content in made.files.items():
            (folder / name).write_bytes(content)
        found = answer(TRAIN, folder)
        steps = int(TOKENS / (512 * 4096))
        assert found["latency_per_iter"] == pytest.approx(step_s(made), rel=1e-3)
        assert found["gpu_hours"] == pytest.approx(steps * step_s(made) * 256 / 3600, rel=1e-3)
        rate = files["train.json"]["achieved_tflops"]
        assert found["flops_efficiency"] == pytest.approx(rate / 989.4)
        answers.append((found["latency_per_iter"], rate))
    (quick_s, quick), (slow_s, slow) = answers
    assert slow_s / quick_s == pytest.approx(quick / slow)
    assert 1.05 < slow_s / quick_s <= 1.25
