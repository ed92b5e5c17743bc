"""A public claim, and the answer to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from flopwatt.analysis.claims.working import Ends, Finding, Line, Working

Kind = Literal["supported", "not supported", "depends", "not measurable here"]

SCALE_3: Final = "“Scale Is All You Need? Part 3”"
BIG_BET: Final = "“Scaling AI: The Big Bet on Computing Power”"
RACE: Final = "“The Race to Discover if AI will Scale”"
TRUE_COST: Final = "“The True Cost of Compute in AI”"


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody said in public. says: in our words but for what stands in quotation marks. source: the title."""

    name: str
    says: str
    source: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim holds. why: in one sentence, with the figures it rests on."""

    kind: Kind
    why: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A claim held against what is known.

    implies: the number it implies. missing: evidence that is not at hand. unverified: inputs of the verdict's figures
    that nobody checked. working: every input with its source and every line of arithmetic, in order.
    """

    claim: Claim
    implies: str
    findings: tuple[Finding, ...]
    verdict: Verdict
    missing: tuple[str, ...]
    unverified: tuple[str, ...]
    working: tuple[Line, ...]

    @property
    def doubt(self) -> str | None:
        """That the verdict rests on what nobody checked; None where it does not."""
        return f"rests on unverified figures: {'; '.join(self.unverified)}" if self.unverified else None

    @property
    def ranges(self) -> dict[str, Ends]:
        """By unit, the lowest and the highest of the findings that the verdict may rest on."""
        found: dict[str, Ends] = {}
        for finding in self.findings:
            if finding.counts:
                line = finding.line
                low, high = found.get(line.unit, (line.low, line.high))
                found[line.unit] = min(low, line.low), max(high, line.high)
        return found


def answer(claim: Claim, implies: str, working: Working, verdict: Verdict) -> Answer:
    """The answer with its working."""
    return Answer(
        claim,
        implies,
        tuple(working.findings),
        verdict,
        tuple(working.missing),
        tuple(sorted(working.unverified)),
        tuple(working.lines),
    )


def reaches(span: Ends, threshold: float) -> Kind:
    """Whether all of a span, some of it or none reaches what is claimed at least."""
    low, high = span
    return "supported" if low >= threshold else "depends" if high >= threshold else "not supported"


def judged(kind: Kind, on: str, why: str) -> Verdict:
    """A verdict that says what it depends on, where it does."""
    return Verdict(kind, f"{on}: {why}" if kind == "depends" else why)
