"""Operands: repeatable, distributed as named, laid out as named, many enough to leave the cache."""

from __future__ import annotations

import math

import pytest
import torch

from gemmkernels import inputs
from gemmkernels.backend import Device
from gemmkernels.distribution import DistributionError, parse_distribution
from gemmkernels.problem import DTYPES, Problem

CPU = Device("cpu", "a CPU", memory_bytes=2**34)


def test_the_same_seed_gives_the_same_values_and_another_seed_others():
    problem = Problem(33, 17, 65, dtype="bf16")
    first, second = (inputs.make_operands(problem, CPU, seed=7, sets=2) for _ in range(2))
    other = inputs.make_operands(problem, CPU, seed=8)[0]
    for left, right in zip(first, second, strict=True):
        assert torch.equal(left.a, right.a)
        assert torch.equal(left.b, right.b)
    assert not torch.equal(first[0].a, first[1].a), "sets of one call differ"
    assert not torch.equal(first[0].a, other.a)
    assert not torch.equal(first[0].a[:17, :17], first[0].b[:17, :17])


@pytest.mark.parametrize(
    ("name", "mean_square", "zero", "largest"),
    [
        ("normal", 1.0, 0.0, 6.5),
        ("uniform", 1 / 3, 0.0, 1.0),
        ("zeros", 0.0, 1.0, 0.0),
        ("integer", 4.0, 1 / 7, 3.0),
        ("sparse:0.5", 0.5, 0.5, 6.5),
        ("sparse:0.9", 0.1, 0.9, 6.5),
    ],
)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_distributions_have_their_moments(name: str, mean_square: float, zero: float, largest: float, dtype: str):
    operands = inputs.make_operands(Problem(512, 512, 512, dtype=dtype), CPU, distribution=name)[0]
    values = torch.cat([operands.a.flatten(), operands.b.flatten()]).double()
    assert float(values.square().mean()) == pytest.approx(mean_square, rel=0.02, abs=1e-12)
    assert float(values.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(values.abs().max()) <= largest
    assert inputs.audit(operands)["zero"] == pytest.approx(zero, abs=0.005)
    assert not bool((values.view(torch.int64) == torch.iinfo(torch.int64).min).any()), "no negative zeros"


def test_no_chunk_repeats_another(monkeypatch: pytest.MonkeyPatch):
    """Chunks are drawn in one stream."""
    monkeypatch.setattr(inputs, "CHUNK_ELEMENTS", 1000)
    values = inputs.make_operands(Problem(100, 1, 100, dtype="fp32"), CPU)[0].a.flatten()
    assert len(values.unique()) > 9_990


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", ["nn", "nt", "tn"])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_t_means_stored_transposed(dtype: str, layout: str, batch: int):
    problem = Problem(48, 32, 16, batch=batch, dtype=dtype, layout=layout)
    operands = inputs.make_operands(problem, CPU)[0]
    lead = (batch,) if batch > 1 else ()
    assert operands.a.shape == (*lead, 48, 16)
    assert operands.b.shape == (*lead, 16, 32)
    assert operands.a.stride()[-2:] == ((1, 48) if layout[0] == "t" else (16, 1))
    assert operands.b.stride()[-2:] == ((1, 16) if layout[1] == "t" else (32, 1))
    assert operands.out.is_contiguous()
    assert operands.out.dtype == inputs.TORCH_DTYPES[problem.out_dtype]
    if batch > 1:
        assert operands.a.stride(0) == 48 * 16


@pytest.mark.parametrize("dtype", ["fp8_e4m3", "fp8_e5m2"])
def test_fp8_operands_use_their_range_and_carry_the_factor_back(dtype: str):
    operands = inputs.make_operands(Problem(256, 256, 256, dtype=dtype), CPU)[0]
    largest = torch.finfo(operands.a.dtype).max
    assert operands.scale_a is not None
    assert operands.scale_a.shape == (1,)
    assert operands.scale_a.dtype == torch.float32
    assert float(operands.a.float().abs().max()) > largest / 2
    assert float((operands.a.double() * operands.scale_a).square().mean()) == pytest.approx(1.0, rel=0.02)
    found = inputs.audit(operands)
    assert found["nan"] == found["inf"] == 0.0
    assert found["saturated"] < 0.005


def test_row_scales_are_one_a_row_of_a_and_one_a_column_of_b():
    operands = inputs.make_operands(Problem(64, 32, 16, dtype="fp8_e4m3", layout="nt", scaling="row"), CPU)[0]
    assert operands.scale_a is not None
    assert operands.scale_b is not None
    assert operands.scale_a.shape == (64, 1)
    assert operands.scale_b.shape == (1, 32)
    assert len(operands.scale_a.unique()) == 64
    assert float(operands.scale_a.max() / operands.scale_a.min()) <= inputs.ROW_SCALE_SPREAD


def test_int8_operands_use_their_range():
    operands = inputs.make_operands(Problem(256, 256, 256, dtype="int8"), CPU)[0]
    assert float(operands.a.double().std()) == pytest.approx(127 / 4, rel=0.02)
    assert inputs.audit(operands)["saturated"] == pytest.approx(6.3e-5, abs=1e-4)
    exact = inputs.make_operands(Problem(64, 64, 64, dtype="int8"), CPU, distribution="integer")[0]
    assert set(exact.a.unique().tolist()) == set(range(-3, 4))


@pytest.mark.parametrize("text", ["gauss", "", "sparse", "sparse:", "sparse:0", "sparse:1", "sparse:nan", "normal:2"])
def test_what_is_no_distribution_is_refused_in_one_line(text: str):
    with pytest.raises(ValueError, match=r"sparse:P with 0 < P < 1|write normal") as refusal:
        parse_distribution(text)
    assert isinstance(refusal.value, DistributionError)
    assert "\n" not in str(refusal.value)


def test_a_distribution_reads_back_its_own_name():
    for text in ("normal", "uniform", "zeros", "integer", "sparse:0.5", "sparse:0.875"):
        assert parse_distribution(text).name == text
    assert parse_distribution(" sparse:0.50 ").name == "sparse:0.5"


def test_rotation_exceeds_twice_the_cache_by_no_more_than_one_set():
    h100 = Device("cuda", "H100", l2_bytes=50 * 2**20, memory_bytes=80 * 2**30)
    for size in (512, 1024, 2048, 4096):
        problem = Problem(size, size, size)
        sets = inputs.rotation_sets(problem, h100)
        assert sets * problem.min_bytes > 2 * h100.l2_bytes or sets == inputs.MAX_SETS
        assert sets == 2 or (sets - 1) * problem.min_bytes <= 2 * h100.l2_bytes
    assert inputs.rotation_sets(Problem(2048, 2048, 2048), h100) == 5
    assert inputs.rotation_sets(Problem(16384, 16384, 16384), h100) == 2
    assert inputs.rotation_sets(Problem(1, 1, 1), h100) == inputs.MAX_SETS


def test_rotation_is_bounded_by_memory_but_never_none():
    small = Device("cuda", "small", l2_bytes=2**30, memory_bytes=2**30)
    problem = Problem(4096, 4096, 4096)
    assert inputs.rotation_sets(problem, small) == int(0.4 * 2**30) // problem.min_bytes == 4
    assert inputs.rotation_sets(problem, small, max_bytes=problem.min_bytes * 3) == 3
    assert inputs.rotation_sets(problem, small, max_bytes=0) == 1
    assert inputs.rotation_sets(problem, Device("cpu", "unknown")) == 2


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "int8"])
def test_poison_leaves_nothing_that_could_be_a_product(dtype: str):
    out = inputs.make_operands(Problem(8, 8, 8, dtype=dtype), CPU)[0].out
    inputs.poison(out)
    assert bool(out.isnan().all()) if out.dtype.is_floating_point else bool((out == -(2**31)).all())


def test_audit_counts_what_is_spoilt():
    operands = inputs.make_operands(Problem(10, 10, 10, dtype="fp16", layout="tn"), CPU)[0]
    operands.a[0, 0], operands.a[0, 1], operands.b[0, 0], operands.b[0, 1] = math.nan, -math.inf, 65504, 0
    assert inputs.audit(operands) == {"nan": 1 / 200, "inf": 1 / 200, "saturated": 1 / 200, "zero": 1 / 200}
