"""Tuning: which configurations are worth measuring, and the plan that measures them.

Measuring is a run like any other: cases with explicit configurations, checked and killable, in a run file. Nothing is
tuned while something else is timed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from flopwatt.measurement.device import threads
from flopwatt.measurement.tuned.records import Objective, Tried
from flopwatt.measurement.tuning.compiling import Job, Resources, Result, compile_all, is_compiled
from flopwatt.runs import gpus
from flopwatt.runs.plan import Plan
from flopwatt.runs.records import Case, Planned, Regime, Use, case_id
from gemmkernels.backend import BACKENDS, Config, Device, load
from gemmkernels.problem import Problem
from gemmkernels.tile_order import group_ms
from gemmkernels.tiling import tile_count

REGIMES: Final[dict[Objective, Regime]] = {"time": "burst", "energy": "sustained"}
"""How each objective is measured: bursts tell time before power acts, sustained load tells joules."""

SUITE: Final = "tuning"

VARIED_TILES: Final = 2
"""How many of the best tiles `energy` also tries in another order, or by fewer programs."""

SM_SHARES: Final = (7 / 8, 3 / 4)
"""Of the SMs, where memory is the limit: it may stay saturated while fewer SMs draw power."""

Key = tuple[Problem, str]
"""A problem and a backend: what one configuration is chosen for."""


@dataclass(frozen=True, slots=True)
class Wish:
    """One problem to tune a backend for. use: where it comes from, None for one asked for by its shape."""

    problem: Problem
    backend: str
    use: Use | None = None

    @property
    def key(self) -> Key:
        return self.problem, self.backend


@dataclass(frozen=True, slots=True)
class Shortlist:
    """The configurations to measure for one wish, the backend's default first where it compiled.

    failures: how often the compiler said what.
    """

    wish: Wish
    configs: tuple[Config, ...]
    tried: Tried
    default: Config
    failures: Mapping[str, int]


def tunable() -> list[str]:
    """The backends whose kernels Triton compiles, of those whose packages are installed."""
    found = []
    for name in BACKENDS:
        try:
            if is_compiled(name):
                found.append(name)
        except ImportError:
            continue
    return found


def wishes(plan: Plan) -> list[Wish]:
    """Each distinct problem and backend of a plan's single GEMMs, in its order."""
    found: dict[Key, Wish] = {}
    for planned in plan.cases:
        if planned.case.problem is not None:
            use = planned.uses[0] if planned.uses else None
            wish = Wish(planned.case.problem, planned.case.backend, use)
            found.setdefault(wish.key, wish)
    return list(found.values())


def refusal(wish: Wish, device: Device) -> str | None:
    """Why there is nothing to tune, in one line; None where there is."""
    backend = load(wish.backend)
    reason = backend.supports(wish.problem, device)
    if reason is None and not backend.configs(wish.problem, device):
        return f"{wish.backend} has no configuration that fits {device.name}"
    return reason


