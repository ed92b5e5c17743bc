"""The cases of two sides laid beside each other: what must be equal, what may differ on request, what is left over.

A case is the same on both sides where problem, layout, scaling, regime, inputs, cache policy and origin are, and the
backend unless told otherwise. Effort, configuration, GPU and role may differ: they are shown, not matched.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flopwatt.analysis.sides import CaseSide, Identity

MIXABLE: Final = ("origin", "regime", "inputs", "cache", "scaling")
"""What may differ within a pair when asked for, and never does unasked."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A case that both sides hold."""

    base: CaseSide
    new: CaseSide

    @property
    def identical(self) -> bool:
        """Whether both sides are the very same records."""
        base, new = self.base.samples, self.new.samples
        return len(base) == len(new) and {(s.process, s.record) for s in base} == {(s.process, s.record) for s in new}

    @property
    def systematic(self) -> float | None:
        """Relative half-width of a ratio of watts from the gains of both sensors; None where one is not known.

        0 on one board read in one way: whatever its gain is, both sides have it.
        """
        sensors = {(s.board_id, s.energy_source) for side in (self.base, self.new) for s in side.metered}
        if len(sensors) == 1 and None not in next(iter(sensors)):
            return 0.0
        gains = [[s.power_systematic for s in side.metered] for side in (self.base, self.new)]
        known = [[gain for gain in side if gain is not None] for side in gains]
        if any(len(all_of) != len(some) or not some for all_of, some in zip(gains, known, strict=True)):
            return None
        return math.hypot(*map(max, known))


@dataclass(frozen=True, slots=True)
class Difference:
    """Cases that would pair but for these fields; values are what BASE and NEW hold in each."""

    fields: tuple[str, ...]
    values: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    cases: int


@dataclass(frozen=True, slots=True)
class Backends:
    """Which backends meet: the same ones, the fastest of each side (best), or base's with new's."""

    best: bool = False
    base: str | None = None
    new: str | None = None

    @property
    def across(self) -> bool:
        """Whether a pair may hold two backends."""
        return self.best or self.base is not None or self.new is not None


@dataclass(frozen=True, slots=True)
class Matching:
    """Pairs in BASE's order, the cases of one side only, and what keeps those apart."""

    pairs: tuple[Pair, ...]
    only_base: tuple[CaseSide, ...]
    only_new: tuple[CaseSide, ...]
    differences: tuple[Difference, ...]


def match(base: Sequence[CaseSide], new: Sequence[CaseSide], across: bool, mixed: Iterable[str] = ()) -> Matching:
    """Pairs the cases of two sides; across backends, the fastest of each side. mixed: fields that may differ.

    Equal cases pair first. Then, of what is left, those that are alike but for the mixed fields, where each side has
    just one such case: which of several is meant nobody can tell.
    """
    dropped = ("backend",) if across else ()
    left, right = _fastest(base, dropped), _fastest(new, dropped)
    pairs = {key: Pair(side, right.pop(key)) for key, side in left.items() if key in right}
    order = list(left)
    left = {key: side for key, side in left.items() if key not in pairs}
    mixed = tuple(mixed)
    if mixed:
        alone, others = _grouped(left, mixed), _grouped(right, mixed)
        for alike, keys in alone.items():
            partners = others.get(alike, [])
            if len(keys) == len(partners) == 1:
                pairs[keys[0]] = Pair(left.pop(keys[0]), right.pop(partners[0]))
    return Matching(
        tuple(pairs[key] for key in order if key in pairs),
        tuple(left.values()),
        tuple(right.values()),
        _differences(left, right, mixed),
    )


def _without(identity: Identity, fields: Sequence[str]) -> Identity:
    if not fields:
        return identity
    return Identity._make(
        "" if name in fields else value for name, value in zip(Identity._fields, identity, strict=True)
    )


def _fastest(sides: Sequence[CaseSide], dropped: Sequence[str]) -> dict[Identity, CaseSide]:
    found: dict[Identity, CaseSide] = {}
    for side in sides:
        key = _without(side.identity, dropped)
        if key not in found or side.mean_time_s() < found[key].mean_time_s():
            found[key] = side
    return found


def _grouped(sides: Mapping[Identity, CaseSide], fields: Sequence[str]) -> dict[Identity, list[Identity]]:
    groups: dict[Identity, list[Identity]] = defaultdict(list)
    for key in sides:
        groups[_without(key, fields)].append(key)
    return groups


def _differences(
    left: Mapping[Identity, CaseSide], right: Mapping[Identity, CaseSide], mixed: Sequence[str]
) -> tuple[Difference, ...]:
    """What keeps leftover cases apart that are otherwise alike, the fewest fields first."""
    fields = [name for name in (*MIXABLE, "backend") if name not in mixed]
    alone, others = _grouped(left, (*mixed, *fields)), _grouped(right, (*mixed, *fields))
    apart: dict[tuple[str, ...], list[Identity]] = defaultdict(list)
    for alike in alone:
        if alike in others:
            names = tuple(name for name in fields if not _held(name, alone[alike]) & _held(name, others[alike]))
            if names:
                apart[names].append(alike)
    return tuple(
        Difference(
            names, tuple((_values(name, common, alone), _values(name, common, others)) for name in names), len(common)
        )
        for names, common in sorted(apart.items(), key=lambda item: (len(item[0]), -len(item[1])))
    )


def _held(name: str, keys: Iterable[Identity]) -> set[str]:
    return {str(getattr(key, name)) for key in keys}


def _values(name: str, common: Iterable[Identity], groups: Mapping[Identity, Sequence[Identity]]) -> tuple[str, ...]:
    return tuple(sorted(set().union(*(_held(name, groups[alike]) for alike in common))))
