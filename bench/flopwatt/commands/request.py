"""The words of `flopwatt run`, checked before anything is started or written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, get_args

from flopwatt.commands.words import one_of
from flopwatt.errors import InputError
from flopwatt.runs.plan import Choices, Plan, build
from flopwatt.runs.records import EFFORTS, REGIMES, EffortName, Environment, Regime
from flopwatt.runs.suites import DeviceKind, Suite, load_model, load_suite, suite_from_model, suite_from_shapes
from gemmkernels.backend import BACKENDS
from gemmkernels.distribution import DistributionError, parse_distribution
from gemmkernels.problem import DTYPES

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)")
_UNIT_S: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
PROCESSES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Request:
    """What to measure, as asked for. Empty or None leaves the choice to the suite or the device."""

    suites: Sequence[str] = ()
    model: str | None = None
    seq: int | None = None
    micro_batch: int | None = None
    tensor_parallel: int | None = None
    shapes: Sequence[str] = ()
    dtypes: Sequence[str] = ()
    backends: Sequence[str] = ()
    regimes: Sequence[str] = ()
    inputs: Sequence[str] = ()
    effort: str | None = None
    processes: int | None = None
    budget_s: float | None = None
    seed: int = 0

    @classmethod
    def of(
        cls,
        budget_s: float | None,
        suites: Sequence[str] | None,
        model: str | None,
        seq: int | None,
        micro_batch: int | None,
        tensor_parallel: int | None,
        shapes: Sequence[str] | None,
        dtypes: Sequence[str] | None,
        backends: Sequence[str] | None,
        regimes: Sequence[str] | None,
        inputs: Sequence[str] | None,
        effort: str | None,
        processes: int | None,
        seed: int | None,
    ) -> Request:
        """The words of a command line, None where one was not given."""
        return cls(
            suites or (), model, seq, micro_batch, tensor_parallel, shapes or (), dtypes or (), backends or (),
            regimes or (), inputs or (), effort, processes, budget_s, seed or 0,
        )  # fmt: skip

    def check(self) -> None:
        """Raises InputError or SuiteError for the first word that is wrong, whatever device there is."""
        asked = (
            ("dtype", self.dtypes, DTYPES),
            ("backend", self.backends, tuple(BACKENDS)),
            ("regime", self.regimes, REGIMES),
            ("effort", [self.effort] if self.effort else [], EFFORTS),
        )
        for what, words, known in asked:
            for word in words:
                one_of(what, word, known)
        if self.processes is not None and not 1 <= self.processes <= PROCESSES_MAX:
            raise InputError(f"--processes {self.processes}: give 1 to {PROCESSES_MAX}")
        try:
            for text in self.inputs:
                parse_distribution(text)
        except DistributionError as error:
            raise InputError(f"--inputs: {error}") from None
        for kind in get_args(DeviceKind):
            self.load("bf16", kind)

    def load(self, dtype: str, kind: DeviceKind) -> list[Suite]:
        """The suites asked for, in one dtype; `quick` where nothing was."""
        suites = [load_suite(name, dtype=dtype, device_kind=kind) for name in self.suites]
        if self.model is not None:
            model = load_model(self.model).with_(
                seq=self.seq, micro_batch=self.micro_batch, tensor_parallel=self.tensor_parallel
            )
            suites.append(suite_from_model(model, dtype=dtype))
        elif any(value is not None for value in (self.seq, self.micro_batch, self.tensor_parallel)):
            raise InputError("--seq, --micro-batch and --tp adjust a model: name one with --model")
        if self.shapes:
            suites.append(suite_from_shapes(self.shapes, dtype=dtype))
        return _distinct(suites) or [load_suite("quick", dtype=dtype, device_kind=kind)]

    def plan(self, environment: Environment, default_dtype: str) -> Plan:
        """The plan for a device. Raises InputError for a shape that can never fit its memory."""
        self._check_memory(self._suites(environment.kind, default_dtype), environment)
        return self.plan_for(environment.kind, default_dtype)

    def plan_for(self, kind: DeviceKind, default_dtype: str) -> Plan:
        """The plan for any device of a kind: what does not fit one is skipped there, with the reason."""
        regimes: list[Regime] = [regime for regime in get_args(Regime) if regime in self.regimes]
        efforts: list[EffortName] = [effort for effort in get_args(EffortName) if effort == self.effort]
        choices = Choices(
            backends=tuple(dict.fromkeys(self.backends)),
            regimes=regimes,
            inputs=tuple(dict.fromkeys(parse_distribution(text).name for text in self.inputs)) or ("normal",),
            effort=efforts[0] if efforts else None,
            processes=self.processes,
            seed=self.seed,
            in_order_of_value=self.budget_s is not None,
        )
        return build(self._suites(kind, default_dtype), choices)

    def _suites(self, kind: DeviceKind, default_dtype: str) -> list[Suite]:
        return [suite for dtype in self.dtypes or (default_dtype,) for suite in self.load(dtype, kind)]

    def _check_memory(self, suites: Sequence[Suite], environment: Environment) -> None:
        if environment.memory_bytes is None:
            return
        for item in (item for suite in suites if suite.name == "shape" for item in suite.items):
            if item.problem.min_bytes > environment.memory_bytes:
                raise InputError(
                    f"shape {item.problem.shape} needs {item.problem.min_bytes / 1e9:.0f} GB, "
                    f"{environment.gpu} has {environment.memory_bytes / 1e9:.0f} GB: give a smaller shape"
                )


def _distinct(suites: Sequence[Suite]) -> list[Suite]:
    """Each suite once. Raises InputError where two different ones share a name: their totals would be added up."""
    named: dict[str, Suite] = {}
    for suite in suites:
        if named.setdefault(suite.name, suite) != suite:
            raise InputError(f"two different suites are called {suite.name!r}: give one of them another name")
    return list(named.values())


def parse_duration(text: str | None) -> float | None:
    """Seconds of `90`, `90s`, `10m`, `1.5h`. Raises InputError."""
    if text is None:
        return None
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not 0 < seconds <= 30 * 86400:
        raise InputError(f"duration {text!r}: write a number with s, m or h, such as 90s or 10m")
    return seconds
