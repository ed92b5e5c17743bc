"""The physical core of a prediction: launch, tiles in waves over the SMs, tensor cores, L2, DRAM and the power limit.

A GEMM is cut into tiles of the output, maybe split along K too. Tiles run in waves over the SMs, each wave as long as
its tile takes to compute and to be written; the cut with the least time wins, softly, as a library's choice of kernel
does. To a wave's time the traffic through L2 and from DRAM is joined by a smooth maximum. A GEMM that keeps the tensor
cores busy for long meets the power limit, and runs at a lower clock. What this leaves is for the learned residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from flopwatt.analysis.calibrate.chip import Chip

Array: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

TILES: Final = ((64, 64), (64, 128), (128, 64), (128, 128), (64, 256), (256, 64), (128, 256), (256, 128), (256, 256))
SPLITS: Final = (1, 2, 4, 8, 16)
STEP_K: Final = 64
"""Rows of K that a kernel's main loop takes at a time."""

SPLIT_TILE_MOST: Final = 128 * 128
"""Elements of the largest tile that is also split along K."""

MISFIT: Final = 0.05
"""Logarithmic error of a point's time under the core, beyond which it counts linearly."""

STRAY_MOST: Final = 4.0
"""How far a fitted logarithm may lie from where its fit starts."""

_EXPECTED: Final = {
    "launch_s": (2e-6, 0.7),
    "peak_fraction": (0.72, 0.25),  # of the dense peak, inside the main loop
    "dram_fraction": (0.8, 0.3),
    "l2_ratio": (8.0, 0.7),  # bandwidth of L2 over that of DRAM
    "wave_s": (4e-7, 0.8),  # a wave's start and end
    "epilogue": (3.0, 0.7),  # how often a tile of C counts as traffic through L2 when a wave writes it
    "split_s": (3e-7, 1.0),  # each doubling of the parts of K
    "reduce_s": (1.5e-6, 0.7),  # any split along K
    "reduce_traffic": (1.0, 1.0),  # how often partial sums count as traffic through L2
    "small_tile": (0.02, 1.0),  # share that its perimeter adds to the main loop of a tile of 128 x 128
    "sharpness": (2.5, 0.5),  # exponent of the smooth maximum of compute, L2 and DRAM
    "choice": (15.0, 0.7),  # exponent of the soft choice among cuts
    "ragged": (0.05, 1.0),  # tenths lost where 8 does not divide M
    "wear": (0.5, 0.8),  # share of a part-filled wave that is not waited for
    "throttle": (0.03, 1.5),  # slowdown of tensor cores at their peak, once the power limit is met
    "throttle_s": (1e-3, 1.5),  # time to half of it
    "warm": (0.1, 1.5),  # share of A and B that L2 still holds from the launch before
    "kept": (0.5, 0.7),  # bytes of a GEMM over those of L2, from which on it holds but half of that share
    **{f"speed_{bm}x{bn}": (1.0, 0.15) for bm, bn in TILES},
}
"""Where a fit of each parameter starts, and how far, in logarithms, it strays: a prior of one standard deviation.

Round numbers among what tables of A100 to B200 give. A chip with a spec sheet alone is predicted by them."""

PARAMETERS: Final = tuple(_EXPECTED)
START: Final = np.log([start for start, _ in _EXPECTED.values()])
_PRIOR_SD: Final = np.array([sd for _, sd in _EXPECTED.values()])

VIEW: Final = 9
"""Columns of a View."""

_PLAIN: Final = len(PARAMETERS) - len(TILES)
_LAUNCH: Final = PARAMETERS.index("launch_s")
_PARTIAL_BYTES: Final = 4.0
"""Bytes of one element of a partial sum, which a split along K writes and reads again."""


@dataclass(frozen=True, slots=True)
class Shapes:
    """GEMMs as arrays of one length: m, n, k, batch, as floats, and bytes of one element in and out."""

    m: Array
    n: Array
    k: Array
    batch: Array
    in_bytes: float
    out_bytes: float

    @property
    def flop(self) -> Array:
        """Floating-point operations of each."""
        return 2.0 * self.batch * self.m * self.n * self.k

    @property
    def bytes(self) -> Array:
        """Bytes if A and B are read once and C is written once."""
        inputs = self.in_bytes * (self.m * self.k + self.k * self.n)
        return self.batch * (inputs + self.out_bytes * self.m * self.n)

    def __len__(self) -> int:
        return len(self.m)

    def take(self, rows: Any) -> Shapes:
        """Those of `rows`, an index or mask."""
        return Shapes(self.m[rows], self.n[rows], self.k[rows], self.batch[rows], self.in_bytes, self.out_bytes)


class View(NamedTuple):
    """What the core says of GEMMs: seconds [rows], and how it comes to them, columns [rows, VIEW].

    Of the winning cut: compute, L2 and DRAM time, waves, how full its waves are and which cut it is; how far behind it
    the next and the fourth best are, and the launch before it. Times and waves are logarithms.
    """

    seconds: Array
    columns: Array


class _Cuts(NamedTuple):
    """Every way to cut every GEMM [cuts, rows]: seconds, those of compute and of L2 alone, and waves over the SMs.

    dram_s: seconds that A, B and C take from DRAM [rows].
    """

    seconds: Array
    compute_s: Array
    l2_s: Array
    waves: Array
    dram_s: Array


def core_time(parameters: Array, shapes: Shapes, chip: Chip) -> Array:
    """Seconds of each GEMM. parameters: logarithms, in the order of PARAMETERS."""
    return _whole(parameters, shapes, chip, _cut(parameters, shapes, chip).seconds)


