"""The `calibration` suite: GEMMs that fill the domain evenly, in an order of which any first part does so too.

Candidates are drawn log-uniformly by a scrambled Sobol sequence and rounded to multiples that real layers have, some
left ragged, since tile and wave steps show only there. Of them the one farthest from all before it comes next.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

CANDIDATES: Final = 8192

Sizes: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

_BITS: Final = 30
_DIRECTIONS: Final = ((1, ()), (1, (1,)), (2, (1, 3)), (3, (1, 3, 1)))
_POLYNOMIALS: Final = (0, 0, 1, 1)
"""Primitive polynomials and first direction numbers of four dimensions, after Joe and Kuo (2008), new-joe-kuo-6."""


@dataclass(frozen=True, slots=True)
class Domain:
    """Lowest and highest m, n, k, and the most FLOP and bytes of operands of one GEMM."""

    m: tuple[int, int] = (1, 32768)
    n: tuple[int, int] = (64, 65536)
    k: tuple[int, int] = (64, 65536)
    flop_most: float = 8e13
    elements_most: float = 4e9


def design(count: int, seed: int = 0, domain: Domain = Domain()) -> list[tuple[int, int, int]]:
    """`count` different (m, n, k) over the domain, the same for the same seed; at most CANDIDATES / 2 of them."""
    found: dict[tuple[int, int, int], None] = {}
    for point in _sobol(0, CANDIDATES, seed):
        m, n, k = _shape(point, domain)
        if 2.0 * m * n * k <= domain.flop_most and m * k + n * k + m * n <= domain.elements_most:
            found.setdefault((m, n, k))
    candidates = list(found)
    return [candidates[row] for row in farthest_first(np.log2(np.array(candidates, dtype=float)), count)]


def farthest_first(sizes: Sizes, count: int) -> list[int]:
    """Rows of sizes [rows, dimensions]: first the one nearest to the middle, then the farthest from all before it."""
    count = min(count, len(sizes))
    rows = [int(((sizes - sizes.mean(axis=0)) ** 2).sum(axis=1).argmin())]
    distance = ((sizes - sizes[rows[0]]) ** 2).sum(axis=1)
    while len(rows) < count:
        rows.append(int(distance.argmax()))
        distance = np.minimum(distance, ((sizes - sizes[rows[-1]]) ** 2).sum(axis=1))
    return rows


def suite_toml(count: int, seed: int) -> str:
    """The suite file of a design."""
    lines = [
        f'description = "{count} GEMMs that fill the domain evenly, for flopwatt calibrate; seed {seed}"',
        'effort = "fast"',
        "in_order = true",
        "gemm = [",
        *(f'  {{ m = {m}, n = {n}, k = {k}, layout = "nt" }},' for m, n, k in design(count, seed)),
        "]",
    ]
    return "\n".join(lines) + "\n"


def _shape(point: np.ndarray[tuple[int], np.dtype[np.float64]], domain: Domain) -> tuple[int, int, int]:
    sizes = [
        2.0 ** (np.log2(low) + u * (np.log2(high) - np.log2(low)))
        for u, (low, high) in zip(point[:3], (domain.m, domain.n, domain.k), strict=True)
    ]
    ragged = point[3] < 0.15
    m = _rounded(sizes[0], 1 if ragged or sizes[0] < 16 else 16)
    n, k = (_rounded(size, 256 if size >= 2048 else 64) for size in sizes[1:])
    return m, n, k


def _rounded(size: float, multiple: int) -> int:
    return max(multiple, round(size / multiple) * multiple)


def _sobol(start: int, count: int, seed: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Points start to start + count of a Sobol sequence in four dimensions, scrambled by a random digital shift."""
    index = np.arange(start, start + count, dtype=np.int64)
    gray = index ^ (index >> 1)
    shift = np.random.default_rng(seed).integers(0, 2**_BITS, len(_DIRECTIONS))
    out = np.empty((count, len(_DIRECTIONS)))
    for dimension in range(len(_DIRECTIONS)):
        x = np.zeros(count, dtype=np.int64)
        for bit, direction in enumerate(_direction_numbers(dimension)):
            x ^= np.where((gray >> bit) & 1, direction, 0)
        out[:, dimension] = ((x ^ shift[dimension]) + 0.5) / 2.0**_BITS
    return out


def _direction_numbers(dimension: int) -> list[int]:
    if dimension == 0:
        return [1 << (_BITS - 1 - bit) for bit in range(_BITS)]
    degree, first = _DIRECTIONS[dimension]
    polynomial = _POLYNOMIALS[dimension]
    v = [first[i] << (_BITS - 1 - i) for i in range(min(degree, _BITS))]
    for i in range(degree, _BITS):
        value = v[i - degree] ^ (v[i - degree] >> degree)
        for j in range(1, degree):
            if (polynomial >> (degree - 1 - j)) & 1:
                value ^= v[i - j]
        v.append(value)
    return v
