"""From what was asked to an ordered list of cases: suites × backends × regimes × inputs, each distinct case once."""

from __future__ import annotations

import random
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import msgspec

from flopwatt.runs.effort import EFFORT, START_S, estimate_s, soak_s
from flopwatt.runs.records import Case, EffortName, Planned, Regime, SuiteFact, Use, case_id
from flopwatt.runs.suites import Suite, SuiteItem
from gemmkernels.backend import baseline


@dataclass(frozen=True, slots=True)
class Choices:
    """What the command line fixes for every suite. Empty or None leaves the choice to the suite.

    backends: empty takes the vendor's library for each GEMM's format. processes: None takes the effort's own number.
    """

    backends: Sequence[str] = ()
    regimes: Sequence[Regime] = ()
    inputs: Sequence[str] = ("normal",)
    effort: EffortName | None = None
    processes: int | None = None
    seed: int = 0
    in_order_of_value: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """Cases in the order they will be measured, and what a headline needs to know of their suites."""

    cases: tuple[Planned, ...]
    suites: tuple[SuiteFact, ...]
    processes: int

    def seconds(self, device_kind: str) -> float:
        """How long measuring is expected to take, with each process's start and soak."""
        started = {planned.process for planned in self.cases}
        soaks = {p.process: soak_s(p.case, device_kind) for p in self.cases if p.case.regime == "sustained"}
        return (
            sum(estimate_s(planned.case, device_kind) for planned in self.cases)
            + START_S[device_kind] * len(started)
            + sum(soaks.values())
        )


def build(suites: Sequence[Suite], choices: Choices) -> Plan:
    """The plan for these suites. Equal cases of several suites are measured once and keep every use.

    Order: by share of the headline's FLOPs, most first, so that what a budget cuts off matters least; a suite's
    own order where it asks for that. Later processes are shuffled, lest every process meet the same case in the same
    thermal state; a budget keeps the order.
    """
    found: dict[str, tuple[Case, list[Use]]] = {}
    for suite in suites:
        for case, use in _uses(suite, choices):
            _add(found.setdefault(case_id(case), (case, []))[1], use)
    listed = {suite.name for suite in suites if suite.in_order}
    ordered = sorted(found.items(), key=lambda entry: _value(entry[1][0], entry[1][1], listed), reverse=True)
    processes = choices.processes or max((EFFORT[case.effort].processes for case, _ in found.values()), default=1)
    planned = []
    for process in range(processes):
        entries = list(ordered)
        if process and not choices.in_order_of_value:
            random.Random(f"{choices.seed}/{process}").shuffle(entries)
        planned += [Planned(case_id=i, case=c, uses=tuple(uses), process=process) for i, (c, uses) in entries]
    return Plan(tuple(planned), tuple(map(_fact, suites)), processes)


def _add(known: list[Use], use: Use) -> None:
    """Adds a use; the same GEMM in the same role of the same suite again only raises its count."""
    for index, other in enumerate(known):
        if msgspec.structs.replace(other, count=use.count) == use:
            known[index] = msgspec.structs.replace(use, count=other.count + use.count)
            return
    known.append(use)


def _fact(suite: Suite) -> SuiteFact:
    return SuiteFact(
        name=suite.name,
        dtype=suite.dtype,
        model=suite.model,
        tokens=suite.tokens,
        layers=suite.layers,
        description=suite.description,
    )


def _uses(suite: Suite, choices: Choices) -> Iterator[tuple[Case, Use]]:
    effort = choices.effort or suite.effort or "normal"
    regimes: Iterable[Regime] = choices.regimes or suite.regimes
    for regime, named, inputs in product(regimes, choices.backends or (None,), choices.inputs):
        for item in suite.items:
            backend = named or baseline(item.problem.dtype)
            case = Case(problem=item.problem, backend=backend, regime=regime, effort=effort, inputs=inputs)
            yield case, _use(suite, item)
        if suite.sequence and regime == "sustained":
            backend = named or baseline(suite.sequence[0].problem.dtype)
            case = Case(sequence=suite.sequence, backend=backend, regime=regime, effort=effort, inputs=inputs)
            yield case, Use(suite=suite.name, dtype=suite.dtype, role="sequence", headline=False)


def _use(suite: Suite, item: SuiteItem) -> Use:
    return Use(
        suite=suite.name,
        dtype=suite.dtype,
        role=item.role,
        phase=item.phase,
        count=item.count,
        headline=item.headline,
    )


def _value(case: Case, uses: Sequence[Use], listed: Container[str]) -> tuple[float, float]:
    """FLOPs that the case stands for in headlines, then its own; a sequence comes after the GEMMs it replays.

    listed: suites whose cases keep the order of their list, after all others.
    """
    headline = sum(case.flop * use.count for use in uses if use.headline)
    return headline, (0 if case.sequence or all(use.suite in listed for use in uses) else case.flop)
