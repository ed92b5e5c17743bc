"""The correctness gate: poisons C, runs the kernel once, and compares C with float64 within a derived bound."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from gemmkernels.backend import Launch, Operands
from gemmkernels.inputs import poison
from gemmkernels.problem import Problem

FULL_CHECK_FLOP: Final = 2**36
"""Up to here C is compared whole: a second of float64 on two CPU cores, milliseconds on a data-centre GPU."""

BAND_ROWS: Final = 64
"""Rows of C whose error is judged together. A wrong row is 1/64 of its band's energy; of C's it would be lost in M."""

PROBES: Final = 8
"""Random ±1 vectors of Freivalds' test. A band's error is then known to 1/sqrt(2·8·64), 3 %."""

TILE: Final = 128
SAMPLED_TILES: Final = 12
"""Tiles compared whole when C is not: the four corners, where ragged edges go wrong, and the rest at random."""

CHUNK_ELEMENTS: Final = 2**24
"""Elements held in float64 at once: 128 MiB."""

SAFETY: Final = 2.0

UNIT_ROUNDOFF: Final[dict[str, float]] = {
    "fp32": 2.0**-24,
    "tf32": 2.0**-11,
    "bf16": 2.0**-8,
    "fp16": 2.0**-11,
    "fp8_e4m3": 2.0**-4,
    "fp8_e5m2": 2.0**-3,
    "int8": 0.0,
    "int32": 0.0,
}
"""The relative error of rounding to nearest. Truncation makes twice that"""


@dataclass(frozen=True, slots=True)
class Correctness:
    """How far C was from A·B. relative_error: infinite when C holds NaN or infinity. method: `full` or `freivalds`."""

    relative_error: float
    bound: float
    method: str

    @property
    def ok(self) -> bool:
        """Whether C may be trusted, and so its time reported."""
        return self.relative_error <= self.bound


def error_bound(problem: Problem) -> float:
    """The largest relative error that a correct kernel makes on normally distributed inputs; 0 for int8 into int32.

    Twice the sum of three parts, each relative to the Frobenius norm of C:

    * inputs: the reference takes A and B as stored, so only tf32 rounds: two factors, 2^-11 each. Hardware may truncate
      instead, which shrinks every product alike, by 7e-4 in the mean: still inside.
    * accumulation: with independent terms of mean zero, K roundings of a growing sum make about u·sqrt(K), u = 2^-24.
      Tensor cores truncate the running sum once per instruction, of at least 8 terms; each loses up to 2^-23 of it, and
      the losses add up: u·K/16 in the mean. On Hopper's fp8 path the sum keeps about 13 fraction bits (DeepSeek-V3,
      arXiv 2412.19437, section 3.3) and an instruction takes 32 terms: 2^-14·K/64. Promoting to fp32 on the way does
      better.
    * output: one rounding to C's format. The factor 2 also admits truncation, which Triton's interpreter does.

    What it has to catch is larger: dropping 32 of K = 16384 terms is an error of sqrt(32/16384) = 4.4 %, a scale wrong
    by 2 % is 2 %, and bf16's bound there is 0.8 %. tf32 where fp32 was asked for makes 2.8e-4, and fp32's bound there
    is 1.5e-5. Only fp8's grows to 4 %.
    """
    if problem.dtype == "int8":
        inputs = accumulation = 0.0
    elif problem.dtype.startswith("fp8"):
        inputs, accumulation = 0.0, 2.0**-14 * max(1.0, problem.k / 64)
    else:
        inputs = 2 * UNIT_ROUNDOFF["tf32"] if problem.dtype == "tf32" else 0.0
        truncated = problem.k / 16 if problem.dtype != "fp32" else 0.0
        accumulation = UNIT_ROUNDOFF["fp32"] * (math.sqrt(problem.k) + truncated)
    return SAFETY * (inputs + accumulation + UNIT_ROUNDOFF[problem.out_dtype])


def check(problem: Problem, launch: Launch, operands: Operands, seed: int = 0) -> Correctness:
    """Run `launch` once over a poisoned `out` and compare it with A·B in float64.

    The operands must be normally distributed, whatever the timed ones are: the bound assumes independent values of mean
    zero, and constants or zeros would hide a swapped layout or a dropped tile. Up to `FULL_CHECK_FLOP` all of C is
    compared. Above, Freivalds' test: for random vectors x of ±1, the mean of |(C - AB)x|² is the squared Frobenius norm
    of C - AB, at the price of a few matrix-vector products (Freivalds 1977); and `SAMPLED_TILES` tiles compared whole.

    relative_error is the worst of all row bands and tiles, relative to the larger of its own norm and that expected of
    a piece of C its size; absolute where A·B is zero. Float64 memory is bounded by `CHUNK_ELEMENTS`. Waits for the
    device.
    """
    poison(operands.out)
    launch(operands)
    if operands.out.is_cuda:
        torch.cuda.synchronize(operands.out.device)
    generator = torch.Generator(operands.out.device).manual_seed(seed)
    full = problem.flop <= FULL_CHECK_FLOP
    worst = 0.0
    for single in _unbatched(problem, operands):
        error = _full_error(single) if full else _probed_error(single, generator)
        if not math.isfinite(error):
            worst = math.inf
            break
        worst = max(worst, error)
    return Correctness(worst, error_bound(problem), "full" if full else "freivalds")


def _full_error(operands: Operands) -> float:
    """Worst band's error of a whole C, block by block."""
    m, n = operands.out.shape
    side = max(1, CHUNK_ELEMENTS // max(operands.a.shape[1], 4096))
    error, norm = (torch.zeros(m, dtype=torch.float64, device=operands.out.device) for _ in range(2))
    for columns in _spans(n, side):
        b = _float64(operands.b, operands.scale_b, slice(None), columns)
        for rows in _spans(m, side):
            product = _float64(operands.a, operands.scale_a, rows, slice(None)) @ b
            error[rows] += (operands.out[rows, columns].double() - product).square().sum(dim=1)
            norm[rows] += product.square().sum(dim=1)
    return _worst_band(error, norm, _expected_square(operands), n)


def _probed_error(operands: Operands, generator: torch.Generator) -> float:
    """Worst of the bands' errors, estimated with random vectors, and of the sampled tiles' errors."""
    (m, n), k = operands.out.shape, operands.a.shape[1]
    signs = torch.randint(0, 2, (n, PROBES), generator=generator, device=operands.out.device)
    probes = signs.double().mul_(2).sub_(1)
    b_probes = torch.cat(
        [_float64(operands.b, operands.scale_b, rows, slice(None)) @ probes for rows in _spans(k, CHUNK_ELEMENTS // n)]
    )
    error, norm = [], []
    for rows in _spans(m, CHUNK_ELEMENTS // max(n, k)):
        product = _float64(operands.a, operands.scale_a, rows, slice(None)) @ b_probes
        error.append((operands.out[rows].double() @ probes - product).square().mean(dim=1))
        norm.append(product.square().mean(dim=1))
    mean_square = _expected_square(operands)
    bands = _worst_band(torch.cat(error), torch.cat(norm), mean_square, n)
    tiles = [_tile_error(operands, row, column, mean_square) for row, column in _tile_origins(m, n, generator)]
    return max((bands, *tiles), key=lambda value: math.inf if math.isnan(value) else value)


def _tile_error(operands: Operands, row: int, column: int, mean_square: float) -> float:
    """Relative error of the tile of C whose first element is at (row, column)."""
    rows, columns = slice(row, row + TILE), slice(column, column + TILE)
    a = _float64(operands.a, operands.scale_a, rows, slice(None))
    product = a @ _float64(operands.b, operands.scale_b, slice(None), columns)
    error = float((operands.out[rows, columns].double() - product).square().sum())
    scale = max(float(product.square().sum()), mean_square * product.numel())
    return math.sqrt(error / scale if scale > 0 else error)


def _tile_origins(m: int, n: int, generator: torch.Generator) -> set[tuple[int, int]]:
    """First elements of the tiles to compare: the corners, then random places."""
    last_row, last_column = max(0, m - TILE), max(0, n - TILE)
    origins = {(0, 0), (0, last_column), (last_row, 0), (last_row, last_column)}
    drawn = torch.rand((SAMPLED_TILES - 4, 2), generator=generator, device=generator.device).tolist()
    return origins | {(int(row * (last_row + 1)), int(column * (last_column + 1))) for row, column in drawn}


def _worst_band(error: Tensor, norm: Tensor, mean_square: float, columns: int) -> float:
    """The largest relative error of `BAND_ROWS` successive rows, from each row's squared error and squared norm."""
    padding = (0, -len(norm) % BAND_ROWS)
    floors = torch.full_like(norm, mean_square * columns)
    totals, norms, floors = (
        torch.nn.functional.pad(rows, padding).view(-1, BAND_ROWS).sum(dim=1) for rows in (error, norm, floors)
    )
    # NaN would lose a comparison; a sum it cannot leave.
    if not math.isfinite(float((totals + norms).sum())):
        return math.inf
    scales = torch.maximum(norms, floors)
    return math.sqrt(float((totals / torch.where(scales > 0, scales, 1.0)).max()))


def _expected_square(operands: Operands) -> float:
    """The mean square of C's elements if the values are independent: of A's elements, times of B's, times K.

    What a piece of C is measured against where it happens to be smaller: values near zero are cancellation, and their
    error is that of the terms. Many elements of C would tell it too, but a dot product has one.
    """
    expected = float(operands.a.shape[1])
    for operand, scale in ((operands.a, operands.scale_a), (operands.b, operands.scale_b)):
        rows = _spans(operand.shape[0], CHUNK_ELEMENTS // operand.shape[1])
        squares = (_float64(operand, scale, span, slice(None)).square_().sum() for span in rows)
        expected *= float(sum(squares)) / operand.numel()
    return expected


def _float64(operand: Tensor, scale: Tensor | None, rows: slice, columns: slice) -> Tensor:
    """A block of an operand, dequantised. scale: [1], or one factor a row or a column."""
    block = operand[rows, columns].double()
    if scale is None or scale.numel() == 1:
        return block if scale is None else block.mul_(scale.reshape(()))
    return block.mul_(scale.expand(operand.shape)[rows, columns])


def _spans(size: int, step: int) -> Iterator[slice]:
    """Consecutive slices of at most `step` that cover range(size)."""
    step = max(1, step)
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def _unbatched(problem: Problem, operands: Operands) -> Iterator[Operands]:
    """Each pair of a batch as operands of its own."""
    if problem.batch == 1:
        yield operands
        return
    for index in range(problem.batch):
        scales = [s if s is None or s.dim() < 3 else s[index] for s in (operands.scale_a, operands.scale_b)]
        yield Operands(operands.a[index], operands.b[index], operands.out[index], *scales)
