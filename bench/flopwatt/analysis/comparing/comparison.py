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


@dataclass(frozen=True, slots=True)
class Options:
    """How two sides are compared. mixed: fields of `MIXABLE` that may differ within a pair. threshold: relative."""

    metric: str = "time"
    threshold: float = THRESHOLD
    backends: Backends = SAME_BACKEND
    mixed: tuple[str, ...] = ()

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
    """All that two sides say of each other. only_base, only_new: cases the other side does not hold."""

    base: tuple[RunFile, ...]
    new: tuple[RunFile, ...]
    options: Options
    cases: tuple[CaseComparison, ...]
    suites: tuple[SuiteComparison, ...]
    only_base: tuple[CaseSide, ...]
    only_new: tuple[CaseSide, ...]
    differences: tuple[Difference, ...]

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
    """Compares run files, given as paths or as read; several on a side are taken together, their processes pooled.

    Raises RunFileError for a file that cannot be read, and InputError where not one case is on both sides; the
    message says what keeps them apart.
    """
    options = options or Options()
    backends = options.backends
    base_runs, left = _read(base, backends.base)
    new_runs, right = _read(new, backends.new)
    for name, sides, backend in (("BASE", left, backends.base), ("NEW", right, backends.new)):
        if not sides:
            what = f"no record by {backend!r}" if backend else "no record"
            raise InputError(f"{name} holds {what}: give a run that measured something")
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
    )


class Spreads:
    """Run-to-run relative standard deviations by board and regime, told by the cases repeated there, else 1 %."""

    def __init__(self, sides: Iterable[CaseSide]) -> None:
        self._groups: dict[tuple[str | None, str, str], list[list[dict[str, float]]]] = defaultdict(list)
        self._known: dict[tuple[str | None, str, str], float] = {}
        quantities: tuple[Quantity, ...] = ("time_s", "power_w", "energy_j")
        for side in sides:
            if len(side.samples) < 2:
                continue
            for quantity in quantities:
                values: list[dict[str, float]] = [
                    {quantity: interval.value} for interval in side.by_process(quantity).values()
                ]
                self._groups[_board(side), side.identity.regime, quantity].append(values)

    def of(self, side: CaseSide, quantity: Quantity) -> float:
        """The relative standard deviation between fresh processes of that side's board."""
        key = (_board(side), side.identity.regime, quantity)
        if key not in self._known:
            self._known[key] = run_to_run(quantity, self._groups.get(key, ()))
        return self._known[key]


def _board(side: CaseSide) -> str | None:
    return side.samples[0].board_id or side.samples[0].gpu


def _read(sources: Sources, only_backend: str | None) -> tuple[tuple[RunFile, ...], list[CaseSide]]:
    """One side's runs, of which only what is not in its cases is kept: a large table's records fill the memory."""
    several = [sources] if isinstance(sources, str | Path | RunFile) else sources
    side, runs = Side(only_backend), []
    for source in several:
        run = source if isinstance(source, RunFile) else read(source)
        side.add(run)
        runs.append(replace(run, records=()))
    return tuple(runs), side.cases()


def _case(pair: Pair, spreads: Spreads) -> CaseComparison:
    def of(quantity: Quantity, systematic: float | None) -> Ratio | None:
        base, new = list(pair.base.by_process(quantity).values()), list(pair.new.by_process(quantity).values())
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
