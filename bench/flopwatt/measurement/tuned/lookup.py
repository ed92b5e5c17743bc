"""Which tuned configuration a problem gets, if any, and why: for the process that prepares kernels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from flopwatt.errors import TuningStoreError
from flopwatt.measurement.tuned.records import (
    Entry,
    Objective,
    apart_from_shape,
    bucket_of,
    distance,
    versions_of,
)
from flopwatt.measurement.tuned.store import stored
from flopwatt.runs.records import Environment, Origin
from gemmkernels.backend import Config
from gemmkernels.problem import Problem

FAR: Final = 2.0
"""How far a tuned bucket may lie, in doublings of M, N, K and batch together. Beyond a factor of four in work or in
the number of tiles, a backend's default, which knows the shape at hand, is the better guess."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a configuration is looked up for."""

    gpu: str
    backend: str
    problem: Problem
    regime: str
    versions: dict[str, str]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Found:
    """A configuration for a problem and, for its record, why it is this one."""

    config: Config
    source: str


class Tuned:
    """The stores as one process uses them: read when first asked."""

    def __init__(self, environment: Environment, origin: Origin) -> None:
        self._gpu, self._versions, self._origin = environment.gpu, versions_of(environment), origin

    @cached_property
    def entries(self) -> tuple[Entry, ...] | None:
        """Those for this GPU and kind of run; None where a store is damaged."""
        simulated = self._origin == "simulated"
        try:
            return tuple(
                entry
                for entry in stored()
                if entry.gpu == self._gpu and (entry.evidence.origin == "simulated") == simulated
            )
        except TuningStoreError:
            return None

    def knows(self, backend: str) -> bool:
        """Whether there is any entry for a backend."""
        return any(entry.backend == backend for entry in self.entries or ())

    def config(self, backend: str, problem: Problem, regime: str, candidates: Sequence[Config]) -> Found:
        """The configuration to run and why: a tuned one that is among the candidates, else the first of these."""
        if self.entries is None:
            return Found(candidates[0], "default: the tuning store is damaged")
        wanted = Wanted(self._gpu, backend, problem, regime, self._versions, self._origin)
        found = choose(self.entries, wanted, candidates)
        return found if isinstance(found, Found) else Found(candidates[0], f"default: {found}")


def choose(entries: Iterable[Entry], wanted: Wanted, candidates: Sequence[Config]) -> Found | str:
    """The configuration for what is wanted, or why the store has none.

    First comes the same triton, then the exact shape and the nearest ones within `FAR`, then the objective: bursts
    prefer what was tuned for time, sustained load what was tuned for energy, since under a power limit the kernel that
    spends less is also the faster one. A configuration that is no candidate for the problem is passed over; from
    another shape, `FOLLOWS_SHAPE` is not taken over. Simulated entries serve simulations only, and those no others.
    """
    similar = [entry for entry in entries if _similar(entry, wanted)]
    if not similar:
        return f"no entry for this GPU, backend and format in layout {wanted.problem.layout}"
    near = [entry for entry in similar if distance(entry.problem, wanted.problem) <= FAR]
    if not near:
        return f"no entry near {bucket_of(wanted.problem)}"
    preferred: Objective = "time" if wanted.regime == "burst" else "energy"

    def rank(entry: Entry) -> tuple[object, ...]:
        other_triton = entry.versions.get("triton") != wanted.versions.get("triton")
        others = sum(entry.versions.get(name) != version for name, version in wanted.versions.items())
        far = distance(entry.problem, wanted.problem)
        return other_triton, far, entry.objective != preferred, others, _newest_first(entry)

    for entry in sorted(near, key=rank):
        for candidate in candidates:
            if apart_from_shape(candidate) == apart_from_shape(entry.config):
                return Found(entry.config if entry.problem == wanted.problem else candidate, _source(entry, wanted))
    return f"no entry near {bucket_of(wanted.problem)} is a candidate for {wanted.problem.shape}"


def _similar(entry: Entry, wanted: Wanted) -> bool:
    mine, theirs = entry.problem, wanted.problem
    return (
        (entry.gpu, entry.backend) == (wanted.gpu, wanted.backend)
        and (mine.dtype, mine.out_dtype, mine.layout, mine.scaling)
        == (theirs.dtype, theirs.out_dtype, theirs.layout, theirs.scaling)
        and (entry.evidence.origin == "simulated") == (wanted.origin == "simulated")
    )


def _source(entry: Entry, wanted: Wanted) -> str:
    """Why this entry, in a few words: `tuned for energy: nearest bucket 8192x4096x4096, on triton 3.6.0`."""
    if entry.problem == wanted.problem:
        how = "exact shape"
    elif entry.bucket == bucket_of(wanted.problem):
        how = f"bucket {entry.bucket}, at {entry.problem.shape}"
    else:
        how = f"nearest bucket {entry.bucket}, at {entry.problem.shape}"
    triton = entry.versions.get("triton")
    stale = f", by another triton ({triton})" if triton != wanted.versions.get("triton") else ""
    return f"tuned for {entry.objective}: {how}{stale}"


def _newest_first(entry: Entry) -> tuple[int, ...]:
    """Sorts ISO 8601 dates backwards."""
    return tuple(-ord(character) for character in entry.evidence.date)
