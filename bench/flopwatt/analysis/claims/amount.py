"""Numbers that remember how they were come by: value, range, and the arithmetic in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

YEAR_S: Final = 365.25 * 86400

UNITS: Final = {
    "": 1.0, "×": 1.0, "× a year": 1.0, "%": 0.01,
    "W": 1.0, "MW": 1e6, "GW": 1e9,
    "J": 1.0, "kWh": 3.6e6, "MWh": 3.6e9, "TWh": 3.6e15,
    "s": 1.0, "days": 86400.0, "months": YEAR_S / 12, "year": YEAR_S, "years": YEAR_S,
    "GPU-s": 1.0, "GPU-h": 3600.0,
    "FLOP": 1.0, "TFLOPS": 1e12, "TFLOPS/W": 1e12, "B": 1.0, "GB/s": 1e9,
    "million USD": 1e6, "USD/GPU-h": 1 / 3600,
    "people": 1.0, "million people": 1e6, "homes": 1.0, "GPUs": 1.0, "tokens": 1.0, "parameters": 1.0,
}  # fmt: skip
"""What one of each unit is in SI units, dollars, or as a count."""

DIGITS: Final = 5
"""Significant digits of a step, enough that a reader who repeats it gets the next one."""

_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class Amount:
    """A positive number in SI units (or dollars, or a count) with its range, and how it was come by.

    low, high: with every input at the end that is worst; equal to value where no input has a range. words: the
    arithmetic as read by people. sign: of its last operation; empty for one number. unverified: names of the inputs
    nobody checked.
    """

    value: float
    low: float
    high: float
    words: str
    sign: str = ""
    unverified: frozenset[str] = frozenset()

    def __add__(self, other: Amount) -> Amount:
        return self._with(other, "+", self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, other: Amount) -> Amount:
        return self._with(other, "×", self.value * other.value, self.low * other.low, self.high * other.high)

    def __truediv__(self, other: Amount) -> Amount:
        return self._with(other, "÷", self.value / other.value, self.low / other.high, self.high / other.low)

    def __pow__(self, other: Amount) -> Amount:
        """For bases above 1, as growth is."""
        return self._with(other, "^", self.value**other.value, self.low**other.low, self.high**other.high)

    def _with(self, other: Amount, sign: str, value: float, low: float, high: float) -> Amount:
        words = f"{self._inside(sign)} {sign} {other._inside(sign)}"
        return Amount(value, low, high, words, sign, self.unverified | other.unverified)

    def _inside(self, sign: str) -> str:
        """The words as an operand: in brackets but for one number, and for sums of sums and products of products."""
        plain = not self.sign or (sign == self.sign and sign in "+×")
        return self.words if plain else f"({self.words})"

    @property
    def ranged(self) -> bool:
        """Whether any input has a range."""
        return not math.isclose(self.low, self.high)


def number(value: float, digits: int = DIGITS) -> str:
    """A number with so many significant digits: 0.0412, 12.3, 30,840,000, 3.8×10²⁵."""
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if not -4 <= exponent < 9:
        return f"{value / 10.0**exponent:.{digits}g}×10{str(exponent).translate(_SUPERSCRIPTS)}"
    places = max(0, digits - 1 - exponent)
    rounded = f"{round(value, digits - 1 - exponent):,.{places}f}"
    return rounded.rstrip("0").rstrip(".") if "." in rounded else rounded


def quantity(value: float, unit: str, digits: int = DIGITS) -> str:
    """A number of SI units in `unit`, which follows it."""
    shown = number(value / UNITS[unit], digits)
    return f"{shown}{unit}" if not unit or unit[0] in "×%" else f"{shown} {unit}"


def span(low: float, high: float, unit: str) -> str:
    """Two ends in SI units with three digits, their unit once: 1.54 to 3.62×; of equal ends, one with all digits."""
    if math.isclose(low, high):
        return quantity(high, unit)
    return f"{number(low / UNITS[unit], 3)} to {quantity(high, unit, 3)}"


def rounded(value: float) -> float:
    """A number that was measured or predicted, with the digits that a working shows of it."""
    return float(f"{value:.{DIGITS}g}")
