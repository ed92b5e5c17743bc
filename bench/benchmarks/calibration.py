"""How well a calibration predicts GEMMs it has not seen, beside the representations that others use.

    python bench/benchmarks/calibration.py                  four GPUs in bf16: every setting; about twenty minutes
    python bench/benchmarks/calibration.py --quick          the A100 alone, whole table and beyond; under two minutes
    python bench/benchmarks/calibration.py --more           fp8 and the L40S too, whole table only
    python bench/benchmarks/calibration.py --stack vllm     tables of another stack (sglang, vllm, trtllm)
    python bench/benchmarks/calibration.py --inner          for choosing a model: pairs of the fit part alone are judged

Data: PyPI `aiconfigurator-core`. Three quarters of the (N, K) pairs fit, of one quarter (seeded, the same for every
GPU) nothing is seen in fitting, tuning or choosing, on no GPU. "200 points": of the target, chosen by our design, with
the other GPUs' calibrations of the fit part as priors. "beyond": fitted below 64 GFLOP, judged above 256. Power is of a
table that has it (--power FILE), a copy of which `--power` names; its rows' windows are 0.3 to 1 s.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

# One thread: the bench shares its cores, and BLAS threads that wait spend what others compute with.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import msgspec
import numpy as np
from others import representations, tables

from flopwatt.analysis.calibrate import fitting, predictor
from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.core import Array
from flopwatt.analysis.calibrate.points import Points
from flopwatt.analysis.calibrate.records import Fitted
from flopwatt.analysis.calibrate.residual import Prior, lender
from flopwatt.analysis.calibrate.validation import LARGE_FLOP

MAIN = ("A100", "H100", "H200", "B200")
SPLIT_OF = (*MAIN, "GB200")
SIBLINGS = {"H100": "H200", "H200": "H100", "B200": "GB200"}
"""GPUs with the same tensor cores, and another memory or host."""

HEAD = f"{'':32s} {'MAPE %':>7s} {'≥16 GF':>7s} {'p90':>6s} {'cover':>6s} {'≥16 GF':>7s}"


def main() -> None:
    """Prints one block a GPU and setting."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--stack", default="trtllm")
    words.add_argument("--gpu", action="append", choices=tables.SYSTEMS)
    words.add_argument("--setting", action="append", choices=("whole", "sparse", "beyond", "power"))
    words.add_argument("--power", action="append", type=Path, default=[], help="a table with watts")
    words.add_argument("--inner", action="store_true")
    words.add_argument("--quick", action="store_true")
    words.add_argument("--more", action="store_true")
    asked = words.parse_args()
    root = tables.installed()
    if root is None:
        print("no tables: pip install 'flopwatt[reference]'")
        return
    settings = asked.setting or (["whole", "beyond"] if asked.quick else ["whole", "sparse", "beyond", "power"])
    gpus = asked.gpu or (["A100"] if asked.quick else list(MAIN))
    every = {gpu: tables.load(root, gpu, asked.stack, "bf16") for gpu in dict.fromkeys((*SPLIT_OF, *gpus))}
    found = {gpu: table for gpu, table in every.items() if table is not None}
    # Of the same tables whatever is asked for: a pair is unseen in every run of this script or in none.
    hidden, judged = tables.test_pairs([found[gpu] for gpu in SPLIT_OF if gpu in found], asked.inner)
    print(f"{asked.stack}, bf16: {len(judged)} (N, K) pairs judged, {len(hidden)} left out of every fit")
    fitted = SPLIT_OF if "sparse" in settings else gpus if "whole" in settings else ()
    fits = {gpu: fit(gpu, found[gpu].take(~tables.among(found[gpu], hidden))) for gpu in fitted if gpu in found}
    for gpu in gpus:
        table = found[gpu]
        known, unseen = table.take(~tables.among(table, hidden)), table.take(tables.among(table, judged))
        if "whole" in settings:
            scattered = f"alike M scatter by {tables.scatter(known, known.time_s):.1f} %"
            block(f"{gpu}, whole table: {len(known)} points; {scattered}", fits[gpu], known, unseen)
            if (sibling := found.get(SIBLINGS.get(gpu, ""))) is not None:
                told(gpu, known, unseen, sibling)
        if "sparse" in settings:
            for count in (200, 1000):
                few = tables.bought(known, count)
                block(f"{gpu}, {count} points and priors", fit(gpu, few, others(gpu, fits)), few, unseen)
        if "beyond" in settings:
            beyond(gpu, known, unseen)
    if asked.more:
        more(root, asked.stack, hidden, judged)
    if "power" in settings:
        for path in asked.power:
            power(path, asked.inner)


def fit(gpu: str, points: Points, priors: Sequence[Prior] = (), dtype: str = "bf16") -> Fitted:
    """A calibration, with what it cost."""
    start = time.process_time()
    fitted = fitting.fit(points, tables.chip(gpu, dtype), dtype, chip_source="published", priors=priors)
    spent = time.process_time() - start
    size = len(msgspec.json.encode(fitted)) / 1e6
    print(f"  fit {gpu} {dtype} on {len(points)} points: {spent:.0f} s CPU, {size:.1f} MB", flush=True)
    return fitted


def others(gpu: str, fits: dict[str, Fitted]) -> list[Prior]:
    """What every other GPU's calibration lends."""
    return [lender(name, one) for name, one in fits.items() if name != gpu]


