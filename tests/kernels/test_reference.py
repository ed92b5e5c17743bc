"""The correctness gate: passes what computes, catches what is broken, in every format, whole and by probing."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from gemmkernels import reference
from gemmkernels.backend import Device, Operands
from gemmkernels.inputs import make_operands
from gemmkernels.problem import Problem
from gemmkernels.reference import check, error_bound

CPU = Device("cpu", "a CPU")
FORMATS = ["bf16", "fp16", "tf32", "fp32", "int8", "fp8_e4m3"]


def rounded(values: torch.Tensor, dtype: str) -> torch.Tensor:
    """What a tensor core takes of `values`: tf32 drops 13 of fp32's bits."""
    if dtype != "tf32":
        return values
    return (values.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


def product(operands: Operands, dtype: str) -> torch.Tensor:
    """A correct kernel's accumulator: fp32 sums, the longest a fast CPU path allows; int8 exactly."""
    wide = torch.float64 if dtype == "int8" else torch.float32
    result = rounded(operands.a, dtype).to(wide) @ rounded(operands.b, dtype).to(wide)
    if operands.scale_a is not None and operands.scale_b is not None:
        result = result * operands.scale_a * operands.scale_b
    return result


def correct(operands: Operands, dtype: str) -> None:
    operands.out.copy_(product(operands, dtype))


def drops_a_k_tile(operands: Operands, dtype: str) -> None:
    a = operands.a.clone()
    a[..., 64:96] = torch.zeros((), dtype=a.dtype)
    correct(Operands(a, operands.b, operands.out, operands.scale_a, operands.scale_b), dtype)


def swaps_a_layout(operands: Operands, dtype: str) -> None:
    k, n = operands.b.shape[-2:]
    read_transposed = operands.b.contiguous().view(n, k).mT
    correct(Operands(operands.a, read_transposed, operands.out, operands.scale_a, operands.scale_b), dtype)


def scales_by_two_percent(operands: Operands, dtype: str) -> None:
    operands.out.copy_(product(operands, dtype) * 1.02)


def leaves_a_tile_unwritten(operands: Operands, dtype: str) -> None:
    result = product(operands, dtype)
    operands.out[:-32] = result[:-32].to(operands.out.dtype)
    operands.out[-32:, :-32] = result[-32:, :-32].to(operands.out.dtype)


def writes_a_tile_of_zeros(operands: Operands, dtype: str) -> None:
    correct(operands, dtype)
    operands.out[32:64, 64:96] = 0


def transposes_the_result(operands: Operands, dtype: str) -> None:
    result = product(operands, dtype)
    operands.out.copy_(result.mT.contiguous().view(result.shape))


def is_off_by_one_row(operands: Operands, dtype: str) -> None:
    operands.out.copy_(product(operands, dtype).roll(1, dims=-2))


def repeats_the_last_row(operands: Operands, dtype: str) -> None:
    correct(operands, dtype)
    operands.out[-1] = operands.out[-2]


def leaves_one_element(operands: Operands, dtype: str) -> None:
    result = product(operands, dtype).to(operands.out.dtype)
    operands.out[:-1] = result[:-1]
    operands.out[-1, 1:] = result[-1, 1:]


def writes_nothing(operands: Operands, dtype: str) -> None:
    pass


BROKEN = [
    drops_a_k_tile,
    swaps_a_layout,
    scales_by_two_percent,
    leaves_a_tile_unwritten,
    writes_a_tile_of_zeros,
    transposes_the_result,
    is_off_by_one_row,
    repeats_the_last_row,
    leaves_one_element,
    writes_nothing,
]


@pytest.fixture(params=["full", "freivalds"])
def method(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "freivalds":
        monkeypatch.setattr(reference, "FULL_CHECK_FLOP", 0)
    return request.param


def run(kernel: Callable[[Operands, str], None], problem: Problem, seed: int = 0) -> reference.Correctness:
    operands = make_operands(problem, CPU, seed=seed)[0]
    return check(problem, lambda given: kernel(given, problem.dtype), operands)


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("layout", ["nn", "nt", "tn"])
def test_a_correct_kernel_passes_with_margin(dtype: str, layout: str, method: str):
    found = run(correct, Problem(200, 328, 520, dtype=dtype, layout=layout))
    assert found.method == method
    assert found.ok
    assert found.relative_error <= found.bound / 1.5
    assert found.relative_error == 0.0 if dtype == "int8" else found.relative_error > found.bound / 500


@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_kernel_is_caught(broken: Callable[[Operands, str], None], dtype: str, method: str):
    found = run(broken, Problem(200, 328, 520, dtype=dtype))
    assert not found.ok
    unwritten = (leaves_a_tile_unwritten, leaves_one_element, writes_nothing)
    if dtype != "int8" and broken in unwritten:
        assert found.relative_error == math.inf
    else:
        assert found.relative_error > 1.5 * found.bound


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "tf32", "fp32"])
def test_one_dropped_tile_of_a_long_sum_is_caught(dtype: str, method: str):
    problem = Problem(128, 128, 16384, dtype=dtype)
    assert run(correct, problem).ok
    found = run(drops_a_k_tile, problem)
    assert not found.ok
    assert found.relative_error == pytest.approx(math.sqrt(32 / 16384), rel=0.15)


def test_one_wrong_row_among_many_is_caught(method: str):
    """Over all of C it would be sqrt(2 / 65536) = 0.55 %, inside bf16's bound."""

    def repeats_a_row(operands: Operands, dtype: str) -> None:
        correct(operands, dtype)
        operands.out[30_000] = operands.out[30_001]

    found = run(repeats_a_row, Problem(65536, 16, 16, dtype="bf16"))
    assert found.relative_error > 0.05
    assert not found.ok


