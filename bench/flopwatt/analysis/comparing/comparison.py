"""Two sets of runs held against each other: ratios with their intervals and a verdict for each case and each suite.

Every ratio is NEW ÷ BASE; `speedup` is base time ÷ new time. A case's interval is a 95 % one by itself: of many equal
cases one in twenty lies outside. What gates is therefore the total of a suite, or a case whose interval still tells
after widening for the number of cases (Bonferroni).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from flopwatt.analysis.comparing.matching import MIXABLE, Backends, Difference, Pair, match
from flopwatt.analysis.comparing.ratios import METRICS, REGRESSIONS, Ratio, mean, of_metric, ratio, verdict
from flopwatt.analysis.comparing.sides import CaseSide, Quantity, Side
from flopwatt.analysis.comparing.totals import SuiteComparison, suite_comparisons
from flopwatt.analysis.processes import run_to_run
from flopwatt.errors import InputError
from flopwatt.runs.stats import Interval
from flopwatt.runs.store import RunFile, read

Sources: TypeAlias = "str | Path | RunFile | Iterable[str | Path | RunFile]"

FAIL_ON: Final = ("any", "suite", "case", "never")
"""What makes a regression: a suite's total or a case beyond what chance makes of so many; the total alone; any case's
own verdict; nothing."""

THRESHOLD: Final = 0.01
"""Relative change below which two results are the same for all practical purposes."""

SAME_BACKEND: Final = Backends()

ALL_BOARDS: Final = "all boards"
"""What results are drawn from where boards are sampled; no board is called this."""


@dataclass(frozen=True, slots=True)
class Options:
    """How two sides are compared. mixed: fields of `MIXABLE` that may differ within a pair. threshold: relative.

    gpus: of BASE's and NEW's files, only those of a GPU whose name holds this; None for all.
    """

    metric: str = "time"
    threshold: float = THRESHOLD
    backends: Backends = SAME_BACKEND
    mixed: tuple[str, ...] = ()
    gpus: tuple[str | None, str | None] = (None, None)

    def __post_init__(self) -> None:
        if self.metric not in METRICS:
            raise InputError(f"unknown metric {self.metric!r}: choose one of {', '.join(METRICS)}")
        if not 0 < self.threshold < 1:
            raise InputError(f"threshold {self.threshold:g}: give a share between 0 and 1, such as 0.01")
        unknown = [name for name in self.mixed if name not in MIXABLE]
        if unknown:
            raise InputError(f"{unknown[0]!r} cannot be mixed: choose from {', '.join(MIXABLE)}")
        if (self.backends.base is None) != (self.backends.new is None):
            raise InputError("name the backend of both sides: a base backend and a new one")
        if self.backends.best and self.backends.base is not None:
            raise InputError("the best backend of each side, or two named ones: not both")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One quantity of one case or total on both sides, in the unit of its metric (s, TFLOPS, W, J, TFLOPS/W).

    interval: of the ratio, statistical. systematic: relative half-width of the ratio from the gains of two sensors; 0
    where they cancel, None where one is not known. total: both in quadrature, from which the verdict is read.
    """

    metric: str
    base: float
    new: float
    ratio: float
    interval: Interval
    systematic: float | None
    total: Interval
    verdict: str


@dataclass(frozen=True, slots=True)
class CaseComparison:
    """A case on both sides; a ratio is None where either side has no such quantity, as a failed row has none."""

    base: CaseSide
    new: CaseSide
    time: Ratio | None
    power: Ratio | None
    energy: Ratio | None

    def ratio(self, metric: str) -> Ratio | None:
        """The ratio of a metric of `METRICS`."""
        flop = self.base.identity.flop
        return of_metric(metric, self.time, self.power, self.energy, (flop, flop))

    @property
    def speedup(self) -> float | None:
        """Base time ÷ new time."""
        return 1 / self.time.value if self.time else None

    @property
    def newly_failed(self) -> bool:
        """Whether BASE ran the case and NEW failed at it."""
        return bool(self.base.timed) and self.new.failed


