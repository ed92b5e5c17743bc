"""Every claim with what answers it, in the order that a reader meets them."""

from __future__ import annotations

from flopwatt.analysis.claims import compute, efficiency, energy, money
from flopwatt.analysis.claims.claim import Answer
from flopwatt.analysis.claims.evidence import Evidence


def answers(evidence: Evidence) -> list[Answer]:
    """All claims held against public figures and these files."""
    return [
        efficiency.per_watt(evidence),
        efficiency.generations(evidence),
        compute.llama_3(evidence),
        compute.llama_4(evidence),
        compute.doubling(evidence),
        compute.growth(evidence),
        money.growth(evidence),
        energy.people(evidence),
        compute.equivalents(evidence),
        energy.homes(evidence),
        energy.million(evidence),
        money.gpt_3(evidence),
        money.inference(evidence),
        money.falls(evidence),
    ]
