"""Seeded operands in every format and layout, enough sets of them to defeat the cache, and an audit of their values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from gemmkernels.backend import Device, Operands
from gemmkernels.distribution import Distribution, DistributionError, parse_distribution
from gemmkernels.problem import Problem

__all__ = [
    "MAX_SETS",
    "TORCH_DTYPES",
    "DistributionError",
    "audit",
    "make_operands",
    "parse_distribution",
    "poison",
    "rotation_sets",
]

TORCH_DTYPES: Final[dict[str, torch.dtype]] = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp8_e4m3": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
    "int8": torch.int8,
    "int32": torch.int32,
}
"""How PyTorch stores each format."""

MAX_SETS: Final = 1024
"""Beyond this, making operands takes longer than measuring with them."""

MEMORY_FRACTION: Final = 0.4
"""Of the device's memory, the most that operand sets may take: the check and the library's workspace need the rest."""

CHUNK_ELEMENTS: Final = 2**24
"""Values drawn at once, in fp32: 64 MiB beside the operands, whatever their size."""

DRAWN_AT_LARGEST: Final[dict[str, float]] = {"normal": 4.0, "sparse": 4.0, "uniform": 1.0}
"""The drawn magnitude that becomes the largest one of an int8 or fp8 operand: beyond 4 standard deviations a normal
value is clipped, 6 in 100,000. Integers and zeros are stored as they are."""

ROW_SCALE_SPREAD: Final = 2.0
"""Row scales differ by up to this factor, so that a kernel which takes another row's is found out."""


def make_operands(
    problem: Problem, device: Device, *, distribution: str = "normal", seed: int = 0, sets: int = 1
) -> list[Operands]:
    """`sets` independent operand sets of `problem` on `device`, the same for the same arguments and device kind.

    All values come from one generator, so the sets differ from each other. `out` is not initialised. int8 and fp8
    operands are stretched over the format's range (`DRAWN_AT_LARGEST`) and rounded; fp8 ones carry the factors that
    undo it, one a tensor, or as `problem.scaling` says one a row of A and one a column of B. Memory beside the operands
    is bounded by `CHUNK_ELEMENTS`.

    Raises DistributionError for an unknown `distribution`.
    """
    values = parse_distribution(distribution)
    generator = torch.Generator(device.torch_name).manual_seed(seed)
    return [_operand_set(problem, device, values, generator) for _ in range(sets)]


