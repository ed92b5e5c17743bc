"""The cases of two sides laid beside each other: what must be equal, what may differ on request, what is left over.

A case is the same on both sides where problem, layout, scaling, accumulation, regime, inputs, cache policy and origin
are, and the backend unless told otherwise. Effort, configuration, GPU and role may differ: they are shown, not matched.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flopwatt.analysis.comparing.sides import CaseSide, Identity
from flopwatt.runs.records import Use

MIXABLE: Final = ("origin", "regime", "inputs", "cache", "scaling", "accumulation", "dtype")
"""What may differ within a pair when asked for, and never does unasked."""

FOLLOWS: Final = {"dtype": ("out_dtype", "bytes", "scaling", "accumulation")}
"""What differs with a field of necessity."""


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


def match(base: Sequence[CaseSide], new: Sequence[CaseSide], backends: Backends, mixed: Iterable[str] = ()) -> Matching:
    """Pairs the cases of two sides; across backends, the fastest of each side. mixed: fields that may differ.

    Equal cases pair first. Then, of what is left, those that are alike but for the mixed fields, where each side has
    just one such case: which of several is meant nobody can tell. Formats may lie differently in memory (fp8 runs all
    three phases as `nt`): where dtype is mixed, GEMMs of one size then pair by the role and phase that suites use
    them for, and only those uses count.
    """
    mixed = tuple(mixed)
    dropped = ("backend",) if backends.across else ()
    if backends.best:
        dropped = (*dropped, *(name for name in ("scaling", "accumulation") if name in mixed))
    left, right = _fastest(base, dropped), _fastest(new, dropped)
    pairs = {key: [Pair(side, right[key])] for key, side in left.items() if key in right}
    rest_left = {key: side for key, side in left.items() if key not in pairs}
    rest_right = {key: side for key, side in right.items() if key not in pairs}
    if "dtype" in mixed:
        pairs |= _by_use(rest_left, rest_right, mixed)
    if mixed:
        alone, others = _grouped(rest_left, mixed), _grouped(rest_right, mixed)
        for alike, keys in alone.items():
            partners = others.get(alike, [])
            if len(keys) == len(partners) == 1:
                pairs[keys[0]] = [Pair(rest_left.pop(keys[0]), rest_right.pop(partners[0]))]
    return Matching(
        tuple(pair for key in left for pair in pairs.get(key, ())),
        tuple(rest_left.values()),
        tuple(rest_right.values()),
        _differences(rest_left, rest_right, mixed),
    )


def _by_use(
    left: dict[Identity, CaseSide], right: dict[Identity, CaseSide], mixed: Sequence[str]
) -> dict[Identity, list[Pair]]:
    """Pairs of two formats with the uses that both sides have alone; takes what it pairs out of left and right."""
    alone, others = _grouped(left, (*mixed, "layout")), _grouped(right, (*mixed, "layout"))
    pairs: dict[Identity, list[Pair]] = defaultdict(list)
    paired: set[Identity] = set()
    for alike, keys in alone.items():
        ours = _users(left, keys)
        theirs = _users(right, others.get(alike, ()))
        meeting: dict[tuple[Identity, Identity], set[_UseKey]] = defaultdict(set)
        for use, holders in ours.items():
            partners = theirs.get(use, ())
            if len(holders) == len(partners) == 1:
                meeting[holders[0], partners[0]].add(use)
        for (base, new), uses in meeting.items():
            pairs[base].append(Pair(_used_for(left[base], uses), _used_for(right[new], uses)))
            paired.add(new)
    for key in pairs:
        del left[key]
    for key in paired:
        del right[key]
    return pairs


_UseKey = tuple[str, str, str | None]


def _use_key(use: Use) -> _UseKey:
    return use.suite, use.role, use.phase


def _users(sides: Mapping[Identity, CaseSide], keys: Iterable[Identity]) -> dict[_UseKey, list[Identity]]:
    """The cases that serve each use of a suite."""
    users: dict[_UseKey, list[Identity]] = defaultdict(list)
    for key in keys:
        for use in dict.fromkeys(map(_use_key, sides[key].uses)):
            users[use].append(key)
    return users


def _used_for(side: CaseSide, uses: set[_UseKey]) -> CaseSide:
    return replace(side, uses=tuple(use for use in side.uses if _use_key(use) in uses))


def _without(identity: Identity, fields: Sequence[str]) -> Identity:
    if not fields:
        return identity
    fields = _with_followers(fields)
    return Identity._make(
        "" if name in fields else value for name, value in zip(Identity._fields, identity, strict=True)
    )


def _with_followers(fields: Sequence[str]) -> tuple[str, ...]:
    return (*fields, *(follower for name in fields for follower in FOLLOWS.get(name, ())))


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
    told = _with_followers(mixed)
    fields = [name for name in (*MIXABLE, "backend") if name not in told]
    alone, others = _grouped(left, (*mixed, *fields)), _grouped(right, (*mixed, *fields))
    apart: dict[tuple[str, ...], list[Identity]] = defaultdict(list)
    for alike in alone:
        if alike in others:
            names = tuple(name for name in fields if not _held(name, alone[alike]) & _held(name, others[alike]))
            followers = {follower for name in names for follower in FOLLOWS.get(name, ())}
            names = tuple(name for name in names if name not in followers)
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
