"""flopwatt's CPU time against a plain loop of torch.mm, alternating in one process: the ratio should be 1 within 5 %.

The same operands serve both: one set ("hot"), and as many as outgrow the last-level cache ("rotating").
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from flopwatt.measurement.case import measure_case
from flopwatt.measurement.hardware import HardwareRig
from flopwatt.runs.records import Case
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.stats import marks_in
from gemmkernels import inputs, torch_mm
from gemmkernels.problem import Problem

SIDE = 2048
ROUNDS = 5
TARGET = 0.05


def flopwatt_median(rig: HardwareRig, case: Case) -> float:
    """Median seconds of one launch over the marks of flopwatt's own measurement."""
    raw = measure_case(rig, case).measurement
    assert isinstance(raw, RawMeasurement)
    times = []
    for window in raw.windows:
        t, n = marks_in(raw.loads[window.load], window)
        times.append(np.diff(t) / np.diff(n) * 1e-9)
    return float(np.median(np.concatenate(times)))


def plain_median(problem: Problem, sets: int, seconds: float) -> float:
    """Median seconds of torch.mm(out=) called in a loop over `sets` operand sets."""
    torch_mm.apply_settings(problem)
    operands = itertools.cycle(inputs.make_operands(problem, DEVICE, sets=sets))
    times = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 5:
        one = next(operands)
        start = time.perf_counter()
        torch.mm(one.a, one.b, out=one.out)
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:])


def main() -> int:
    """Prints the table; 1 where a ratio of medians is off by more than the target."""
    table = Table(
        title=f"flopwatt over plain loop, {SIDE}³, {ROUNDS} alternating rounds", title_justify="left", box=None
    )
    for name in ("dtype", "cache", "plain loop", "flopwatt", "ratio of medians", "lowest", "highest", "within 5 %"):
        table.add_column(name, justify="right")
    ok = True
    for dtype, cache in itertools.product(("fp32", "bf16"), ("hot", "rotating")):
        case = Case(problem=Problem(SIDE, SIDE, SIDE, dtype=dtype), backend="torch", effort="fast", cache=cache)
        assert case.problem is not None
        sets = 1 if cache == "hot" else inputs.rotation_sets(case.problem, DEVICE)
        plain, ours = [], []
        for _ in range(ROUNDS):
            plain.append(plain_median(case.problem, sets, 5.0))
            ours.append(flopwatt_median(RIG, case))
        ratios = [b / a for a, b in zip(plain, ours, strict=True)]
        middle = statistics.median(ratios)
        ok &= abs(middle - 1) <= TARGET
        table.add_row(
            dtype, cache, f"{statistics.median(plain) * 1e3:.2f} ms", f"{statistics.median(ours) * 1e3:.2f} ms",
            f"{middle:.3f}", f"{min(ratios):.3f}", f"{max(ratios):.3f}", "yes" if abs(middle - 1) <= TARGET else "no",
        )  # fmt: skip
    Console(width=140).print(table)
    return 0 if ok else 1


if __name__ == "__main__":
    RIG = HardwareRig.open("cpu", shared=False, idle=False)
    DEVICE = RIG.device
    try:
        code = main()
    finally:
        RIG.close()
    sys.exit(code)
