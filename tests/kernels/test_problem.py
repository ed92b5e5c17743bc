"""Sizes, FLOP and bytes of a problem, and that asking about one loads neither PyTorch nor Triton."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gemmkernels import backend
from gemmkernels.problem import Problem, ProblemError


def test_flop_and_bytes_are_those_of_the_definition():
    problem = Problem(8192, 4096, 2048, dtype="bf16")
    assert problem.flop == 2 * 8192 * 4096 * 2048
    assert problem.min_bytes == 2 * (8192 * 2048 + 2048 * 4096 + 8192 * 4096)
    assert problem.arithmetic_intensity == pytest.approx(1170.29, abs=0.01)
    assert problem.shape == "8192x4096x2048"


def test_a_batch_multiplies_flop_and_bytes():
    one, eight = Problem(64, 32, 16), Problem(64, 32, 16, batch=8)
    assert eight.flop == 8 * one.flop
    assert eight.min_bytes == 8 * one.min_bytes
    assert eight.shape == "8x64x32x16"


@pytest.mark.parametrize(
    ("dtype", "out", "expected"),
    [("fp8_e4m3", "bf16", 1 + 1 + 2), ("int8", "int32", 1 + 1 + 4), ("tf32", "fp32", 12), ("fp16", "fp16", 6)],
)
def test_each_format_has_its_usual_output(dtype: str, out: str, expected: int):
    problem = Problem(1, 1, 1, dtype=dtype)
    assert problem.out_dtype == out
    assert problem.min_bytes == expected


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ({"m": 0}, "positive integer"),
        ({"k": 2**24 + 1}, "1..16777216"),
        ({"dtype": "fp64"}, "choose one of fp32"),
        ({"layout": "tt"}, "choose one of nn, nt, tn"),
        ({"scaling": "row"}, "others none"),
        ({"m": 2**24, "n": 2**24}, "fits a GPU's memory"),
    ],
)
def test_what_no_gemm_can_be_is_refused_with_its_remedy(arguments: dict, remedy: str):
    with pytest.raises(ProblemError, match=remedy):
        Problem(**{"m": 16, "n": 16, "k": 16, **arguments})


def test_every_backend_named_loads_and_answers():
    cpu = backend.Device("cpu", "a CPU")
    for name in backend.BACKENDS:
        module = backend.load(name)
        assert module.SUMMARY
        refusal = module.supports(Problem(16, 16, 16, dtype="fp8_e5m2"), cpu)
        assert refusal is not None
        assert "choose" in refusal
        assert "\n" not in refusal


def test_an_unknown_backend_is_refused_with_those_there_are():
    with pytest.raises(backend.UnknownBackend, match=r"choose from torch, .*numpy"):
        backend.load("cutlass")


def test_problems_and_plans_need_no_torch_and_no_triton():
    program = (
        "import gemmkernels.problem, gemmkernels.backend, gemmkernels.distribution, sys;"
        "print([name for name in ('torch', 'triton', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=_path())
    assert done.stdout.strip() == "[]"


def _path() -> dict[str, str]:
    import os
    from pathlib import Path

    return {**os.environ, "PYTHONPATH": str(Path(backend.__file__).parents[1])}
