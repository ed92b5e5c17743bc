"""What a whole suite takes on both sides: time, joules and watts over the cases that both measured.

Sums over cases, each weighted by how often one step runs it. A process's own draw of the run-to-run spread may be
common to all its cases, so that the process is the unit: totals are summed within each and scatter between them. Where
a side holds several boards of a type, the board is the unit in the same way.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from flopwatt.analysis.comparing.matching import Matching, Pair
from flopwatt.analysis.comparing.ratios import Ratio, mean, of_metric, ratio, side_half
from flopwatt.analysis.comparing.sides import CaseSide, Identity, Quantity
from flopwatt.runs.records import Use
from flopwatt.runs.stats import Interval, symmetric

SpreadOf: TypeAlias = Callable[[CaseSide, Quantity], float]


class SuiteKey(NamedTuple):
    """What a total is of. backend: empty where pairs are made across backends; dtype: None where across formats."""

    suite: str
    dtype: str | None
    regime: str
    inputs: str
    cache: str
    origin: str
    backend: str


@dataclass(frozen=True, slots=True)
class SuiteComparison:
    """Totals of a suite over its headline cases that both sides timed, of one step as BASE counts it.

    left_out: headline cases of either side that are in no pair with a time. without_energy: pairs in the time that are
    missing in power and energy. dtype: the formats computed in. flop, energy_flop: of one step, over the pairs with
    time, and over those with energy.
    """

    key: SuiteKey
    dtype: str
    backends: tuple[str, str]
    cases: int
    left_out: int
    without_energy: int
    flop: int
    energy_flop: int
    time: Ratio | None
    power: Ratio | None
    energy: Ratio | None

    def ratio(self, metric: str) -> Ratio | None:
        """The ratio of a metric of `METRICS`."""
        return of_metric(metric, self.time, self.power, self.energy, (self.flop, self.energy_flop))

    @property
    def speedup(self) -> float | None:
        """Base time ÷ new time."""
        return 1 / self.time.value if self.time else None


class _Weighted(NamedTuple):
    """A pair and how often one step runs it."""

    pair: Pair
    times: int


@dataclass(slots=True)
class _Group:
    weighted: list[_Weighted] = field(default_factory=list)
    left_out: int = 0


def suite_comparisons(
    found: Matching, spread_of: SpreadOf, across: bool, any_dtype: bool = False
) -> tuple[SuiteComparison, ...]:
    """The totals of every suite, kind of inputs and backend of which both sides timed at least one headline case.

    across, any_dtype: whether a pair may hold two backends, two formats.
    """

    def counted(side: CaseSide) -> dict[SuiteKey, int]:
        return _counts(side, across, any_dtype)

    groups: dict[SuiteKey, _Group] = defaultdict(_Group)
    for pair in found.pairs:
        base, new = counted(pair.base), counted(pair.new)
        suites_of_new = {key[:2] for key in new}
        for key, count in base.items():
            both = key[:2] in suites_of_new and pair.base.timed and pair.new.timed
            if both:
                groups[key].weighted.append(_Weighted(pair, count))
            else:
                groups[key].left_out += 1
    for side in (*found.only_base, *found.only_new):
        for key in counted(side):
            groups[key].left_out += 1
    return tuple(_total(key, group, spread_of) for key, group in groups.items() if group.weighted)


def _counts(side: CaseSide, across: bool, any_dtype: bool) -> dict[SuiteKey, int]:
    """How often one step of each suite runs the case for its headline. A sequence repeats what singles measure."""
    counts: dict[SuiteKey, int] = defaultdict(int)
    for use in _headline_uses(side):
        one = side.identity
        backend = "" if across else one.backend
        dtype = None if any_dtype else use.dtype or one.dtype
        counts[SuiteKey(use.suite, dtype, one.regime, one.inputs, one.cache, one.origin, backend)] += use.count
    return counts


def _headline_uses(side: CaseSide) -> Iterator[Use]:
    if side.identity.m is not None:
        yield from (use for use in side.uses if use.headline)


def _total(key: SuiteKey, group: _Group, spread_of: SpreadOf) -> SuiteComparison:
    weighted = group.weighted
    with_energy = [one for one in weighted if one.pair.base.metered and one.pair.new.metered]
    time = _ratio(_sides(weighted, "time_s", spread_of), 0.0)
    energy = power = None
    if with_energy:
        systematic = _systematic(with_energy)
        energy = _ratio(_sides(with_energy, "energy_j", spread_of), systematic)
        power = _ratio(_power_sides(with_energy, spread_of), systematic)
    if all(one.pair.identical for one in weighted):
        time = Ratio(time.base, time.new, 0.0)
        power, energy = _exact(power), _exact(energy)
    return SuiteComparison(
        key,
        _dtype(weighted),
        (_backend([one.pair.base for one in weighted]), _backend([one.pair.new for one in weighted])),
        len(weighted),
        group.left_out,
        len(weighted) - len(with_energy),
        _flop(weighted),
        _flop(with_energy),
        time,
        power,
        energy,
    )


def _dtype(weighted: Sequence[_Weighted]) -> str:
    base, new = (
        "+".join(sorted({side.identity.dtype or "mixed" for side in sides}))
        for sides in zip(*((one.pair.base, one.pair.new) for one in weighted), strict=True)
    )
    return base if base == new else f"{base} → {new}"


def _flop(weighted: Sequence[_Weighted]) -> int:
    return sum(one.pair.base.identity.flop * one.times for one in weighted)


def _backend(sides: Sequence[CaseSide]) -> str:
    return " | ".join(sorted({side.identity.backend for side in sides}))


def _exact(found: Ratio | None) -> Ratio | None:
    return Ratio(found.base, found.new, 0.0) if found else None


def _systematic(weighted: Sequence[_Weighted]) -> float | None:
    gains = [one.pair.systematic for one in weighted]
    known = [gain for gain in gains if gain is not None]
    return max(known) if len(known) == len(gains) else None


class _SideTotal(NamedTuple):
    """One side's totals, one a process where processes are complete, and the spread that a lone one carries."""

    results: list[Interval]
    spread: float