def rotation_sets(problem: Problem, device: Device, max_bytes: int | None = None) -> int:
    """How many operand sets, used in turn, find none of their data left in L2: together more than twice its size.

    At least 2 and at most `MAX_SETS`, then no more than `max_bytes` hold (by default 40 % of the device's memory, where
    known), and never less than 1.
    """
    sets = min(max(2, 2 * device.l2_bytes // problem.min_bytes + 1), MAX_SETS)
    limit = int(MEMORY_FRACTION * device.memory_bytes) if max_bytes is None else max_bytes
    if limit or max_bytes is not None:
        sets = min(sets, limit // problem.min_bytes)
    return max(1, sets)


def poison(out: Tensor) -> None:
    """Fill `out` with what no GEMM writes, NaN or the most negative integer, so that an unwritten element is seen."""
    out.fill_(math.nan if out.dtype.is_floating_point else torch.iinfo(out.dtype).min)


def audit(operands: Operands) -> dict[str, float]:
    """Fractions of the values of A and B together that are `nan`, `inf`, `saturated` (at the format's largest
    magnitude) and `zero`: the first three tell a spoilt input, the last one that draws less power.
    """
    counts = dict.fromkeys(("nan", "inf", "saturated", "zero"), 0)
    total = operands.a.numel() + operands.b.numel()
    for operand in (operands.a, operands.b):
        largest = _largest(operand.dtype)
        for values in _chunks(operand if operand.is_contiguous() else operand.mT):
            chunk = values.to(torch.float32)
            counts["zero"] += chunk.numel() - int(chunk.count_nonzero())
            low, high = chunk.aminmax()  # NaN where any value is
            if max(-float(low), float(high)) < largest:
                continue  # the usual case, at the price of one pass
            infinite = int(chunk.isinf().sum())
            counts["nan"] += int(chunk.isnan().sum())
            counts["inf"] += infinite
            counts["saturated"] += int((chunk.abs() >= largest).sum()) - infinite
    return {name: count / total for name, count in counts.items()}


def _operand_set(problem: Problem, device: Device, values: Distribution, generator: torch.Generator) -> Operands:
    a_shape, b_shape, out_shape = (problem.m, problem.k), (problem.k, problem.n), (problem.m, problem.n)
    a, b = (
        _operand(problem, device, shape, letter, values, generator)
        for shape, letter in zip((a_shape, b_shape), problem.layout, strict=True)
    )
    out = torch.empty((*_lead(problem), *out_shape), dtype=TORCH_DTYPES[problem.out_dtype], device=device.torch_name)
    if not problem.dtype.startswith("fp8"):
        return Operands(a, b, out)
    unit = 1.0 / _stretch(values, a.dtype)
    if problem.scaling != "row":
        scale = torch.full((1,), unit, dtype=torch.float32, device=device.torch_name)
        return Operands(a, b, out, scale, scale.clone())
    scale_a, scale_b = (
        torch.empty((*_lead(problem), *shape), dtype=torch.float32, device=device.torch_name)
        .uniform_(1.0, ROW_SCALE_SPREAD, generator=generator)
        .mul_(unit)
        for shape in ((problem.m, 1), (1, problem.n))
    )
    return Operands(a, b, out, scale_a, scale_b)


def _operand(
    problem: Problem,
    device: Device,
    shape: tuple[int, int],
    letter: str,
    values: Distribution,
    generator: torch.Generator,
) -> Tensor:
    """A filled operand as the logical view [batch, *shape] of what `letter` says lies in memory."""
    stored_shape = shape[::-1] if letter == "t" else shape
    stored = torch.empty((*_lead(problem), *stored_shape), dtype=TORCH_DTYPES[problem.dtype], device=device.torch_name)
    stretch = _stretch(values, stored.dtype)
    for chunk in _chunks(stored):
        drawn = _draw(values, chunk, generator)
        if stretch != 1.0:
            largest = _largest(stored.dtype)
            drawn.mul_(stretch).clamp_(-largest, largest)
        chunk.copy_(drawn if stored.dtype.is_floating_point else drawn.round_())
    return stored.mT if letter == "t" else stored


def _draw(values: Distribution, like: Tensor, generator: torch.Generator) -> Tensor:
    """Fresh fp32 values in the shape of `like`."""
    drawn = torch.empty(like.shape, dtype=torch.float32, device=like.device)
    match values.kind:
        case "zeros":
            return drawn.zero_()
        case "uniform":
            return drawn.uniform_(-1.0, 1.0, generator=generator)
        case "integer":
            return drawn.random_(-3, 4, generator=generator)
        case "sparse":
            drawn.normal_(generator=generator)
            kept = torch.empty_like(drawn).uniform_(generator=generator) >= values.zeroed
            return drawn.masked_fill_(~kept, 0.0)
    return drawn.normal_(generator=generator)


def _stretch(values: Distribution, dtype: torch.dtype) -> float:
    """What a drawn value is multiplied by so that it uses a narrow format's range; 1 for the wide formats."""
    at_largest = DRAWN_AT_LARGEST.get(values.kind)
    return _largest(dtype) / at_largest if at_largest is not None and dtype.itemsize == 1 else 1.0


def _largest(dtype: torch.dtype) -> float:
    """The largest magnitude that a positive and a negative value of `dtype` both reach."""
    return float(torch.finfo(dtype).max if dtype.is_floating_point else torch.iinfo(dtype).max)


def _lead(problem: Problem) -> tuple[int, ...]:
    return (problem.batch,) if problem.batch > 1 else ()


def _chunks(contiguous: Tensor) -> Iterator[Tensor]:
    """Consecutive pieces of a contiguous tensor's memory, of at most `CHUNK_ELEMENTS` values."""
    return iter(torch.split(contiguous.view(-1), CHUNK_ELEMENTS))
