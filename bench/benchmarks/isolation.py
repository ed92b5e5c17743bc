"""A plan through the worker process against the same plan in one process, alternating: isolation costs under 1 %.

Start-up is left out on both sides: both are started, and warmed by one case, before the first round. Rounds are added
until the 95 % interval of the whole plan's cost is on one side of 1 %; where the last one leaves it astride, nothing is
shown and the benchmark fails. It fails, too, where a launch's time differs by more than its own noise.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

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
from flopwatt.runs.stats import Interval, launch_time, mean_interval
from flopwatt.runs.suites import suite_from_shapes

SHAPES = ("512x512x512", "1024x1024x512", "1024x1024x1024")
ROUNDS = (12, 18, 24)
"""After so many the intervals are looked at; the last is the most."""

COST_MOST = 0.01

Round = tuple[float, dict[str, float]]
"""Seconds of the whole plan, and of one launch by shape."""


CHEAP, DEAR, SAME = "under 1 %", "over 1 %", "within its noise"


@dataclass(frozen=True)
class Pairs:
    """One quantity, round by round: in one process and through the worker."""

    plain: list[float]
    isolated: list[float]

    @property
    def ratio(self) -> Interval:
        """Through the worker over in one process."""
        return mean_interval([b / a for a, b in zip(self.plain, self.isolated, strict=True)])

    def change(self) -> tuple[float, float]:
        """Both ends of the relative change."""
        low, high = self.ratio.low, self.ratio.high
        assert low is not None
        assert high is not None
        return low - 1, high - 1

    def cost(self) -> str:
        """Whether it costs more than may be."""
        low, high = self.change()
        return DEAR if low > COST_MOST else CHEAP if high < COST_MOST else "too noisy to tell"

    def difference(self) -> str:
        """Whether the change is more than one measurement in one process differs from the next."""
        low, high = self.change()
        noise = statistics.stdev(self.plain) / statistics.mean(self.plain)
        return f"beyond its noise of {noise:.2%}" if low > noise or high < -noise else SAME

    def cells(self) -> tuple[str, str, str, str]:
        """Both medians, the change and its interval, in words."""
        low, high = self.change()
        medians = (f"{statistics.median(values):.2f}" for values in (self.plain, self.isolated))
        return (*medians, f"{self.ratio.value - 1:+.2%}", f"{low:+.2%} to {high:+.2%}")


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


def compare(run: Run, rig: HardwareRig, cases: tuple[Planned, ...]) -> tuple[Pairs, dict[str, Pairs]]:
    """Seconds of the whole plan, and µs of a launch by shape, in as many rounds as it takes to tell."""
    rounds: list[tuple[Round, Round]] = []
    for most in ROUNDS:
        rounds += [pair(number, run, rig, cases) for number in range(len(rounds), most)]
        plans = Pairs([plain[0] for _, plain in rounds], [ours[0] for ours, _ in rounds])
        if plans.cost() in (CHEAP, DEAR):
            break
    launches = {
        shape: Pairs([plain[1][shape] * 1e6 for _, plain in rounds], [ours[1][shape] * 1e6 for ours, _ in rounds])
        for shape in rounds[0][0][1]
    }
    return plans, launches


def _shape(problem: object) -> str:
    return getattr(problem, "shape", "sequence")


def _time_s(measurement: object) -> float:
    assert isinstance(measurement, RawMeasurement)
    found = launch_time(measurement, "sustained")
    assert found is not None
    return found.value


def main() -> int:
    """Prints what isolation costs; 1 unless that is shown to be under 1 %, and no time to differ beyond its noise."""
    cases = plan()
    spec = RigSpec(device="cpu", idle=False)
    worker, rig = Worker(spec), HardwareRig.open("cpu", shared=False, idle=False)
    run = Run(worker, spec, Policy())
    try:
        assert isinstance(worker.measure(cases[0], 0, True, 300.0), Done)
        run._soaked = True  # the warm-up did it, as it did for the rig here
        measure_case(rig, cases[0].case, soak=True)
        plans, launches = compare(run, rig, cases)
    finally:
        run.close()
        rig.close()
    title = f"worker process over one process, {len(plans.plain)} alternating rounds"
    table = Table(title=title, title_justify="left", box=None)
    for name in ("what", "one process", "worker", "change", "95 %", "verdict"):
        table.add_column(name, justify="right")
    table.add_row("whole plan, s", *plans.cells(), plans.cost())
    for shape, pairs in launches.items():
        table.add_row(f"{shape}, µs a launch", *pairs.cells(), pairs.difference())
    Console(width=120).print(table)
    good = plans.cost() == CHEAP and all(pairs.difference() == SAME for pairs in launches.values())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