def _ratio(sides: tuple[_SideTotal, _SideTotal], systematic: float | None) -> Ratio:
    base, new = sides
    return ratio(base.results, new.results, (base.spread, new.spread), systematic)


def _sides(weighted: Sequence[_Weighted], quantity: Quantity, spread_of: SpreadOf) -> tuple[_SideTotal, _SideTotal]:
    counts = [one.times for one in weighted]
    base = _side_total([one.pair.base for one in weighted], counts, quantity, spread_of)
    new = _side_total([one.pair.new for one in weighted], counts, quantity, spread_of)
    return base, new


def _side_total(
    sides: Sequence[CaseSide], counts: Sequence[int], quantity: Quantity, spread_of: SpreadOf
) -> _SideTotal:
    """Sums of the processes or boards that measured every case; of none, one whose errors all go the same way."""
    sides, counts = _distinct(sides, counts)
    found = [side.by_unit(quantity) for side in sides]
    complete = set(found[0])
    for one in found:
        complete &= one.keys()
    if complete:
        sums = [_sum([one[unit] for one in found], counts) for unit in sorted(complete)]
        return _SideTotal(sums, _largest(sides, quantity, spread_of))
    total = error = 0.0
    for side, one, count in zip(sides, found, counts, strict=True):
        results = list(one.values())
        average = mean(results)
        total += count * average
        error += count * average * side_half(results, spread_of(side, quantity))
    return _SideTotal([symmetric(total, error)], 0.0)


def _distinct(sides: Sequence[CaseSide], counts: Sequence[int]) -> tuple[list[CaseSide], list[int]]:
    """Each case once: one that stands in two pairs has one error, not two independent ones."""
    total: dict[Identity, int] = defaultdict(int)
    for side, count in zip(sides, counts, strict=True):
        total[side.identity] += count
    once = {side.identity: side for side in sides}
    return list(once.values()), [total[identity] for identity in once]


def _largest(sides: Sequence[CaseSide], quantity: Quantity, spread_of: SpreadOf) -> float:
    boards = {(side.samples[0].board_id, side.samples[0].gpu): side for side in sides}
    return max(spread_of(side, quantity) for side in boards.values())


def _sum(results: Sequence[Interval], counts: Sequence[int]) -> Interval:
    """One process's total; its cases' own errors are independent, and where one states none the total has none."""
    total = sum(count * result.value for count, result in zip(counts, results, strict=True))
    halves = [count * result.value * result.relative_half_width for count, result in zip(counts, results, strict=True)]
    return symmetric(total, math.hypot(*halves))


def _power_sides(weighted: Sequence[_Weighted], spread_of: SpreadOf) -> tuple[_SideTotal, _SideTotal]:
    counts = [one.times for one in weighted]
    base = _power_total([one.pair.base for one in weighted], counts, spread_of)
    new = _power_total([one.pair.new for one in weighted], counts, spread_of)
    return base, new


def _power_total(sides: Sequence[CaseSide], counts: Sequence[int], spread_of: SpreadOf) -> _SideTotal:
    """Joules over seconds of the same processes; the error is that of the joules, which holds the time's."""
    with_energy = [side.restricted("energy_j") for side in sides]
    energy = _side_total(with_energy, counts, "energy_j", spread_of)
    time = _side_total(with_energy, counts, "time_s", spread_of)
    results = []
    for joules, seconds in zip(energy.results, time.results, strict=True):
        value, half = joules.value / seconds.value, joules.relative_half_width
        results.append(symmetric(value, value * half if math.isfinite(half) else None))
    spread = _largest(sides, "power_w", spread_of) if energy.spread else 0.0
    return _SideTotal(results, spread)
