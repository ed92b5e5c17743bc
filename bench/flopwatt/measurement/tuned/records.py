"""What a tuning store holds: for a kernel, a GPU, a shape and versions the best configuration, and the evidence for it.

`README.md` beside this module explains the format.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from flopwatt.runs.records import Environment, Origin
from gemmkernels.backend import Config, ConfigValue
from gemmkernels.problem import Problem

VERSIONS: Final[tuple[str, ...]] = ("triton", "torch", "cuda")
"""Versions that an entry is valid for, beside the driver's."""

FOLLOWS_SHAPE: Final = ("GROUP_M", "NUM_SMS")
"""What of a configuration says in which order, and by how many programs, tiles are walked: any value computes any
shape, and a backend chooses it for the shape at hand."""

Objective: TypeAlias = Literal["time", "energy"]
OBJECTIVES: Final[tuple[Objective, ...]] = ("time", "energy")
Positive: TypeAlias = Annotated[float, Meta(gt=0, le=1e18)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=100_000)]


class Stored(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what the file holds: a field nobody knows means another format."""


class Estimate(Stored, frozen=True, kw_only=True):
    """A quantity with its 95 % interval, about the process that measured it. low, high: None where it has none."""

    value: Positive
    low: Annotated[float, Meta(ge=0, le=1e18)] | None = None
    high: Positive | None = None


class Measured(Stored, frozen=True, kw_only=True):
    """What one configuration took: seconds, and where power was read joules, of one GEMM."""

    config: dict[str, ConfigValue]
    time_s: Estimate
    energy_j: Estimate | None = None


class Tried(Stored, frozen=True, kw_only=True):
    """What became of the candidates.

    candidates: those whose shared memory fits by formula. compiled: of those given to the compiler. spilled,
    over_shared: compiled, and dropped for what the cubin says. measured: correct, with a figure to judge by. wrong:
    refused, failed or without a figure.
    """

    candidates: Count
    compiled: Count
    failed: Count = 0
    spilled: Count = 0
    over_shared: Count = 0
    measured: Count = 0
    wrong: Count = 0


class Evidence(Stored, frozen=True, kw_only=True):
    """Where an entry comes from. run_id: of the run file with the raw samples.

    default: the backend's own choice, None where it could not be measured. tied: other configurations whose figures
    cannot be told from the winner's. power_limit_w: the board's while it was measured.
    """

    origin: Origin
    run_id: str
    date: str
    board_id: str | None = None
    power_limit_w: float | None = None
    winner: Measured
    default: Measured | None = None
    tied: tuple[dict[str, ConfigValue], ...] = ()
    tried: Tried


class Entry(Stored, frozen=True, kw_only=True):
    """The best configuration found for one problem on one kind of GPU. gpu: the driver's name for it.

    bucket: of the problem, as `bucket_of` names it. versions: of what compiles and runs the kernel (triton, torch,
    cuda, driver); another triton may compile the same configuration to other code.
    """

    gpu: str
    backend: str
    objective: Objective
    problem: Problem
    bucket: str
    config: dict[str, ConfigValue]
    versions: dict[str, str]
    evidence: Evidence


def versions_of(environment: Environment) -> dict[str, str]:
    """The versions that a tuned configuration holds for, of those that are known."""
    found = {name: environment.versions[name] for name in VERSIONS if name in environment.versions}
    return {**found, "driver": environment.driver} if environment.driver else found


def bucket_of(problem: Problem) -> str:
    """The shape with each size rounded to a power of two, in the logarithm: 6144 becomes 8192, 5000 becomes 4096.

    Octaves, since that is how the best tile changes: with the number of tiles over the SMs, and with the length of K
    over a tile's prologue, by factors rather than by elements.
    """
    sizes = (problem.m, problem.n, problem.k) if problem.batch == 1 else problem_sizes(problem)
    return "x".join(str(2 ** round(math.log2(size))) for size in sizes)


def apart_from_shape(config: Config) -> dict[str, ConfigValue]:
    """What of a configuration does not follow the shape: the tile, and how it is computed."""
    return {name: value for name, value in config.items() if name not in FOLLOWS_SHAPE}


def problem_sizes(problem: Problem) -> tuple[int, int, int, int]:
    """Batch, M, N, K."""
    return problem.batch, problem.m, problem.n, problem.k


def distance(one: Problem, other: Problem) -> float:
    """Doublings between two shapes, over M, N, K and batch together."""
    pairs = zip(problem_sizes(one), problem_sizes(other), strict=True)
    return sum(abs(math.log2(a / b)) for a, b in pairs)


def identity(entry: Entry) -> tuple[object, ...]:
    """What an entry is about: GPU, backend, formats, objective, shape, versions, and whether it is of a simulation."""
    problem, versions = entry.problem, tuple(sorted(entry.versions.items()))
    formats = (problem.dtype, problem.out_dtype, problem.scaling or "", problem.layout)
    origin = "simulated" if entry.evidence.origin == "simulated" else "real"
    return (entry.gpu, entry.backend, *formats, entry.objective, *problem_sizes(problem), versions, origin)
