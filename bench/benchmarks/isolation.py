"""A plan through the worker process against the same plan in one process, alternating: isolation costs under 1 %.

Start-up is left out on both sides: both are started, and warmed by one case, before the first round.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from flopwatt.measurement.case import measure_case
from flopwatt.measurement.hardware import HardwareRig
from flopwatt.measurement.messages import Done, RigSpec
from flopwatt.measurement.runner import Run
from flopwatt.measurement.worker_client import Worker
from flopwatt.runs.plan import Choices, build
from flopwatt.runs.records import Planned, Policy, Record
from flopwatt.runs.samples import RawMeasurement
from flopwatt.runs.stats import launch_time, mean_interval
from flopwatt.runs.suites import suite_from_shapes

SHAPES = ("512x512x512", "1024x1024x512", "1024x1024x1024")
ROUNDS = 12
COST_MOST = 0.01

Round = tuple[float, dict[str, float]]
"""Seconds of the whole plan, and of one launch by shape."""


def plan() -> tuple[Planned, ...]:
    """Sustained fp32 cases of a few seconds each, and none that needs a fresh process."""
    suite = suite_from_shapes(SHAPES, dtype="fp32")
    return build([suite], Choices(backends=("torch",), effort="fast", processes=1)).cases


def isolated(run: Run, cases: tuple[Planned, ...]) -> Round:
    """One round through the runner and its worker, as `flopwatt run` does it."""
    begun = time.perf_counter()
    records = [step for step in run.steps(cases) if isinstance(step, Record)]
    spent = time.perf_counter() - begun
    return spent, {_shape(record.case.problem): _time_s(record.measurement) for record in records}


def in_process(rig: HardwareRig, cases: tuple[Planned, ...], seeds: Callable[[Planned], int]) -> Round:
    """One round of the same cases, measured right here."""
    begun = time.perf_counter()
    times = {}
    for planned in cases:
        outcome = measure_case(rig, planned.case, seed=seeds(planned), soak=False)
        times[_shape(planned.case.problem)] = _time_s(outcome.measurement)
        rig.release()
    return time.perf_counter() - begun, times


def pair(number: int, run: Run, rig: HardwareRig, cases: tuple[Planned, ...]) -> tuple[Round, Round]:
    """One round of each; which goes first alternates, since a machine warms up and slows down."""
    if number % 2:
        plain = in_process(rig, cases, run._seed)
        return isolated(run, cases), plain
    return isolated(run, cases), in_process(rig, cases, run._seed)


def _shape(problem: object) -> str:
    return getattr(problem, "shape", "sequence")


def _time_s(measurement: object) -> float:
    assert isinstance(measurement, RawMeasurement)
    found = launch_time(measurement, "sustained")
    assert found is not None
    return found.value


def main() -> int:
    """Prints what isolation costs; 1 where it is significantly more than 1 %."""
    cases = plan()
    spec = RigSpec(device="cpu", idle=False)
    worker, rig = Worker(spec), HardwareRig.open("cpu", shared=False, idle=False)
    run = Run(worker, spec, Policy())
    try:
        assert isinstance(worker.measure(cases[0], 0, True, 300.0), Done)
        run._soaked = True  # the warm-up did it, as it did for the rig here
        measure_case(rig, cases[0].case, soak=True)
        rounds = [pair(number, run, rig, cases) for number in range(ROUNDS)]
    finally:
        run.close()
        rig.close()
    table = Table(title=f"worker process over one process, {ROUNDS} alternating rounds", title_justify="left", box=None)
    for name in ("what", "one process", "worker", "change", "95 %", "verdict"):
        table.add_column(name, justify="right")
    low = _add(table, "whole plan, s", [plain[0] for _, plain in rounds], [ours[0] for ours, _ in rounds])
    for shape in rounds[0][0][1]:
        _add(
            table, f"{shape}, µs a launch",
            [plain[1][shape] * 1e6 for _, plain in rounds], [ours[1][shape] * 1e6 for ours, _ in rounds],
        )  # fmt: skip
    Console(width=120).print(table)
    return 1 if low > COST_MOST else 0


def _add(table: Table, what: str, plain: list[float], ours: list[float]) -> float:
    """Adds one line, and returns the lower end of what isolation costs of it."""
    ratio = mean_interval([b / a for a, b in zip(plain, ours, strict=True)])
    low, high = ratio.low - 1, ratio.high - 1
    verdict = "over 1 %" if low > COST_MOST else "under 1 %" if high < COST_MOST else "too noisy to tell"
    table.add_row(
        what, f"{statistics.median(plain):.2f}", f"{statistics.median(ours):.2f}",
        f"{ratio.value - 1:+.2%}", f"{low:+.2%} to {high:+.2%}", verdict,
    )  # fmt: skip
    return low


if __name__ == "__main__":
    sys.exit(main())
