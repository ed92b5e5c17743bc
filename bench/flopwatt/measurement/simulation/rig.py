"""The simulated machine: a scenario's GPU behind the same face as a real one."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from typing import Final

import msgspec

from flopwatt.errors import DeviceBusy
from flopwatt.measurement.clock import VirtualClock
from flopwatt.measurement.idle import AFTER_REST_S, idle_watts
from flopwatt.measurement.power.sensor import GAIN_UNCERTAINTY
from flopwatt.measurement.rig import CaseSkipped, Prepared
from flopwatt.measurement.simulation.board import board_id, of_board
from flopwatt.measurement.simulation.gpu import SimulatedGpu
from flopwatt.measurement.simulation.kernel import kernel_for
from flopwatt.measurement.simulation.sampler import VirtualSampler
from flopwatt.measurement.simulation.scenario import Scenario
from flopwatt.measurement.simulation.sensor import SimulatedSensor
from flopwatt.measurement.simulation.timer import SimulatedTimer
from flopwatt.measurement.tuned.device import device_of
from flopwatt.measurement.tuned.lookup import Tuned
from flopwatt.runs.gpus import find
from flopwatt.runs.records import Case, Environment, Origin, SensorIdentity, case_id
from gemmkernels.backend import load
from gemmkernels.problem import Problem

START_NS: Final = 1_000_000_000_000
"""The virtual clock's first instant: not 0, as no machine has just been switched on."""

LONGEST_LAUNCH_S: Final = 60.0
"""A longer launch is a slip in the scenario, and would be simulated for ever."""

_CPU_BACKENDS: Final = frozenset({"numpy"})