@dataclass(frozen=True, slots=True)
class RunComparison:
    """All that two sides say of each other. only_base, only_new: cases the other side does not hold.

    boards: of each side, where boards are what is sampled; None where both sides are of one board at most.
    """

    base: tuple[RunFile, ...]
    new: tuple[RunFile, ...]
    options: Options
    cases: tuple[CaseComparison, ...]
    suites: tuple[SuiteComparison, ...]
    only_base: tuple[CaseSide, ...]
    only_new: tuple[CaseSide, ...]
    differences: tuple[Difference, ...]
    boards: tuple[int, int] | None = None

    def judged(
        self, of: CaseComparison | SuiteComparison, metric: str | None = None, comparisons: int = 1
    ) -> Comparison | None:
        """A metric (that of the options) of a case or suite; None where it has no ratio.

        comparisons: how many verdicts are to hold at once.
        """
        metric = metric or self.options.metric
        found = of.ratio(metric)
        if found is None:
            return None
        total = found.total(comparisons)
        return Comparison(
            metric, found.base, found.new, found.value, found.interval(), found.systematic, total,
            verdict(found, metric, self.options.threshold, total),
        )  # fmt: skip

    def verdicts(self, of: Sequence[CaseComparison] | Sequence[SuiteComparison], comparisons: int = 1) -> list[str]:
        """The verdicts of those that have a ratio in the options' metric."""
        metric, threshold = self.options.metric, self.options.threshold
        ratios = (one.ratio(metric) for one in of)
        return [verdict(found, metric, threshold, found.total(comparisons)) for found in ratios if found is not None]

    def exit_code(self, fail_on: str = "any") -> int:
        """1 for a regression, 3 where none shows but something could not be told, else 0.

        A case that BASE ran and NEW failed at is a regression too. Where no suite's total can be compared, the cases
        stand for it. Raises InputError for an unknown fail_on.
        """
        if fail_on not in FAIL_ON:
            raise InputError(f"unknown {fail_on!r}: fail on one of {', '.join(FAIL_ON)}")
        if fail_on == "never":
            return 0
        totals, singles = self.verdicts(self.suites), self.verdicts(self.cases)
        judged = singles if fail_on == "case" or not totals else totals
        gates = list(judged)
        if fail_on == "any":
            gates = totals + self.verdicts(self.cases, max(len(singles), 1))
        elif fail_on == "suite" and not totals:
            gates = self.verdicts(self.cases, max(len(singles), 1))
        if any(case.newly_failed for case in self.cases) or REGRESSIONS.intersection(gates):
            return 1
        return 3 if "inconclusive" in judged or not judged else 0


def compare(base: Sources, new: Sources, options: Options | None = None) -> RunComparison:
    """Compares run files, given as paths or as read; several on a side are taken together.

    The processes of one board are pooled. Where a side holds several boards, boards are what is sampled on both: every
    ratio then carries how much boards of a type differ, which one board alone takes over from the other side.

    Raises RunFileError for a file that cannot be read, and InputError where not one case is on both sides; the
    message says what keeps them apart.
    """
    options = options or Options()
    backends = options.backends
    base_runs, base_side = _read("BASE", base, backends.base, options.gpus[0])
    new_runs, new_side = _read("NEW", new, backends.new, options.gpus[1])
    boards = (base_side.boards, new_side.boards)
    by_board = max(boards) > 1
    left, right = base_side.cases(by_board), new_side.cases(by_board)
    found = match(left, right, backends, options.mixed)
    if not found.pairs:
        raise InputError(_nothing_common(found.differences, len(left), len(right)))
    spreads = Spreads([*left, *right])
    return RunComparison(
        base_runs,
        new_runs,
        options,
        tuple(_case(pair, spreads) for pair in found.pairs),
        suite_comparisons(found, spreads.of, backends.across, "dtype" in options.mixed),
        found.only_base,
        found.only_new,
        found.differences,
        boards if by_board else None,
    )


