"""The working of a claim as it is computed: inputs with their sources, steps of arithmetic, and what they find."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from flopwatt.analysis.claims.amount import DIGITS, UNITS, Amount, number, quantity
from flopwatt.analysis.facts import Quantity

Basis = Literal["nameplate", "published", "imported", "measured", "simulated", "model", "arithmetic"]
Confidence = Literal["checked", "unverified"]
Ends = tuple[float, float]

EXACT: Final = 9
"""Digits of an input: as many as its source gives."""


class Sourced(Protocol):
    """A published figure, or several of one thing."""

    @property
    def source(self) -> str: ...
    @property
    def confidence(self) -> Confidence: ...


@dataclass(frozen=True, slots=True)
class Published:
    """Where a figure is from that another part of flopwatt keeps or computes, and how sure it is."""

    source: str
    confidence: Confidence


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the working. expression: None for an input, which has a source instead.

    value, low, high: in `unit`. verified: False for an input nobody checked, and for what rests on one.
    """

    name: str
    value: float
    low: float
    high: float
    unit: str
    expression: str | None = None
    source: str | None = None
    verified: bool = True

    @property
    def figure(self) -> str:
        """The value with its unit, and the range where there is one."""
        scale = UNITS[self.unit]
        shown = quantity(self.value * scale, self.unit, EXACT if self.expression is None else DIGITS)
        return shown if self.low == self.high else f"{shown} ({number(self.low, 3)} to {number(self.high, 3)})"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one kind of evidence says of a claim. counts: whether the verdict may rest on it."""

    basis: Basis
    line: Line
    counts: bool = True


class Working:
    """Collects the lines of one claim's working, in order."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.findings: list[Finding] = []
        self.unverified: frozenset[str] = frozenset()
        self.missing: list[str] = []

    def given(self, name: str, value: float, unit: str, fact: Sourced, ends: Ends | None = None) -> Amount:
        """An input in `unit`, with the source and confidence of `fact`. ends: its range."""
        low, high = ends or (value, value)
        return self._input(Line(name, value, low, high, unit, None, fact.source, fact.confidence == "checked"))

    def stated(self, name: str, value: float, unit: str, source: str, ends: Ends | None = None) -> Amount:
        """An input that is what it is: a number of the claim, a definition, a measurement. source: which."""
        low, high = ends or (value, value)
        return self._input(Line(name, value, low, high, unit, None, source))

    def published(self, name: str, value: float, unit: str, fact: Sourced) -> Amount:
        """An input that itself speaks to the claim."""
        amount = self.given(name, value, unit, fact)
        line = next(line for line in self.lines if (line.name, line.source) == (name, fact.source))
        self._found(Finding("published", line), amount)
        return amount

    def fact(self, name: str, one: Quantity) -> Amount:
        """A published quantity, in its own unit."""
        ends = None if one.low is None or one.high is None else (one.low, one.high)
        return self.given(name, one.value, one.unit, one, ends)

    def step(self, name: str, amount: Amount, unit: str) -> Amount:
        """A line of arithmetic; what comes back stands for its result in later ones."""
        value, low, high = (one / UNITS[unit] for one in (amount.value, amount.low, amount.high))
        if not amount.ranged:  # rounding alone is no range
            low = high = value
        self.lines.append(Line(name, value, low, high, unit, amount.words, verified=not amount.unverified))
        return Amount(amount.value, amount.low, amount.high, quantity(amount.value, unit), unverified=amount.unverified)

    def find(self, basis: Basis, name: str, amount: Amount, unit: str, counts: bool = True) -> Amount:
        """A step whose result speaks to the claim. counts: whether the verdict may rest on it."""
        found = self.step(name, amount, unit)
        self._found(Finding(basis, self.lines[-1], counts), amount)
        return found

    def lacks(self, what: str | None) -> None:
        """Evidence that would speak to the claim and is not at hand; None for nothing."""
        if what is not None:
            self.missing.append(what)

    def _found(self, finding: Finding, amount: Amount) -> None:
        self.findings.append(finding)
        if finding.counts:
            self.unverified |= amount.unverified

    def _input(self, line: Line) -> Amount:
        if line not in self.lines:
            self.lines.append(line)
        scale = UNITS[line.unit]
        return Amount(
            line.value * scale, line.low * scale, line.high * scale, quantity(line.value * scale, line.unit, EXACT),
            unverified=frozenset() if line.verified else frozenset({line.name}),
        )  # fmt: skip


def ends(amounts: Iterable[Amount]) -> Ends:
    """The lowest low and the highest high of several amounts."""
    several = list(amounts)
    return min(one.low for one in several), max(one.high for one in several)
