"""The values that operands are filled with, by name. Needs no PyTorch, so that a plan can be read without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

KINDS: Final = ("normal", "uniform", "zeros", "integer", "sparse")


class DistributionError(ValueError):
    """A distribution that does not exist; the message names those that do."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """How operand values are drawn, each independently of the others.

    kind: `normal` is N(0,1); `uniform` is [-1,1); `zeros`; `integer` is -3..3, exact in every format; `sparse` is
    `normal` with the fraction `zeroed` of values, at random places, replaced by zero.
    """

    kind: str
    zeroed: float = 0.0

    @property
    def name(self) -> str:
        """The text that `parse_distribution` reads back: `normal`, `sparse:0.5`."""
        return f"sparse:{self.zeroed:g}" if self.kind == "sparse" else self.kind


def parse_distribution(text: str) -> Distribution:
    """The distribution that `text` names: one of `KINDS`, `sparse` with its fraction as in `sparse:0.5`.

    Raises DistributionError, a ValueError.
    """
    kind, colon, argument = text.strip().partition(":")
    if kind not in KINDS:
        raise DistributionError(
            f"unknown distribution {text!r}: choose normal, uniform, zeros, integer or sparse:P with 0 < P < 1"
        )
    if kind != "sparse":
        if colon:
            raise DistributionError(f"distribution {text!r}: only sparse takes a number, write {kind}")
        return Distribution(kind)
    try:
        zeroed = float(argument)
    except ValueError:
        zeroed = -1.0
    if not 0.0 < zeroed < 1.0:
        raise DistributionError(
            f"distribution {text!r}: write sparse:P with 0 < P < 1, the fraction of zeros, as sparse:0.5"
        )
    return Distribution("sparse", zeroed)
