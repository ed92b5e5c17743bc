"""A quantity with its low and its high end, and the arithmetic that keeps the three apart."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Span(msgspec.Struct, frozen=True, order=False):
    """What is expected, and the ends if every input stood at its favourable or its unfavourable end at once.

    The ends are therefore further out than a 95 % interval. All operands are at least 0.
    """

    value: float
    low: float
    high: float

    def __add__(self, other: Span) -> Span:
        return Span(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, other: Span) -> Span:
        return Span(self.value * other.value, self.low * other.low, self.high * other.high)

    def __truediv__(self, other: Span) -> Span:
        return Span(self.value / other.value, self.low / other.high, self.high / other.low)

    def scaled(self, factor: float) -> Span:
        """Every end times a number that is at least 0."""
        return Span(self.value * factor, self.low * factor, self.high * factor)

    def beyond(self, other: Span) -> Span:
        """How far it exceeds `other`; nothing where it does not. Its low end is against the other's high one."""
        return Span(
            max(self.value - other.value, 0.0), max(self.low - other.high, 0.0), max(self.high - other.low, 0.0)
        )

    def inverse(self) -> Span:
        """One over it."""
        return Span(1 / self.value, 1 / self.high, 1 / self.low)


NOTHING = Span(0.0, 0.0, 0.0)


def exactly(value: float) -> Span:
    """A number without a range."""
    return Span(value, value, value)


def total(spans: Iterable[Span]) -> Span:
    """The sum, in the order given."""
    value = low = high = 0.0
    for span in spans:
        value += span.value
        low += span.low
        high += span.high
    return Span(value, low, high)
