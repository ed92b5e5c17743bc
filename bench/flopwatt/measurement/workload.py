"""A case's GEMMs as something a timer can launch: kernels prepared, results checked, operands laid out in memory."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from flopwatt.measurement.device import available_bytes
from flopwatt.measurement.rig import CaseSkipped, MemoryShort
from flopwatt.measurement.tuned.lookup import Found, Tuned
from flopwatt.runs.records import Case, Correctness
from gemmkernels import inputs, reference
from gemmkernels.backend import Backend, Config, Device, Launch, Operands
from gemmkernels.problem import Problem
from gemmkernels.torch_mm import apply_settings

FREE_FRACTION: Final = 0.9
"""Share of the free memory that a case's operands may take; the check and the libraries' workspace need the rest."""

CheckKey = tuple[str, Problem, tuple[tuple[str, object], ...]]
Step = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Workload:
    """One case ready to be launched: `step(i)` starts its GEMMs once on operand set i modulo `sets`.

    config: what ran, empty for a sequence, whose GEMMs each have their own. input_audit: of the timed operands.
    """

    step: Step
    sets: int
    config: dict[str, int | float | str | bool]
    settings: dict[str, str]
    input_audit: dict[str, float]
    correctness: Correctness
    correct: bool


class Workbench:
    """Prepares cases on one device. Remembers which kernels it has checked, so that no case is checked twice."""

    def __init__(self, device: Device, tuned: Tuned) -> None:
        self._device = device
        self._tuned = tuned
        self._checked: dict[CheckKey, reference.Correctness] = {}

    def prepare(self, case: Case, backend: Backend, seed: int) -> Workload:
        """Checks each of the case's GEMMs on normal inputs, then lays out the operands it will be timed on.

        Raises CaseSkipped where `backend` cannot compute one of them on this device or memory is too small.
        """
        problems = case.problems
        self._refuse_unsupported(problems, backend)
        chosen = [self._config(case, problem, backend) for problem in problems]
        configs = [found.config for found in chosen]
        settings = {**apply_settings(problems[0]), "threads": str(torch.get_num_threads()), **_sources(chosen)}
        launches = [backend.prepare(p, config, self._device) for p, config in zip(problems, configs, strict=True)]
        checks = [
            self._check(case.backend, problem, config, launch, seed)
            for problem, config, launch in zip(problems, configs, launches, strict=True)
        ]
        worst = max(
            checks, key=lambda found: found.relative_error / found.bound if found.bound else found.relative_error
        )
        sets = self._rotation(case)
        operands = [self._operands(problem, case.inputs, seed, sets) for problem in problems]
        return Workload(
            step=_one_after_another(launches, operands, sets),
            sets=sets,
            config=dict(configs[0]) if case.problem is not None else {},
            settings=settings,
            input_audit=inputs.audit(operands[0][0]),
            correctness=_storable(worst),
            correct=all(found.ok for found in checks),
        )

    def _refuse_unsupported(self, problems: Sequence[Problem], backend: Backend) -> None:
        for problem in problems:
            reason = backend.supports(problem, self._device)
            if reason is not None:
                raise CaseSkipped(reason)
        needed, free = sum(problem.min_bytes for problem in problems), self._free_bytes()
        if needed > FREE_FRACTION * free:
            fits = needed <= FREE_FRACTION * self._device.memory_bytes
            refusal = MemoryShort if fits else CaseSkipped
            raise refusal(f"its operands need {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free")

    def _config(self, case: Case, problem: Problem, backend: Backend) -> Found:
        """The case's configuration, else a tuned one, else the backend's default. source: empty without a choice."""
        if case.config is not None:
            return Found(case.config, "")
        candidates = backend.configs(problem, self._device)
        if len(candidates) == 1:
            return Found(candidates[0], "")
        return self._tuned.config(case.backend, problem, case.regime, candidates)

    def _check(self, name: str, problem: Problem, config: Config, launch: Launch, seed: int) -> reference.Correctness:
        key = (name, problem, tuple(sorted(config.items())))
        if key not in self._checked:
            (operands,) = inputs.make_operands(problem, self._device, distribution="normal", seed=seed)
            self._checked[key] = reference.check(problem, launch, operands, seed)
        return self._checked[key]

    def _rotation(self, case: Case) -> int:
        """Operand sets to cycle through. The GEMMs of a sequence push each other's operands out of the cache."""
        if case.cache == "hot":
            return 1
        if case.problem is not None:
            limit = int(min(inputs.MEMORY_FRACTION * self._device.memory_bytes, FREE_FRACTION * self._free_bytes()))
            return inputs.rotation_sets(case.problem, self._device, limit)
        total = sum(problem.min_bytes for problem in case.problems)
        return 1 if total > 2 * self._device.l2_bytes else min(2 * self._device.l2_bytes // total + 1, inputs.MAX_SETS)

    def _operands(self, problem: Problem, distribution: str, seed: int, sets: int) -> list[Operands]:
        """One drawn set and copies of it: what matters is that each lies elsewhere in memory, and copying is fast."""
        (first,) = inputs.make_operands(problem, self._device, distribution=distribution, seed=seed)
        first.out.zero_()  # a page that was never written costs its first writer a fault
        return [first] + [_copy(first) for _ in range(sets - 1)]

    def _free_bytes(self) -> int:
        if self._device.kind == "cuda":
            free: int = torch.cuda.mem_get_info(self._device.index)[0]
            return free
        return min(self._device.memory_bytes, available_bytes())


def _sources(chosen: Sequence[Found]) -> dict[str, str]:
    """Which configuration ran and why, as `config_source`; of a sequence, for how many of its GEMMs."""
    counts = Counter(found.source for found in chosen if found.source)
    if not counts:
        return {}
    if len(chosen) == 1:
        return {"config_source": chosen[0].source}
    return {"config_source": "; ".join(f"{count} × {source}" for source, count in counts.items())}


def _one_after_another(launches: Sequence[Launch], operands: Sequence[Sequence[Operands]], sets: int) -> Step:
    if len(launches) == 1:
        launch, (rotating,) = launches[0], operands

        def single(index: int) -> None:
            launch(rotating[index % sets])

        return single

    pairs = list(zip(launches, operands, strict=True))

    def sequence(index: int) -> None:
        for launch, rotating in pairs:
            launch(rotating[index % sets])

    return sequence


def _copy(operands: Operands) -> Operands:
    """The same values elsewhere in memory, strides kept."""
    return Operands(operands.a.clone(), operands.b.clone(), operands.out.clone(), operands.scale_a, operands.scale_b)


def _storable(found: reference.Correctness) -> Correctness:
    error = found.relative_error if math.isfinite(found.relative_error) else None
    return Correctness(relative_error=error, bound=found.bound, method=found.method)
