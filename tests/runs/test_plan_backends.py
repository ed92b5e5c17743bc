"""Which backend a plan takes where none was named."""

from __future__ import annotations

import pytest

from flopwatt.runs.plan import Choices, build
from flopwatt.runs.suites import load_model, load_suite, suite_from_model


@pytest.mark.parametrize(
    ("dtype", "backend", "layouts", "scaling"),
    [
        ("bf16", "torch", {"nt", "nn", "tn"}, None),
        ("tf32", "torch", {"nt", "nn", "tn"}, None),
        ("fp8_e4m3", "torch-fp8", {"nt"}, "tensor"),
        ("fp8_e5m2", "torch-fp8", {"nt"}, "tensor"),
        ("int8", "torch-int8", {"nt"}, None),
    ],
)
def test_a_models_gemms_go_to_the_vendors_library_for_their_format(
    dtype: str, backend: str, layouts: set[str], scaling: str | None
):
    plan = build([suite_from_model(load_model("llama-3.1-8b"), dtype=dtype)], Choices(regimes=["sustained"]))
    assert {planned.case.backend for planned in plan.cases} == {backend}
    problems = [problem for planned in plan.cases for problem in planned.case.problems]
    assert {problem.layout for problem in problems} == layouts
    assert {problem.scaling for problem in problems} == {scaling}
    assert {use.phase for planned in plan.cases for use in planned.uses if use.headline} == {
        "forward",
        "input_grad",
        "weight_grad",
    }


def test_formats_side_by_side_each_get_their_own():
    suites = [load_suite("peak", dtype=dtype) for dtype in ("bf16", "int8", "fp8_e4m3")]
    plan = build(suites, Choices(processes=1))
    pairs = {(case.problem.dtype, case.backend) for planned in plan.cases if (case := planned.case).problem}
    assert pairs == {("bf16", "torch"), ("int8", "torch-int8"), ("fp8_e4m3", "torch-fp8")}


def test_a_named_backend_is_taken_for_every_format():
    plan = build([load_suite("peak", dtype="fp8_e4m3")], Choices(backends=("torch", "triton-persistent")))
    assert {planned.case.backend for planned in plan.cases} == {"torch", "triton-persistent"}
