"""PyTorch's fp8 and int8 GEMMs: right numbers, the entry points of each PyTorch version, refusals, broken ones caught.

PyTorch emulates both on a CPU, so that the very calls a GPU gets are run here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from gemmkernels import torch_fp8, torch_fp8_fast, torch_int8
from gemmkernels.backend import BACKENDS, Device, Launch, Operands, baseline, load
from gemmkernels.inputs import make_operands
from gemmkernels.problem import DTYPES, Problem
from gemmkernels.reference import check

CPU = Device("cpu", "a CPU")
A100 = Device("cuda", "NVIDIA A100", 0, (8, 0))
L4 = Device("cuda", "NVIDIA L4", 0, (8, 9))
H100 = Device("cuda", "NVIDIA H100", 0, (9, 0))
T4 = Device("cuda", "Tesla T4", 0, (7, 5))

SHAPE = (70, 96, 272)


def fp8(m: int = 70, n: int = 96, k: int = 272, scaling: str = "row", **more: object) -> Problem:
    return Problem(m, n, k, layout="nt", scaling=scaling, **{"dtype": "fp8_e4m3", **more})  # type: ignore[arg-type]


@pytest.mark.parametrize("module", [torch_fp8, torch_fp8_fast])
@pytest.mark.parametrize("scaling", ["tensor", "row"])
@pytest.mark.parametrize("out_dtype", ["bf16", "fp16", "fp32"])
def test_fp8_products_are_right_and_written_in_place(module, scaling: str, out_dtype: str):
    problem = fp8(scaling=scaling, out_dtype=out_dtype)
    operands = make_operands(problem, CPU)[0]
    address = operands.out.data_ptr()
    found = check(problem, module.prepare(problem, module.configs(problem, H100)[0], CPU), operands)
    assert found.ok, found
    assert found.relative_error < found.bound / 2, "with margin"
    assert operands.out.data_ptr() == address


@pytest.mark.parametrize("layout", ["nn", "nt", "tn"])
@pytest.mark.parametrize("shape", [SHAPE, (1, 1, 1), (17, 8, 40)])
def test_int8_products_are_exact_and_written_in_place(layout: str, shape: tuple[int, int, int]):
    problem = Problem(*shape, dtype="int8", layout=layout)
    assert torch_int8.supports(problem, CPU) is None
    operands = make_operands(problem, CPU)[0]
    address = operands.out.data_ptr()
    found = check(problem, torch_int8.prepare(problem, {}, CPU), operands)
    assert (found.relative_error, found.bound) == (0.0, 0.0)
    assert operands.out.data_ptr() == address


class Recorder:
    """Takes a call in place of PyTorch."""

    def __init__(self) -> None:
        self.calls: list[tuple[tuple, dict]] = []

    def __call__(self, *positional: object, **named: object) -> None:
        self.calls.append((positional, named))


@pytest.mark.parametrize(("module", "fast"), [(torch_fp8, False), (torch_fp8_fast, True)])
@pytest.mark.parametrize("scaling", ["tensor", "row"])
def test_scaled_mm_is_asked_for_what_the_public_function_asks(
    monkeypatch: pytest.MonkeyPatch, module, fast: bool, scaling: str
):
    """The same arguments as torch.nn.functional.scaled_mm, and beside them only `out`."""
    functional = torch.nn.functional
    if not hasattr(functional, "ScalingType"):
        pytest.skip("this PyTorch has no public scaled_mm")
    problem = fp8(scaling=scaling, out_dtype="bf16")
    operands = make_operands(problem, CPU)[0]
    launch = _recorded(monkeypatch, "_scaled_mm_v2", module, problem)
    ours, theirs = launch(operands), Recorder()
    monkeypatch.setattr(torch, "_scaled_mm_v2", theirs)
    recipe = functional.ScalingType.RowWise if scaling == "row" else functional.ScalingType.TensorWise
    functional.scaled_mm(
        operands.a, operands.b, operands.scale_a, recipe, operands.scale_b, recipe, use_fast_accum=fast
    )
    ((expected, _),) = theirs.calls
    ((positional, named),) = ours.calls
    *expected, contraction, expected_fast = expected
    assert _comparable(positional) == _comparable(expected)
    assert contraction == ()
    assert named["use_fast_accum"] is expected_fast is fast
    assert named["out"] is operands.out


@pytest.mark.parametrize(("module", "fast"), [(torch_fp8, False), (torch_fp8_fast, True)])
def test_an_older_pytorch_gets_the_private_entry_point(monkeypatch: pytest.MonkeyPatch, module, fast: bool):
    monkeypatch.delattr(torch.nn.functional, "ScalingType", raising=False)
    problem = fp8(out_dtype="fp32")
    operands = make_operands(problem, CPU)[0]
    assert check(problem, module.prepare(problem, {}, CPU), operands).ok
    recorder = _recorded(monkeypatch, "_scaled_mm", module, problem)(operands)
    ((positional, named),) = recorder.calls
    assert positional == (operands.a, operands.b, operands.scale_a, operands.scale_b)
    assert named == {"out_dtype": torch.float32, "use_fast_accum": fast, "out": operands.out}


def _recorded(monkeypatch: pytest.MonkeyPatch, name: str, module, problem: Problem) -> Callable[[Operands], Recorder]:
    recorder = Recorder()
    monkeypatch.setattr(torch, name, recorder)
    launch = module.prepare(problem, module.configs(problem, H100)[0], CPU)

    def run(operands: Operands) -> Recorder:
        launch(operands)
        return recorder

    return run


def _comparable(arguments: object) -> object:
    """Tensors by their identity, since comparing them compares their elements."""
    if isinstance(arguments, torch.Tensor):
        return id(arguments)
    return [_comparable(item) for item in arguments] if isinstance(arguments, (list, tuple)) else arguments


@pytest.mark.parametrize(
    ("module", "problem", "device", "reason"),
    [
        (torch_fp8, Problem(64, 64, 64), H100, "choose backend torch"),
        (torch_fp8, fp8(dtype="fp8_e5m2"), H100, "no e5m2 by e5m2"),
        (torch_fp8, fp8(), A100, "compute capability 8.9"),
        (torch_fp8, fp8(), CPU, "emulates fp8 on a CPU"),
        (torch_fp8, fp8(n=100), H100, "N = 100"),
        (torch_fp8, fp8(k=100), H100, "K = 100"),
        (torch_fp8, fp8(batch=2), H100, "batch 1"),
        (torch_fp8, fp8(out_dtype="fp32"), H100, "out_dtype bf16"),
        (torch_fp8, fp8(scaling="tensor", out_dtype="int32"), H100, "not int32"),
        (torch_fp8, Problem(64, 64, 64, dtype="fp8_e4m3", layout="nn"), H100, "choose layout nt"),
        (torch_fp8, Problem(64, 64, 64, dtype="fp8_e4m3", layout="tn"), H100, "transposed beforehand"),
        (torch_fp8_fast, fp8(), A100, "compute capability 8.9"),
        (torch_int8, Problem(64, 64, 64), H100, "choose backend torch"),
        (torch_int8, Problem(64, 64, 64, dtype="int8", out_dtype="bf16"), H100, "out_dtype int32"),
        (torch_int8, Problem(64, 64, 64, batch=2, dtype="int8"), CPU, "batch 1"),
        (torch_int8, Problem(64, 64, 64, dtype="int8", layout="nt"), T4, "compute capability 8.0"),
        (torch_int8, Problem(64, 64, 64, dtype="int8", layout="nn"), A100, "choose layout nt"),
        (torch_int8, Problem(16, 64, 64, dtype="int8", layout="nt"), A100, "M of 17"),
        (torch_int8, Problem(64, 60, 64, dtype="int8", layout="nt"), A100, "N = 60"),
        (torch_int8, Problem(64, 64, 60, dtype="int8", layout="nt"), A100, "K = 60"),
    ],
)
def test_refusals_say_why_and_what_instead(module, problem: Problem, device: Device, reason: str):
    refusal = module.supports(problem, device)
    assert refusal is not None
    assert reason in refusal
    assert "choose" in refusal


@pytest.mark.parametrize("device", [L4, H100], ids=["sm_89", "sm_90"])
@pytest.mark.parametrize("m", [1, 17, 4096])
def test_fp8_takes_any_number_of_rows(device: Device, m: int):
    for scaling, out_dtype in (("row", "bf16"), ("tensor", "bf16"), ("tensor", "fp16"), ("tensor", "fp32")):
        assert torch_fp8.supports(fp8(m=m, scaling=scaling, out_dtype=out_dtype), device) is None


def test_int8_starts_at_17_rows():
    assert torch_int8.supports(Problem(17, 8, 8, dtype="int8", layout="nt"), A100) is None


def test_sums_that_differ_in_accuracy_are_no_candidates_of_each_other():
    assert list(torch_fp8.configs(fp8(), H100)) == [{"fast_accumulation": False}]
    assert list(torch_fp8_fast.configs(fp8(), H100)) == [{"fast_accumulation": True}]


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_baseline_of_a_format_multiplies_it(dtype: str):
    name = baseline(dtype)
    assert name in BACKENDS
    scaling = "tensor" if dtype.startswith("fp8") else None
    refusal = load(name).supports(Problem(4096, 4096, 4096, dtype=dtype, layout="nt", scaling=scaling), H100)
    assert (refusal is None) == (dtype != "fp8_e5m2")


def _dropping_terms(launch: Launch, terms: int) -> Launch:
    def dropping(operands: Operands) -> None:
        k = operands.a.shape[-1]
        launch(replace(operands, a=operands.a[..., : k - terms], b=operands.b[..., : k - terms, :]))

    return dropping


def _with_scales(launch: Launch, change: Callable[[torch.Tensor], torch.Tensor], which: str) -> Launch:
    return lambda operands: launch(replace(operands, **{which: change(getattr(operands, which))}))


BREAKS: dict[str, Callable[[Launch], Launch]] = {
    "a K tile dropped": lambda launch: _dropping_terms(launch, 32),
    "the scale of A twice": lambda launch: _with_scales(launch, torch.square, "scale_a"),
    "the scale of B forgotten": lambda launch: _with_scales(launch, torch.ones_like, "scale_b"),
    "scales of the next row": lambda launch: _with_scales(launch, lambda s: s.roll(1, -2).contiguous(), "scale_a"),
    "scales of the next column": lambda launch: _with_scales(launch, lambda s: s.roll(1, -1).contiguous(), "scale_b"),
    "nothing written": lambda launch: lambda operands: None,
}


@pytest.mark.parametrize("dtype", ["fp8_e4m3", "fp8_e5m2"])
@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_fp8_kernel_is_caught(dtype: str, how: str):
    problem = fp8(dtype=dtype)
    launch = torch_fp8.prepare(problem, {}, CPU)
    assert check(problem, launch, make_operands(problem, CPU)[0]).ok
    found = check(problem, BREAKS[how](launch), make_operands(problem, CPU)[0])
    assert not found.ok
    assert found.relative_error > 2 * found.bound


@pytest.mark.parametrize("how", ["a K tile dropped", "nothing written"])
def test_a_broken_int8_kernel_is_caught(how: str):
    problem = Problem(*SHAPE, dtype="int8", layout="nt")
    launch = BREAKS[how](torch_int8.prepare(problem, {}, CPU))
    found = check(problem, launch, make_operands(problem, CPU)[0])
    assert not found.ok
    assert math.isfinite(found.relative_error)
    assert found.relative_error > 0.1


def test_one_int8_product_too_few_is_caught():
    problem = Problem(*SHAPE, dtype="int8", layout="nt")
    launch = _dropping_terms(torch_int8.prepare(problem, {}, CPU), 1)
    assert not check(problem, launch, make_operands(problem, CPU)[0]).ok
