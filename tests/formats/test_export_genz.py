"""A system for GenZ: rates that give back the predicted totals, in its units."""

from __future__ import annotations

import json

import numpy as np
import pytest
from consumers import answer
from known_gpu import known

from flopwatt.analysis.formats import genz
from flopwatt.analysis.formats.exporting import gemms
from flopwatt.errors import InputError

MODELS = gemms.models(["llama-3.1-8b"])

PREFILL = """
import json, sys
from GenZ import decode_moddeling, prefill_moddeling
system = json.load(open(sys.argv[1]))
words = dict(model="meta-llama/llama-3.1-8b", batch_size=1, system_name=system, bits=sys.argv[2], system_eff=1)
prefill = prefill_moddeling(input_tokens=4096, **words)
decode = decode_moddeling(input_tokens=128, output_tokens=2, **words)
parts = {row["Layer Name"]: row["Latency (msec)"] * 1e-3 for _, row in prefill["model_df"].iterrows()}
print(json.dumps({"prefill_ms": prefill["Latency"], "decode_ms": decode["Latency"], "parts": parts}))
"""


def exported(calibration, dtype=None):
    made = genz.export(calibration, MODELS, dtype)
    return json.loads(made.files[""]), made


def test_the_rates_give_back_the_totals_of_prefill_and_decode():
    calibration = known()
    system, made = exported(calibration)
    prefill, decode = made.predicted
    assert system["Flops"] * 1e12 == pytest.approx(np.sum(prefill.shapes.flop) / np.sum(prefill.found.time_s))
    assert system["Memory_BW"] * 2**30 == pytest.approx(np.sum(decode.shapes.bytes) / np.sum(decode.found.time_s))
    assert system["Memory_size"] == 80
    assert system["ICN"] * 2**30 == pytest.approx(450e9)
    assert system["real_values"] is True


def test_fp8_is_turned_back_into_the_bf16_rate_that_genz_doubles():
    calibration = known(dtypes=("bf16", "fp8_e4m3"))
    (plain, _), (eight, made) = exported(calibration), exported(calibration, "fp8_e4m3")
    rate = np.sum(made.predicted[0].shapes.flop) / np.sum(made.predicted[0].found.time_s)
    assert eight["Flops"] * 1e12 == pytest.approx(rate / 2)
    assert eight["Flops"] != plain["Flops"]
    assert "bits='fp8'" in made.usage


def test_formats_and_kinds_that_it_has_not_are_refused():
    with pytest.raises(InputError, match="GenZ has no tf32"):
        exported(known(dtypes=("tf32",)))
    with pytest.raises(InputError, match="takes kernel or layer figures"):
        exported(known(kind="end_to_end"))


@pytest.mark.slow
def test_genz_itself_answers_with_the_exported_rates(tmp_path):
    answers = {}
    for slower in (1.0, 2.0):
        path = tmp_path / f"{slower}.json"
        path.write_bytes(exported(known(slower=slower))[1].files[""])
        answers[slower] = answer(PREFILL, path, "bf16")
    assert answers[2.0]["prefill_ms"] == pytest.approx(2 * answers[1.0]["prefill_ms"])
    # What GenZ keeps on the chip moves at a speed that no system names.
    assert answers[2.0]["decode_ms"] == pytest.approx(2 * answers[1.0]["decode_ms"], rel=1e-3)
    one = known().predict(4096, 28672, 4096).time_s[0]
    assert answers[1.0]["parts"]["up+gate"] == pytest.approx(one, rel=0.05)
    other = tmp_path / "fp8.json"
    eight = known(dtypes=("fp8_e4m3",))
    other.write_bytes(exported(eight)[1].files[""])
    one = eight.predict(4096, 28672, 4096, dtype="fp8_e4m3").time_s[0]
    assert answer(PREFILL, other, "fp8")["parts"]["up+gate"] == pytest.approx(one, rel=0.05)


def test_the_kind_is_that_of_the_format_asked_for():
    calibration = known(dtypes=("bf16", "fp8_e4m3"), layers=("fp8_e4m3",))
    kinds = [genz.export(calibration, gemms.models(("llama-2-7b",)), dtype).kind for dtype in ("bf16", "fp8_e4m3")]
    assert kinds == ["kernel", "layer"]