def candidates(wish: Wish, device: Device, objective: Objective, most: int) -> list[Config]:
    """What may be measured for one wish, in the order of preference.

    The backend's own configurations, the default first. For `energy` also variants of its best tiles, in another order
    or by fewer programs, in at most half of the `most` places of a shortlist.
    """
    own = list(load(wish.backend).configs(wish.problem, device))
    if objective == "time":
        return own
    tiles = {(config.get("BLOCK_M"), config.get("BLOCK_N")): config for config in reversed(own)}
    best = sorted(tiles.values(), key=own.index)[:VARIED_TILES]
    varied = [variant for config in best for variant in _variants(config, wish.problem, device)][: most // 2]
    first = most - len(varied)
    return own[:first] + varied + own[first:]


def _variants(config: Config, problem: Problem, device: Device) -> Iterator[Config]:
    """A configuration with the next best order of tiles, and with fewer programs where memory is the limit."""
    if "GROUP_M" in config and "SPLIT_K" not in config:  # where tiles are few, all are under way at once
        orders = group_ms(problem, device, int(config["BLOCK_M"]), int(config["BLOCK_N"]))
        yield from ({**config, "GROUP_M": group_m} for group_m in orders[:2] if group_m != config["GROUP_M"])
    if "NUM_SMS" in config and _is_bandwidth_bound(problem, device):
        tiles = tile_count(problem, int(config["BLOCK_M"]), int(config["BLOCK_N"]))
        programs = min(int(config["NUM_SMS"]), tiles)
        yield from ({**config, "NUM_SMS": round(programs * share)} for share in SM_SHARES if programs * share >= 1)


def _is_bandwidth_bound(problem: Problem, device: Device) -> bool:
    """Whether memory takes longer than the tensor cores by the datasheet; False for a GPU without one."""
    spec = gpus.find(device.name, device.memory_bytes or None, device.sm_count or None)
    peak = spec.peak_flop_per_s(problem.dtype) if spec else None
    return bool(spec and peak and problem.arithmetic_intensity < peak / spec.mem_bytes_per_s)


def jobs(asked: Sequence[tuple[Wish, Sequence[Config]]], device: Device, opcodes: bool = False) -> list[Job]:
    """What to compile: each wish's configurations, those of one configuration together, since they share kernels."""
    together: dict[tuple[str, tuple[object, ...]], tuple[Config, list[Problem]]] = {}
    for wish, configs in asked:
        for config in configs:
            together.setdefault((wish.backend, frozen(config)), (config, []))[1].append(wish.problem)
    return [
        Job(backend, config, device, tuple(problems), opcodes) for (backend, _), (config, problems) in together.items()
    ]


def shortlists(
    wanted: Sequence[Wish], device: Device, most: int, objective: Objective = "time"
) -> Iterator[Shortlist | int]:
    """Compiles all candidates and yields how many are left after each, then a shortlist for each wish.

    A shortlist holds at most `most` configurations, in the backend's order: compiled, within shared memory and not
    spilling. A default that spills stays in it, to be compared with.
    """
    asked = [(wish, candidates(wish, device, objective, most)) for wish in wanted]
    todo = jobs(asked, device)
    results: dict[tuple[Key, tuple[object, ...]], Result] = {}
    left = sum(len(job.problems) for job in todo)
    for job, answers in compile_all(todo, threads()):
        for problem, result in zip(job.problems, answers, strict=True):
            results[(problem, job.backend), frozen(job.config)] = result
        left -= len(answers)
        yield left
    for wish, configs in asked:
        yield _shortlist(wish, [(config, results[wish.key, frozen(config)]) for config in configs], device, most)


def frozen(config: Config) -> tuple[object, ...]:
    """A configuration as a key."""
    return tuple(sorted(config.items()))


def _shortlist(wish: Wish, compiled: Sequence[tuple[Config, Result]], device: Device, most: int) -> Shortlist:
    fates = Counter(_fate(result, device) for _, result in compiled)
    usable = [
        config
        for index, (config, result) in enumerate(compiled)
        if _fate(result, device) == "compiled" or (index == 0 and _fate(result, device) == "spilled")
    ]
    return Shortlist(
        wish=wish,
        configs=tuple(usable[:most]),
        tried=Tried(
            candidates=len(compiled),
            compiled=len(compiled) - fates["failed"],
            failed=fates["failed"],
            spilled=fates["spilled"],
            over_shared=fates["over_shared"],
        ),
        default=compiled[0][0],
        failures=Counter(result for _, result in compiled if isinstance(result, str)),
    )


def _fate(result: Result, device: Device) -> str:
    if not isinstance(result, Resources):
        return "failed"
    if result.shared_bytes > device.shared_memory_bytes:
        return "over_shared"
    return "spilled" if result.spills else "compiled"


def plan_for(lists: Sequence[Shortlist], objective: Objective) -> list[Planned]:
    """The cases that decide, one after another for each wish, at effort `fast`."""
    planned = []
    for shortlist in lists:
        wish = shortlist.wish
        use = _in_no_total(wish.use)
        for config in shortlist.configs:
            case = Case(
                problem=wish.problem,
                backend=wish.backend,
                config=dict(config),
                regime=REGIMES[objective],
                effort="fast",
            )
            planned.append(Planned(case_id=case_id(case), case=case, uses=(use,)))
    return planned


def _in_no_total(use: Use | None) -> Use:
    """A use in no suite's totals: ten configurations of a GEMM are not ten GEMMs."""
    role = use.role if use else "gemm"
    return Use(suite=SUITE, role=role, phase=use.phase if use else None, headline=False)
