"""What a price rests on beyond a calibration: every number with its range, unit, source and how sure it is."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from typing import Final, Literal

import msgspec

from flopwatt.analysis.cost.spans import Span
from flopwatt.errors import InputError

Confidence = Literal["checked", "unverified", "fitted", "judgement", "stated"]

MOST: Final = 1e15
"""Of any number that is stated: far from where arithmetic overflows."""

BY_ARCHITECTURE: Final = ("gemm_speed", "flash_forward", "flash_backward")
"""Assumptions that depend on the GPU's architecture."""


class Assumption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One number that a price rests on.

    low, high: ends of its range. least, most: what may be stated for it at all. confidence: `checked` against its
    source, `unverified`, `fitted` on published figures by a script of this repository, `judgement` of ours without a
    source, or `stated` by the user.
    """

    value: float
    low: float
    high: float
    unit: str
    meaning: str
    source: str
    confidence: Confidence
    least: float = 0.0
    most: float = MOST

    @property
    def span(self) -> Span:
        """The number with its ends."""
        return Span(self.value, self.low, self.high)


class Assumptions(msgspec.Struct, frozen=True):
    """All of them by name; a name in square brackets, as in `assumptions["pue"]`, gives its Span."""

    table: Mapping[str, Assumption]

    def __getitem__(self, name: str) -> Span:
        return self.table[name].span

    def own_name(self, name: str, arch: str) -> str:
        """The name under which an assumption that depends on the GPU's architecture stands for this one."""
        own = f"{name}_{arch}"
        return own if own in self.table else f"{name}_other"

    def used(self, archs: Iterable[str]) -> dict[str, Assumption]:
        """Those that GPUs of these architectures rest on."""
        seen = list(archs)
        own = {self.own_name(name, arch) for name in BY_ARCHITECTURE for arch in seen}
        return {name: one for name, one in self.table.items() if name in own or not name.startswith(BY_ARCHITECTURE)}

    def with_(self, stated: Mapping[str, Span]) -> Assumptions:
        """The same with some numbers as the user states them. Raises InputError for one that cannot be."""
        changed = dict(self.table)
        for name, span in stated.items():
            if name not in changed:
                raise InputError(f"no assumption is called {name!r}: choose one of {', '.join(sorted(changed))}")
            least, most = changed[name].least, changed[name].most
            if not least <= span.low <= span.high <= most:
                raise InputError(f"{name} ({changed[name].unit}): give {least:g} to {most:g}, ends included")
            changed[name] = msgspec.structs.replace(
                changed[name], value=span.value, low=span.low, high=span.high, source="stated", confidence="stated"
            )
        return Assumptions(changed)


@cache
def defaults() -> Assumptions:
    """Those of defaults.toml, which gives the source of each."""
    raw = tomllib.loads((files("flopwatt.analysis.cost") / "defaults.toml").read_text(encoding="utf-8"))
    return Assumptions(msgspec.convert(raw, dict[str, Assumption]))


def parse(words: Iterable[str]) -> dict[str, Span]:
    """NAME=VALUE or NAME=VALUE:LOW:HIGH words as a mapping. Raises InputError."""
    stated: dict[str, Span] = {}
    for word in words:
        name, _, text = word.partition("=")
        stated[name.strip()] = parse_span(text, f"--assume {word!r}")
    return stated


def parse_span(text: str, where: str) -> Span:
    """VALUE or VALUE:LOW:HIGH, each at least 0 and in that order. Raises InputError naming `where`."""
    try:
        numbers = [float(part) for part in text.split(":")]
    except ValueError:
        numbers = []
    value, low, high = numbers if len(numbers) == 3 else (numbers * 3 if len(numbers) == 1 else (math.nan,) * 3)
    if not 0 <= low <= value <= high <= MOST:
        raise InputError(f"{where}: write VALUE, or VALUE:LOW:HIGH with LOW ≤ VALUE ≤ HIGH, such as 1.1:1.05:1.5")
    return Span(value, low, high)