class Spreads:
    """Run-to-run relative standard deviations by board and regime, told by the cases repeated there, else 1 %.

    Where boards are what is sampled, from board to board, told by the boards of both sides.
    """

    def __init__(self, sides: Iterable[CaseSide]) -> None:
        self._groups: dict[tuple[str | None, str, str], list[list[dict[str, float]]]] = defaultdict(list)
        self._known: dict[tuple[str | None, str, str], float] = {}
        quantities: tuple[Quantity, ...] = ("time_s", "power_w", "energy_j")
        for side in sides:
            if len(side.samples) < 2:
                continue
            for quantity in quantities:
                values: list[dict[str, float]] = [
                    {quantity: interval.value} for interval in side.by_unit(quantity).values()
                ]
                self._groups[_sampled(side), side.identity.regime, quantity].append(values)

    def of(self, side: CaseSide, quantity: Quantity) -> float:
        """The relative standard deviation between fresh processes of that side's board, or between boards."""
        key = (_sampled(side), side.identity.regime, quantity)
        if key not in self._known:
            self._known[key] = run_to_run(quantity, self._groups.get(key, ()))
        return self._known[key]


def _sampled(side: CaseSide) -> str | None:
    """What a side's results are drawn from: its board, or the boards of all sides."""
    return ALL_BOARDS if side.by_board else side.samples[0].board_id or side.samples[0].gpu


def _read(name: str, sources: Sources, backend: str | None, gpu: str | None) -> tuple[tuple[RunFile, ...], Side]:
    """One side's runs, of which only what is not in its cases is kept: records and plans of a thousand fill the memory.

    Raises InputError where nothing is left of them.
    """
    several = [sources] if isinstance(sources, str | Path | RunFile) else sources
    side, runs, others, empty = Side(backend), [], set(), True
    for source in several:
        run = source if isinstance(source, RunFile) else read(source)
        names = {segment.environment.gpu for segment in run.segments}
        if gpu is not None and not any(gpu.lower() in there.lower() for there in names):
            others |= names
            continue
        empty &= not any(backend in (None, record.case.backend) for record in run.records)
        side.add(run)
        runs.append(replace(run, header=msgspec.structs.replace(run.header, plan=()), records=()))
    if gpu is not None and not runs:
        raise InputError(f"{name} holds no GPU called {gpu!r}: it has {', '.join(sorted(others)) or 'none'}")
    if empty:
        what = f"no record by {backend!r}" if backend else "no record"
        raise InputError(f"{name} holds {what}: give a run that measured something")
    return tuple(runs), side


def _case(pair: Pair, spreads: Spreads) -> CaseComparison:
    def of(quantity: Quantity, systematic: float | None) -> Ratio | None:
        base, new = list(pair.base.by_unit(quantity).values()), list(pair.new.by_unit(quantity).values())
        if not base or not new:
            return None
        if identical:  # the very same records, which differ in nothing
            return Ratio(mean(base), mean(new), 0.0)
        known = (spreads.of(pair.base, quantity), spreads.of(pair.new, quantity))
        return ratio(base, new, known, systematic)

    identical = pair.identical
    time = of("time_s", 0.0)
    if not pair.base.metered or not pair.new.metered:
        return CaseComparison(pair.base, pair.new, time, None, None)
    gain = pair.systematic
    return CaseComparison(pair.base, pair.new, time, of("power_w", gain), of("energy_j", gain))


def _nothing_common(differences: Sequence[Difference], base: int, new: int) -> str:
    if not differences:
        return f"no case is on both sides ({base} in BASE, {new} in NEW): compare runs of the same problems"
    told = []
    for name, (left, right) in zip(differences[0].fields, differences[0].values, strict=True):
        told.append(f"{name} is {', '.join(left)} in BASE and {', '.join(right)} in NEW")
    fields = differences[0].fields
    remedies = []
    if mixable := [name for name in fields if name != "backend"]:
        remedies.append(f"--allow-mixed {','.join(mixable)}")
    if "backend" in fields:
        left, right = differences[0].values[fields.index("backend")]
        remedies.append(
            f"--base-backend {left[0]} --new-backend {right[0]}" if len(left) == len(right) == 1 else "--best"
        )
    return f"nothing to compare: {' and '.join(told)}: compare them all the same with {' '.join(remedies)}"
