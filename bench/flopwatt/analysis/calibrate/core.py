"""The physical core of a prediction: launch, tiles in waves over the SMs, tensor cores, L2 and DRAM, 22 numbers.

A GEMM is cut into tiles of the output, maybe split along K too. Tiles run in waves over the SMs, each wave as long as
its tile takes; the cut with the least time wins, softly, as a library's choice of kernel does. To a wave's compute
time the traffic through L2 and from DRAM is joined by a smooth maximum. What this leaves is for the learned residual.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

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

PARAMETERS: Final = (
    "launch_s", "peak_fraction", "dram_fraction", "l2_ratio", "wave_s", "split_s", "reduce_s", "reduce_traffic",
    "small_tile", "sharpness", "choice", "ragged", "wear", *(f"speed_{bm}x{bn}" for bm, bn in TILES),
)  # fmt: skip
START: Final = np.log(
    np.array([2e-6, 0.72, 0.8, 8.0, 6e-7, 3e-7, 1.5e-6, 1.0, 0.02, 2.5, 15.0, 0.05, 0.5, *[1.0] * len(TILES)])
)
_PRIOR_SD: Final = np.array([0.7, 0.25, 0.3, 0.7, 0.8, 1.0, 0.7, 1.0, 1.0, 0.5, 0.7, 1.0, 0.8, *[0.15] * len(TILES)])
"""Logarithms of where a fit starts, and how far it may stray: round numbers among what tables of A100 to B200 give.

A chip with a spec sheet alone is predicted by them."""

_PLAIN: Final = len(PARAMETERS) - len(TILES)
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


def core_time(parameters: Array, shapes: Shapes, chip: Chip) -> Array:
    """Seconds of each GEMM. parameters: logarithms, in the order of PARAMETERS."""
    launch, fraction, dram, l2, wave, split, reduce, again, small, sharp, choice, ragged, wear = np.exp(
        parameters[:_PLAIN]
    )
    sharp, choice, wear = min(sharp, 10.0), min(choice, 100.0), min(wear, 1.0)
    rate = chip.flop_per_s / chip.sm_count * min(fraction, 1.0)
    bytes_per_s = chip.bytes_per_s * dram
    dram_s = shapes.bytes / bytes_per_s
    partial_s = again * _PARTIAL_BYTES * shapes.batch * shapes.m * shapes.n / (bytes_per_s * l2)
    steps = np.ceil(shapes.k / STEP_K) * STEP_K
    cuts = []
    for (bm, bn), speed in zip(TILES, np.exp(parameters[_PLAIN:]), strict=True):
        tiles = np.ceil(shapes.m / bm) * np.ceil(shapes.n / bn) * shapes.batch
        step_s = 2.0 * bm * bn * (1 + small * np.sqrt(128.0 * 128.0 / (bm * bn))) / (rate * speed)
        traffic = tiles * (bm + bn) * steps * shapes.in_bytes / (bytes_per_s * l2)
        for parts in SPLITS if bm * bn <= SPLIT_TILE_MOST else (1,):
            per_sm = tiles * parts / chip.sm_count
            # Waves as whole numbers, a little worn: persistent kernels and two tiles an SM blur the steps.
            waves = np.ceil(per_sm) * (1 - wear) + wear * np.maximum(per_sm, 1.0)
            compute = waves * (step_s * steps / parts + wave)
            if parts == 1:
                cuts.append(_joined(compute, traffic, dram_s, sharp))
                continue
            whole = _joined(compute, traffic, dram_s + parts * partial_s, sharp)
            cuts.append(whole + reduce + split * np.log2(parts))
    best = np.minimum.reduce(cuts)
    crowd = np.sum([(cut / best) ** -choice for cut in cuts], axis=0)
    ragged_rows = 1 + 0.1 * ragged * (np.mod(shapes.m, 8) > 0)
    return np.asarray(launch + best * crowd ** (-1 / choice) * ragged_rows)


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
