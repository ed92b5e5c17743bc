"""Claims about work per watt, and about the watts of each generation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Final

from flopwatt.analysis.claims.amount import Amount, number, rounded, span
from flopwatt.analysis.claims.claim import SCALE_3, Answer, Claim, Verdict, answer, judged, reaches
from flopwatt.analysis.claims.evidence import Evidence, Gain, Measure, gains, predicted, unmeasured
from flopwatt.analysis.claims.given import BASE, GPUS, NEW, Chip, chip, peak, published_pair, short
from flopwatt.analysis.claims.working import Basis, Working, ends
from flopwatt.analysis.published_speed import Times

PER_WATT: Final = Claim("h100-per-watt", "The H100 has “3x better performance-per-watt than the A100”", SCALE_3)
GENERATIONS: Final = Claim("generations", "Each generation is more efficient, yet consumption rises with each", SCALE_3)

REGIMES: Final = ("burst with cache flush", "sustained")
"""Loads under which one source published both chips."""

ALIKE: Final = (("fp32", "fp32"), ("tf32", "tf32"), ("bf16", "bf16"), ("int8", "int8"))
ACROSS: Final = (("bf16", "fp8_e4m3"),)
"""The H100 has fp8 and the A100 has not: what a buyer of one may compare with what the other could do."""

CLAIMED: Final = 3.0
ROUNDS_TO_IT: Final = 2.5
"""From here on a ratio rounds to the claimed one."""


_Ratio = tuple[Basis, Amount]


def per_watt(evidence: Evidence) -> Answer:
    """The H100's TFLOPS/W over the A100's, by format and by kind of evidence."""
    working = Working()
    old, new = (chip(working, name) for name in GPUS)
    alike = [found for dtypes in ALIKE for found in _ratios(working, evidence, old, new, dtypes)]
    across = [found for dtypes in ACROSS for found in _ratios(working, evidence, old, new, dtypes)]
    working.lacks(unmeasured(evidence, (BASE, NEW)))
    return answer(PER_WATT, f"{number(CLAIMED)}×", working, _per_watt_verdict(alike, across))


def _ratios(working: Working, evidence: Evidence, old: Chip, new: Chip, dtypes: tuple[str, str]) -> list[_Ratio]:
    """Every ratio that there is for one pair of formats, the weakest kind of evidence first."""
    label = dtypes[0] if dtypes[0] == dtypes[1] else f"{short(dtypes[1])} against {dtypes[0]}"
    peaks = [peak(working, one.spec, dtype) for one, dtype in zip((old, new), dtypes, strict=True)]
    ratio = (peaks[1] / new.power) / (peaks[0] / old.power)
    plate = working.find("nameplate", f"{label}: dense peak per watt of board power", ratio, "×")
    return [
        ("nameplate", plate),
        *_published(working, old, new, dtypes, label),
        *_imported(working, evidence, old, new, dtypes, label),
        *_predicted(working, evidence, dtypes, label),
        *(
            measured(working, gain, f"{label}: {gain.what}", "TFLOPS/W")
            for gain in gains(evidence, (BASE, NEW), dtypes)
        ),
    ]


def measured(working: Working, gain: Gain, name: str, unit: str) -> _Ratio:
    """A ratio that the files given hold. What was simulated is shown, and never counts."""
    old, new = (
        working.stated(f"{family}, {gain.origin}", rounded(value), unit, f"the files given: {gain.what}")
        for family, value in ((BASE, gain.base), (NEW, gain.new))
    )
    real = gain.origin == "measured"
    basis: Basis = "measured" if real else "simulated"
    ratio = replace(new / old, low=gain.low, high=gain.high)
    return basis, working.find(basis, name, ratio, "×", counts=real)


def _published(working: Working, old: Chip, new: Chip, dtypes: tuple[str, str], label: str) -> list[_Ratio]:
    """What others published of both chips under the same load, if both drew all they may."""
    found: list[_Ratio] = []
    for regime in REGIMES:
        speeds = published_pair(working, regime, dtypes)
        if speeds is not None:
            name = f"{label}: {regime}, at the boards' limits"
            ratio = (speeds[1] / new.power) / (speeds[0] / old.power)
            found.append(("published", working.find("published", name, ratio, "×")))
    return found


def _imported(
    working: Working, evidence: Evidence, old: Chip, new: Chip, dtypes: tuple[str, str], label: str
) -> list[_Ratio]:
    """What imported tables, which have no watts of the A100, come to if both boards drew all they may."""
    found: list[_Ratio] = []
    times = Times(evidence.of_origin("imported"))
    for stack in times.stacks:
        speedups = times.speedups(stack, new.spec.name, dtypes)
        spread = speedups.of_largest if speedups else None
        if spread is None:
            continue
        source = f"the tables given, {stack}: geometric mean and middle 80 % of the GEMMs of 256 GFLOP and more"
        faster = working.stated(
            f"{label}: times as fast through {stack}", rounded(spread.mean), "×", source, spread[1:]
        )
        name = f"{label}: through {stack}, at the boards' limits"
        found.append(("imported", working.find("imported", name, faster * old.power / new.power, "×")))
    return found


def _predicted(working: Working, evidence: Evidence, dtypes: tuple[str, str], label: str) -> list[_Ratio]:
    """What calibrations of both chips predict; shown, and not returned, where no verdict may rest on it."""
    found = (predicted(evidence, family, dtype) for family, dtype in zip((BASE, NEW), dtypes, strict=True))
    sides = [side for side in found if side is not None]
    if len(sides) < len(dtypes):
        return []
    amounts = []
    for side, dtype in zip(sides, dtypes, strict=True):
        name = f"{side.gpu} {short(dtype)} predicted, 8192×8192×8192"
        value, ends = rounded(side.value), (side.low, side.high)
        amounts.append(working.given(name, value, "TFLOPS/W", side.source, ends))
    basis: Basis = "simulated" if any(side.simulated for side in sides) else "model"
    counts = all(side.counts for side in sides)
    ratio = working.find(basis, f"{label}: predicted", amounts[1] / amounts[0], "×", counts)
    return [(basis, ratio)] if counts else []


def _per_watt_verdict(alike: Sequence[_Ratio], across: Sequence[_Ratio]) -> Verdict:
    """By what was measured where there is any, else by all that is published."""
    same, mixed = _strongest(alike), _strongest(across)
    low, high = ends(same)
    like = f"{span(low, high, '×')} in the same number format"
    kind = reaches((low, high), ROUNDS_TO_IT)
    if kind == "not supported" and ends(mixed)[1] >= ROUNDS_TO_IT:
        against = f"{span(*ends(mixed), '×')} where the H100 computes in fp8 and the A100, which has none, in bf16"
        return judged("depends", "on the number format", f"{like}, {against}")
    return judged(kind, "on the work", like)


def _strongest(found: Sequence[_Ratio]) -> list[Amount]:
    best = [amount for basis, amount in found if basis == "measured"]
    return best or [amount for basis, amount in found if basis != "simulated"]


def generations(evidence: Evidence) -> Answer:
    """TFLOPS/W and board power of four generations, and measured where the files hold two of them."""
    working = Working()
    better: list[Amount] = []
    hungrier: list[Amount] = []
    chips = []
    for name in ("V100-SXM2-32GB", *GPUS, "B200-SXM6-180GB"):
        one = chip(working, name)
        plate = peak(working, one.spec, "fp16") / one.power
        chips.append((one, working.step(f"{name} at nameplate", plate, "TFLOPS/W")))
    for (old, before), (new, after) in pairwise(chips):
        pair = f"{new.spec.name} over {old.spec.name}"
        better.append(working.find("nameplate", f"{pair}: TFLOPS/W", after / before, "×"))
        hungrier.append(working.find("nameplate", f"{pair}: watts of a board", new.power / old.power, "×"))
    measures: tuple[tuple[Measure, str, list[Amount]], ...] = (
        ("tflops-per-w", "TFLOPS/W", better),
        ("power", "W", hungrier),
    )
    for measure, unit, into in measures:
        for gain in gains(evidence, (BASE, NEW), ("bf16", "bf16"), measure):
            basis, ratio = measured(working, gain, f"{NEW} over {BASE}: {unit}, {gain.what}", unit)
            if basis == "measured":
                into.append(ratio)
    working.lacks(unmeasured(evidence, (BASE, NEW)))
    why = (
        f"each board does {span(*ends(better), '×')} the work per watt of the one before and draws "
        f"{span(*ends(hungrier), '×')} its watts"
    )
    both = min(ends(better)[0], ends(hungrier)[0]) > 1
    return answer(
        GENERATIONS, "above 1×, both, at every step", working, Verdict("supported" if both else "not supported", why)
    )