class SimulatedRig:
    """A `Rig` of one process on one board of a scenario, in virtual time that starts anew with each.

    The same (scenario, seed, board, process) gives the same run; another seed or process, another draw of its noise.
    """

    origin: Origin = "simulated"

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int = 0,
        board: int = 0,
        process: int = 0,
        idle: bool = True,
        shared: bool = False,
    ) -> None:
        """idle: spend a virtual second on idle power without, and one with a CUDA context.

        Raises DeviceBusy where the scenario's second process is there from the start, unless `shared`.
        """
        self.scenario = of_board(scenario, board)
        self.clock = VirtualClock(START_NS)
        self.gpu = SimulatedGpu(self.scenario, seed=seed, board=board, process=process, start_s=START_NS * 1e-9)
        self.sampler = VirtualSampler(self.gpu, self.clock)
        self.sensor = SensorIdentity(source="simulated", gain_uncertainty=GAIN_UNCERTAINTY)
        self.environment = environment(self.scenario, scenario.gpu.max_clock_mhz)
        self.board_id: str | None = board_id(scenario, board)
        self.sensor_version: str | None = hashlib.sha256(msgspec.json.encode(scenario)).hexdigest()
        self.idle_w: float | None = None
        self.idle_context_w: float | None = None
        self.tuned: Tuned | None = None
        self._prepared = 0
        if self.environment.shared_with and not shared:
            raise DeviceBusy(
                f"1 other process computes on {scenario.gpu.name} (faults.second_process of {scenario.name!r}): "
                "measure beside it with --shared, which marks the rows"
            )
        self._wake(idle)

    def open_sensor(self) -> SimulatedSensor:
        """The board's sensor on the rig's own clock, for reading it without the sampler."""
        return SimulatedSensor(self.gpu, self.clock)

    def prepare(self, case: Case, seed: int) -> Prepared:
        """A timer for `case`. Raises CaseSkipped where the simulated GPU cannot run it."""
        self._misbehave(case.label)
        reason = why_not(case, self.scenario)
        if reason:
            raise CaseSkipped(reason)
        self._prepared += 1
        case, settings = self._configured(case)
        rng = self.gpu.seeds.generator(f"launches {case_id(case)} {seed}", self._prepared)
        timer = SimulatedTimer(self.gpu, self.clock, kernel_for(case, self.scenario), self.gpu.run_factors(case), rng)
        operand_bytes = sum(problem.min_bytes for problem in case.problems)
        sets = 1 if case.cache == "hot" else max(2, -(-2 * self.scenario.gpu.l2_bytes // operand_bytes))
        return Prepared(timer=timer, config=dict(case.config or {}), operand_sets=sets, settings=settings)

    def _configured(self, case: Case) -> tuple[Case, dict[str, str]]:
        """The case with a configuration from the tuning store, or as it is: the model then has its best tile."""
        if case.problem is None or case.config is not None or self.tuned is None or not self.tuned.knows(case.backend):
            return case, {}
        candidates = load(case.backend).configs(case.problem, device_of(self.environment))
        found = self.tuned.config(case.backend, case.problem, case.regime, candidates)
        return msgspec.structs.replace(case, config=dict(found.config)), {"config_source": found.source}

    def joined_by(self) -> int:
        other = self.scenario.faults.second_process
        if other is None or not other.from_s:
            return 0  # none, or there from the start and so in the environment
        elapsed_s = self.clock.now_ns() * 1e-9 - self.gpu.start_s
        return int(other.from_s <= elapsed_s < other.until_s)

    def idle_after(self) -> float | None:
        return idle_watts(self.clock, self.sampler, max(AFTER_REST_S, self.sensor.rest_s))

    def release(self) -> None:
        """Nothing to free."""

    def close(self) -> None:
        """Nothing to let go."""

    def _wake(self, idle: bool) -> None:
        """Opens the CUDA context, with idle power read on either side of it."""
        if idle:
            self.idle_w = idle_watts(self.clock, self.sampler)
        self.gpu.open_context(self.clock.now_ns() * 1e-9)
        if idle:
            self.idle_context_w = idle_watts(self.clock, self.sampler)

    def _misbehave(self, label: str) -> None:
        faults = self.scenario.faults
        if faults.crash_on and faults.crash_on in label:
            os.kill(os.getpid(), signal.SIGKILL)
        while faults.hang_on and faults.hang_on in label:
            time.sleep(60)


def environment(scenario: Scenario, max_clock_mhz: int | None = None) -> Environment:
    """What the scenario's GPU and driver would say of themselves. max_clock_mhz: what every board of a kind claims."""
    gpu = scenario.gpu
    other = scenario.faults.second_process
    known = find(gpu.name, gpu.memory_bytes, gpu.sm_count)
    return Environment(
        kind="cuda",
        gpu=gpu.name,
        spec=gpu.spec or (known.name if known else None),
        capability=gpu.capability,
        sm_count=gpu.sm_count,
        l2_bytes=gpu.l2_bytes,
        memory_bytes=gpu.memory_bytes,
        max_clock_mhz=gpu.max_clock_mhz if max_clock_mhz is None else max_clock_mhz,
        power_limit_mw=round(gpu.power_limit_w * 1e3),
        power_limit_default_mw=round((gpu.power_limit_default_w or gpu.power_limit_w) * 1e3),
        driver=gpu.driver,
        versions={"simulation": scenario.name},
        mig=gpu.mig,
        shared_with=1 if other is not None and other.from_s == 0 else 0,
    )


def why_not(case: Case, scenario: Scenario) -> str | None:
    """Why the scenario's GPU cannot run `case`, in one line; None when it can."""
    if case.backend in _CPU_BACKENDS and case.backend not in scenario.backends:
        return f"{case.backend} computes on the CPU, and the simulated machine is a GPU"
    for problem in case.problems:
        reason = _why_not(problem, scenario)
        if reason:
            return reason
    launch_s = kernel_for(case, scenario).time_s(1.0)
    if launch_s > LONGEST_LAUNCH_S:
        return f"one launch would take {launch_s:.0f} s in scenario {scenario.name!r}, more than {LONGEST_LAUNCH_S:.0f}"
    return None


def _why_not(problem: Problem, scenario: Scenario) -> str | None:
    gpu = scenario.gpu
    if problem.dtype not in gpu.peak_flop_per_s:
        major, minor = gpu.capability
        if problem.dtype.startswith("fp8") and (major, minor) < (8, 9):
            return f"{problem.dtype} needs compute capability 8.9 or newer: {gpu.name} has {major}.{minor}"
        return f"{gpu.name} has no peak for {problem.dtype} in scenario {scenario.name!r}"
    if problem.dtype.startswith("fp8") and problem.layout != "nt":
        return f"{problem.dtype} exists in layout nt only, not {problem.layout}"
    if problem.min_bytes > gpu.memory_bytes:
        needed, there = problem.min_bytes / 2**30, gpu.memory_bytes / 2**30
        return f"{problem.shape} needs {needed:.1f} GiB: {gpu.name} has {there:.1f}"
    return None