@pytest.mark.parametrize("corner", [(0, 0), (0, -1), (-1, 0), (-1, -1)])
def test_one_wrong_element_in_a_corner_is_caught_by_its_tile(corner: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    def misses_the_corner(operands: Operands, dtype: str) -> None:
        correct(operands, dtype)
        operands.out[corner] += 3 * math.sqrt(16)

    monkeypatch.setattr(reference, "FULL_CHECK_FLOP", 0)
    found = run(misses_the_corner, Problem(256, 8192, 16, dtype="bf16"))
    assert found.relative_error == pytest.approx(3 / 128, rel=0.1)
    assert not found.ok


def test_bf16_truncated_instead_of_rounded_passes(method: str):
    def truncates(operands: Operands, dtype: str) -> None:
        bits = product(operands, dtype).view(torch.int32) & ~0xFFFF
        operands.out.copy_(bits.view(torch.float32))

    found = run(truncates, Problem(256, 256, 256, dtype="bf16"))
    assert found.relative_error == pytest.approx(3.3e-3, rel=0.1)
    assert found.ok


def test_tf32_in_place_of_fp32_is_caught(method: str):
    problem = Problem(128, 128, 16384, dtype="fp32")
    found = run(lambda operands, _: correct(operands, "tf32"), problem)
    assert found.bound < 2e-5
    assert found.relative_error > 10 * found.bound


def test_another_rows_scale_is_caught(method: str):
    def shifts_scales(operands: Operands, dtype: str) -> None:
        assert operands.scale_a is not None
        scale = operands.scale_a.roll(1, dims=0)
        correct(Operands(operands.a, operands.b, operands.out, scale, operands.scale_b), dtype)

    problem = Problem(200, 328, 520, dtype="fp8_e4m3", layout="nt", scaling="row")
    assert run(correct, problem).ok
    assert not run(shifts_scales, problem).ok


@pytest.mark.parametrize("dtype", ["bf16", "fp32", "int8"])
def test_every_pair_of_a_batch_is_compared(dtype: str, method: str):
    def forgets_the_last(operands: Operands, dtype: str) -> None:
        result = product(operands, dtype)
        result[-1] = result[0]
        operands.out.copy_(result)

    problem = Problem(40, 24, 56, batch=5, dtype=dtype, layout="tn")
    assert run(correct, problem).ok
    found = run(forgets_the_last, problem)
    assert not found.ok
    assert found.relative_error > 1.0


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 1, 1000), (2, 1, 500), (1, 300, 64), (300, 1, 64), (65, 1, 1000), (129, 257, 1)]
)
@pytest.mark.parametrize("dtype", ["bf16", "fp16", "tf32", "fp32"])
def test_thin_problems_are_not_refused_for_cancellation(shape: tuple[int, int, int], dtype: str, method: str):
    for seed in range(20):
        found = run(correct, Problem(*shape, dtype=dtype), seed=seed)
        assert found.ok, (seed, found)


def test_blocks_cover_all_of_c(monkeypatch: pytest.MonkeyPatch, method: str):
    """With memory for only a few rows and columns at a time, the figure is the same."""
    problem = Problem(200, 328, 520, dtype="bf16")
    whole = run(correct, problem)
    monkeypatch.setattr(reference, "CHUNK_ELEMENTS", 520 * 37)
    pieces = run(correct, problem)
    assert pieces.relative_error == pytest.approx(whole.relative_error, rel=1e-9)
    assert not run(leaves_one_element, problem).ok


def test_probing_estimates_the_error_that_the_whole_comparison_finds(monkeypatch: pytest.MonkeyPatch):
    problem = Problem(1024, 1024, 256, dtype="bf16")
    full = run(correct, problem)
    monkeypatch.setattr(reference, "FULL_CHECK_FLOP", 0)
    assert run(correct, problem).relative_error == pytest.approx(full.relative_error, rel=0.15)


def test_zero_inputs_are_judged_absolutely(method: str):
    problem = Problem(64, 64, 64, dtype="fp32")
    operands = make_operands(problem, CPU, distribution="zeros")[0]
    assert check(problem, lambda given: correct(given, "fp32"), operands).relative_error == 0.0

    def writes_ones(given: Operands) -> None:
        given.out.fill_(1.0)

    assert not check(problem, writes_ones, operands).ok


@pytest.mark.parametrize(
    ("problem", "bound"),
    [
        (Problem(1, 1, 1024, dtype="bf16"), 2 * (2**-8 + 2**-24 * (32 + 64))),
        (Problem(1, 1, 1024, dtype="fp16"), 2 * (2**-11 + 2**-24 * (32 + 64))),
        (Problem(1, 1, 1024, dtype="bf16", out_dtype="fp32"), 2 * (2**-24 + 2**-24 * (32 + 64))),
        (Problem(1, 1, 1024, dtype="tf32"), 2 * (2**-10 + 2**-24 + 2**-24 * (32 + 64))),
        (Problem(1, 1, 1024, dtype="fp32"), 2 * (2**-24 + 2**-24 * 32)),
        (Problem(1, 1, 1024, dtype="fp8_e4m3"), 2 * (2**-8 + 2**-14 * 16)),
        (Problem(1, 1, 1024, dtype="int8"), 0.0),
    ],
)
def test_bounds_are_those_derived(problem: Problem, bound: float):
    assert error_bound(problem) == pytest.approx(bound, rel=1e-12)


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "tf32", "fp32"])
def test_no_bound_lets_two_percent_or_a_dropped_tile_through_at_16384(dtype: str):
    assert error_bound(Problem(128, 128, 16384, dtype=dtype)) < 0.01 < math.sqrt(32 / 16384)
