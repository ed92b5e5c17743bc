"""The backends that leave fp8 sums in the tensor cores: apart from those that promote, and never among their tuning."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from compiling import DEVICES, compile_first

from gemmkernels.backend import BACKENDS, load
from gemmkernels.problem import Problem

PAIRS = {name.removesuffix("-fast"): name for name in BACKENDS if name.endswith("-fast")}
FP8 = Problem(8192, 8192, 8192, dtype="fp8_e4m3", layout="nt", scaling="row")
HOPPER = DEVICES[90]


def test_every_fast_backend_has_one_that_promotes_beside_it():
    assert PAIRS == {
        "torch-fp8": "torch-fp8-fast",
        "triton-persistent": "triton-persistent-fast",
        "gluon-persistent": "gluon-persistent-fast",
    }
    assert set(PAIRS) < set(BACKENDS)


@pytest.mark.parametrize("promoting", PAIRS)
def test_all_candidates_of_a_backend_sum_alike(promoting: str):
    for name, fast in ((promoting, False), (PAIRS[promoting], True)):
        backend = load(name)
        assert backend.supports(FP8, HOPPER) is None
        assert {config["fast_accumulation"] for config in backend.configs(FP8, HOPPER)} == {fast}


@pytest.mark.parametrize("promoting", ["triton-persistent", "gluon-persistent"])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_other_formats_are_refused_and_sent_to_the_other_backend(promoting: str, dtype: str):
    refusal = load(PAIRS[promoting]).supports(Problem(64, 64, 64, dtype=dtype), HOPPER)
    assert refusal == f"fast accumulation is of fp8 formats: choose {promoting}"


def test_what_the_promoting_backend_refuses_the_fast_one_does():
    misaligned = Problem(64, 64, 24, dtype="fp8_e4m3", layout="nt")
    for promoting, fast in PAIRS.items():
        assert load(fast).supports(misaligned, HOPPER) == load(promoting).supports(misaligned, HOPPER)
        assert load(fast).supports(FP8, DEVICES[80]) is not None


@pytest.mark.parametrize("promoting", ["triton-persistent", "gluon-persistent"])
def test_without_a_second_accumulator_the_largest_tiles_are_candidates(promoting: str):
    def widest(name: str) -> set[tuple[object, object]]:
        return {(config["BLOCK_M"], config["BLOCK_N"]) for config in load(name).configs(FP8, HOPPER)}

    assert (128, 256) in widest(PAIRS[promoting])
    assert (128, 256) not in widest(promoting)


@pytest.mark.parametrize("name", ["triton-persistent-fast", "gluon-persistent-fast"])
def test_the_fast_default_adds_nothing_up_outside_the_tensor_cores(name: str):
    backend = load(name)
    config = backend.configs(FP8, HOPPER)[0]
    assert (config["BLOCK_M"], config["BLOCK_N"]) == (128, 256)
    compiled = compile_first(backend.calls, FP8, config, 90)  # type: ignore[attr-defined]
    assert compiled.instructions("QGMMA.64x256x32") > 0
    assert compiled.instructions("FADD") == 0
    assert compiled.stack_bytes == 0


@pytest.mark.slow
@pytest.mark.parametrize("capability", [90, 100])
def test_every_fast_candidate_compiles_without_spills(capability: int):
    for name in ("triton-persistent-fast", "gluon-persistent-fast"):
        backend = load(name)
        if backend.supports(FP8, DEVICES[capability]) is None:
            for config in backend.configs(FP8, DEVICES[capability]):
                compiled = compile_first(backend.calls, FP8, config, capability)  # type: ignore[attr-defined]
                assert compiled.stack_bytes == 0, config
                assert compiled.shared_bytes <= DEVICES[capability].shared_memory_bytes, config