def core_view(parameters: Array, shapes: Shapes, chip: Chip) -> View:
    """The same, with how the core comes to it."""
    cuts = _cut(parameters, shapes, chip)
    best = cuts.seconds.argmin(axis=0)
    won = best, np.arange(len(shapes))
    waves = cuts.waves[won]
    ranked = np.partition(cuts.seconds, (0, 1, 3), axis=0)
    columns = [
        np.log(cuts.compute_s[won]), np.log(cuts.l2_s[won]), np.log(cuts.dram_s),
        np.log(waves), waves / np.ceil(waves), best.astype(float),
        np.log(ranked[1] / ranked[0]), np.log(ranked[3] / ranked[0]), parameters[_LAUNCH] - np.log(ranked[0]),
    ]  # fmt: skip
    return View(_whole(parameters, shapes, chip, cuts.seconds), np.stack(columns, axis=1))


def _cut(parameters: Array, shapes: Shapes, chip: Chip) -> _Cuts:
    value = dict(zip(PARAMETERS, np.exp(parameters), strict=True))
    sharp, wear = min(value["sharpness"], 10.0), min(value["wear"], 1.0)
    rate = chip.flop_per_s / chip.sm_count * min(value["peak_fraction"], 1.0)
    bytes_per_s = chip.bytes_per_s * value["dram_fraction"]
    l2_bytes_per_s = bytes_per_s * value["l2_ratio"]
    held = min(value["warm"], 1.0) / (1 + (shapes.bytes / (value["kept"] * chip.l2_bytes)) ** 4)
    dram_s = shapes.bytes / bytes_per_s * (1 - held * (1 - 1 / max(value["l2_ratio"], 1.0)))
    partial_s = value["reduce_traffic"] * _PARTIAL_BYTES * shapes.batch * shapes.m * shapes.n / l2_bytes_per_s
    steps = np.ceil(shapes.k / STEP_K) * STEP_K
    cuts = []
    for bm, bn in TILES:
        tiles = np.ceil(shapes.m / bm) * np.ceil(shapes.n / bn) * shapes.batch
        perimeter = 1 + value["small_tile"] * np.sqrt(128.0 * 128.0 / (bm * bn))
        step_s = 2.0 * bm * bn * perimeter / (rate * value[f"speed_{bm}x{bn}"])
        written_s = value["epilogue"] * bm * bn * shapes.out_bytes * chip.sm_count / l2_bytes_per_s
        l2_s = tiles * (bm + bn) * steps * shapes.in_bytes / l2_bytes_per_s
        for parts in SPLITS if bm * bn <= SPLIT_TILE_MOST else (1,):
            per_sm = tiles * parts / chip.sm_count
            # Waves as whole numbers, a little worn: persistent kernels and two tiles an SM blur the steps.
            waves = np.ceil(per_sm) * (1 - wear) + wear * np.maximum(per_sm, 1.0)
            compute_s = waves * (step_s * steps / parts + value["wave_s"] + written_s)
            joined = _joined(compute_s, l2_s, dram_s + (parts * partial_s if parts > 1 else 0.0), sharp)
            apart = value["reduce_s"] + value["split_s"] * np.log2(parts) if parts > 1 else 0.0
            cuts.append((joined + apart, compute_s, l2_s, per_sm))
    seconds, computing, through_l2, waved = (np.stack(column) for column in zip(*cuts, strict=True))
    return _Cuts(seconds, computing, through_l2, waved, dram_s)


def _whole(parameters: Array, shapes: Shapes, chip: Chip, cuts: Array) -> Array:
    """Seconds from those of all cuts: the best of them, softly, slowed by ragged rows and the power limit."""
    value = dict(zip(PARAMETERS[:_PLAIN], np.exp(parameters[:_PLAIN]), strict=True))
    best = cuts.min(axis=0)
    choice = min(value["choice"], 100.0)
    crowd = ((cuts / best) ** -choice).sum(axis=0)
    alone = best * crowd ** (-1 / choice) * (1 + 0.1 * value["ragged"] * (np.mod(shapes.m, 8) > 0))
    busy = shapes.flop / alone / chip.flop_per_s
    throttled = 1 + value["throttle"] * busy * alone / (alone + value["throttle_s"])
    return np.asarray(value["launch_s"] + alone * throttled)


def _joined(compute: Array, traffic: Array, dram_s: Array, sharp: float) -> Array:
    """The smooth maximum of three times, relative to the largest, so that no power overflows."""
    most = np.maximum(np.maximum(compute, traffic), dram_s)
    total = (compute / most) ** sharp + (traffic / most) ** sharp + (dram_s / most) ** sharp
    return np.asarray(most * total ** (1 / sharp))


def fit_core(shapes: Shapes, time_s: Array, chip: Chip) -> Array:
    """Parameters of the core fitted to times, in logarithms, robustly, with a weak prior."""
    from scipy.optimize import least_squares

    def misfit(step: Array) -> Array:
        r = (np.log(core_time(START + step, shapes, chip)) - np.log(time_s)) / MISFIT
        return np.concatenate([np.sign(r) * np.sqrt(2 * (np.sqrt(1 + r * r) - 1)), step / _PRIOR_SD])

    bounds = (-STRAY_MOST, STRAY_MOST)
    found = least_squares(misfit, np.zeros(len(START)), bounds=bounds, max_nfev=40, x_scale=_PRIOR_SD)
    return np.asarray(START + found.x, dtype=float)