def told(gpu: str, known: Points, unseen: Points, sibling: Points) -> None:
    """How far off trees are that know the sibling's measured time of every shape asked."""
    theirs = [tables.matched(sibling, points.shapes) for points in (known, unseen)]
    both = [np.isfinite(seconds) for seconds in theirs]
    known, unseen = known.take(both[0]), unseen.take(both[1])
    sibling_s = [seconds[rows] for seconds, rows in zip(theirs, both, strict=True)]
    predicted = representations.told(known, unseen.shapes, tables.chip(gpu, "bf16"), *sibling_s)
    name = f"(told the {SIBLINGS[gpu]}'s times)"
    line(name, predicted, unseen.time_s, unseen.shapes.flop >= LARGE_FLOP)


def beyond(gpu: str, known: Points, unseen: Points) -> None:
    """Fitted on small shapes, judged on large ones of other (N, K) pairs."""
    inside, outside = known.take(known.shapes.flop < 64e9), unseen.take(unseen.shapes.flop > 256e9)
    block(f"{gpu}, beyond: < 64 GFLOP fit, > 256 judged", fit(gpu, inside), inside, outside)


def more(root: Path, stack: str, hidden: set[tuple[float, float]], judged: set[tuple[float, float]]) -> None:
    """fp8 of every GPU that has it, and the L40S."""
    for gpu, dtype in (("L40S", "bf16"), *((gpu, "fp8_e4m3") for gpu in ("H100", "H200", "B200", "L40S"))):
        table = tables.load(root, gpu, stack, dtype)
        if table is not None:
            known, unseen = table.take(~tables.among(table, hidden)), table.take(tables.among(table, judged))
            block(f"{gpu} {dtype}, whole table", fit(gpu, known, dtype=dtype), known, unseen)


def power(path: Path, inner: bool) -> None:
    """Watts and joules of a table that has them; shapes of which the time is at least 100 µs apart."""
    table = tables.read(path, "bf16")
    if table is None:
        return
    gpu = next(name for name, (system, _) in tables.SYSTEMS.items() if system in path.parts)
    hidden, judged = tables.test_pairs([table], inner)
    known, unseen = table.take(~tables.among(table, hidden)), table.take(tables.among(table, judged))
    fitted = fit(gpu, known)
    found = predictor.predict(fitted, unseen.shapes, unseen.layout)
    assert found.power_w is not None
    long = unseen.time_s >= 100e-6
    noise = tables.scatter(known, known.power_w)
    print(f"{gpu}, power and energy: {len(unseen)} unseen shapes; watts of alike M scatter by {noise:.1f} %")
    print("  second columns: kernels of 100 µs or more")
    for name, value in (("power", unseen.power_w), ("energy", unseen.power_w * unseen.time_s)):
        column = "power_w" if name == "power" else "energy_j"
        inside = (value >= getattr(found, column + "_low")) & (value <= getattr(found, column + "_high"))
        line(f"flopwatt, {name}", getattr(found, column), value, long, inside)
    chip = tables.chip(gpu, "bf16")
    use = unseen.shapes.flop / unseen.time_s / chip.flop_per_s
    idle = float(known.power_w.min())
    line("power limit", np.full(len(unseen), chip.limit_w), unseen.power_w, long)
    line("linear in true utilisation", idle + (chip.limit_w - idle) * use, unseen.power_w, long)
    line("plain boosted trees", _power_trees(known, unseen, chip), unseen.power_w, long)


def _power_trees(known: Points, unseen: Points, chip: Chip) -> Array:
    """Watts by LightGBM on the sizes, tiles and waves that the plain trees of time see."""
    x, asked = (representations.waves(shapes, chip) for shapes in (known.shapes, unseen.shapes))
    return np.asarray(np.exp(representations.learned(x, np.log(known.power_w), asked)))


def block(title: str, fitted: Fitted, known: Points, unseen: Points) -> None:
    """Our line, then everybody else's on the same points."""
    print(title)
    print(HEAD)
    found = predictor.predict(fitted, unseen.shapes, unseen.layout)
    many = unseen.take(np.resize(np.arange(len(unseen)), 100_000))
    start = time.process_time()
    predictor.predict(fitted, many.shapes, many.layout)
    spent = time.process_time() - start
    large = unseen.shapes.flop >= LARGE_FLOP
    inside = (unseen.time_s >= found.time_s_low) & (unseen.time_s <= found.time_s_high)
    ours = line("flopwatt", found.time_s, unseen.time_s, large, inside)
    best = {}
    for name, represent in representations.ALL.items():
        best[name] = line(name, represent(known, unseen.shapes, fitted.chip), unseen.time_s, large)
    closest = min(best, key=lambda name: best[name])
    gain = 1 - ours / best[closest]
    print(f"  {gain:.0%} below the closest, {closest}; 100,000 shapes predicted in {spent:.1f} s CPU", flush=True)


def line(name: str, predicted: Array, measured: Array, large: Array, inside: Array | None = None) -> float:
    """Prints one row; its MAPE."""
    off = np.abs(predicted / measured - 1) * 100
    covered = "" if inside is None else f"{inside.mean() * 100:6.1f} {inside[large].mean() * 100:7.1f}"
    print(f"  {name:30s} {off.mean():7.2f} {off[large].mean():7.2f} {np.quantile(off, 0.9):6.1f} {covered}", flush=True)
    return float(off.mean())


if __name__ == "__main__":
    sys.exit(main())
