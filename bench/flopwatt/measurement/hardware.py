"""The real machine as a rig: PyTorch's device, its power sampler, its idle watts, and cases made ready on it."""

from __future__ import annotations

import os
import time
from typing import Final

import torch

import gemmkernels.backend
from flopwatt.errors import DeviceBusy, DeviceError
from flopwatt.measurement import device as devices
from flopwatt.measurement.clock import MonotonicClock
from flopwatt.measurement.gpu_lock import GpuLock
from flopwatt.measurement.identity_store import recall
from flopwatt.measurement.idle import AFTER_REST_S, SETTLE_S, idle_watts
from flopwatt.measurement.nvml_device import NvmlFacts, board_id, describe
from flopwatt.measurement.power.process import open_sampler
from flopwatt.measurement.power.sampler import Sampler
from flopwatt.measurement.power.sensor import GAIN_UNCERTAINTY
from flopwatt.measurement.rig import CaseSkipped, Prepared
from flopwatt.measurement.timing import Timer
from flopwatt.measurement.timing_cpu import CpuTimer
from flopwatt.measurement.tuned.lookup import Tuned
from flopwatt.measurement.workload import Workbench, Workload
from flopwatt.runs import gpus
from flopwatt.runs.records import Case, Environment, Origin, SensorIdentity
from gemmkernels.backend import Device

BUSY_TRIES: Final = 4
BUSY_WAIT_S: Final = 0.5
"""A process that has just ended, such as the worker before this one, may still be listed for a moment."""


class HardwareRig:
    """One real device. Everything but the sampler runs in this process, on one thread.

    bench: prepares workloads on it.
    """

    origin: Origin = "measured"

    def __init__(self, device: Device, environment: Environment, board: str | None, sampler: Sampler) -> None:
        self.clock = MonotonicClock()
        self.environment = environment
        self.board_id = board
        self.sampler = sampler
        self.sensor_version = environment.driver
        self.sensor = recall(board, self.sensor_version, sampler.source) or _identity(sampler)
        self.idle_w: float | None = None
        self.idle_context_w: float | None = None
        self.device = device
        self._uuid = ""
        self._others: int | None = None
        self._lock: GpuLock | None = None
        self.bench = Workbench(device, Tuned(environment, self.origin))
        torch.set_num_threads(devices.threads())

    @classmethod
    def open(cls, wanted: str, *, shared: bool, idle: bool) -> HardwareRig:
        """The device that `wanted` names, its sampler started. Raises DeviceError, or DeviceBusy unless `shared`.

        idle: spend a second on idle power without, and one with a CUDA context.
        """
        device = devices.choose(wanted)
        if device.kind == "cpu":
            return cls(device, devices.describe_cpu(device), None, open_sampler("cpu"))
        # Without the prefix, which differs for a MIG slice: NVML is asked for either.
        uuid = str(torch.cuda.get_device_properties(device.index).uuid)
        board = board_id(uuid)
        lock = None if shared else GpuLock(board, device.name)
        try:
            facts = _unshared(uuid, device.name, shared)
            rig = cls(device, _gpu_environment(device, facts), facts.board_id or board, open_sampler(f"nvml:{uuid}"))
        except BaseException:
            if lock is not None:
                lock.close()
            raise
        rig._lock = lock
        rig._wake(idle)
        # Counted with our own context in place: in a container the driver may list it under an id we do not know.
        rig._uuid, rig._others = uuid, _facts(uuid).other_processes
        return rig

    def prepare(self, case: Case, seed: int) -> Prepared:
        try:
            backend = gemmkernels.backend.load(case.backend)
        except ImportError as error:
            raise CaseSkipped(f"{case.backend} needs a package that is not installed: {error}") from None
        return self.prepared(self.bench.prepare(case, backend, seed))

    def prepared(self, workload: Workload) -> Prepared:
        """A workload of this rig's device with a timer around it."""
        return Prepared(
            timer=self._timer(workload),
            config=workload.config,
            correctness=workload.correctness,
            correct=workload.correct,
            operand_sets=workload.sets,
            settings=workload.settings,
            input_audit=workload.input_audit,
        )

    def joined_by(self) -> int:
        if self.device.kind == "cpu":
            return 0
        now = _facts(self._uuid).other_processes
        return 0 if now is None or self._others is None else max(0, now - self._others)

    def idle_after(self) -> float | None:
        if self.device.kind == "cuda":
            torch.cuda.synchronize()
        return idle_watts(self.clock, self.sampler, max(AFTER_REST_S, self.sensor.rest_s))

    def release(self) -> None:
        if self.device.kind == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        self.sampler.close()
        if self._lock is not None:
            self._lock.close()

    def _timer(self, workload: Workload) -> Timer:
        if self.device.kind == "cpu":
            return CpuTimer(workload.step, self.clock)
        from flopwatt.measurement.timing_cuda import CudaTimer

        return CudaTimer(workload.step, workload.sets, self.clock)

    def _wake(self, idle: bool) -> None:
        """Makes the CUDA context, with idle power read on either side of it."""
        if idle:
            self.idle_w = idle_watts(self.clock, self.sampler)
        torch.cuda.set_device(self.device.index)
        torch.zeros(1, device=self.device.torch_name)
        torch.cuda.synchronize()
        if idle:
            self.idle_context_w = idle_watts(self.clock, self.sampler, max(SETTLE_S, self.sensor.rest_s))


def _identity(sampler: Sampler) -> SensorIdentity:
    source = sampler.source
    return SensorIdentity(source=source, gain_uncertainty=GAIN_UNCERTAINTY if source == "nvml" else None)


def _facts(uuid: str) -> NvmlFacts:
    """What NVML says of the GPU; where it says nothing, the reason under `nvml`."""
    try:
        return describe(uuid, own_pids=[os.getpid()])
    except DeviceError as error:
        return NvmlFacts(unreadable={"nvml": str(error)})


def _unshared(uuid: str, name: str, shared: bool) -> NvmlFacts:
    """The GPU's facts, once no other process computes on it. Raises DeviceBusy, unless `shared`, where one stays."""
    facts = _facts(uuid)
    for _ in range(BUSY_TRIES):
        if shared or not facts.other_processes:
            return facts
        time.sleep(BUSY_WAIT_S)
        facts = _facts(uuid)
    if facts.other_processes:
        raise DeviceBusy(
            f"{facts.other_processes} other process(es) compute on {name}: wait for them, "
            "or measure beside them with --shared, which marks the rows"
        )
    return facts


def _gpu_environment(device: Device, facts: NvmlFacts) -> Environment:
    spec = gpus.find(device.name, device.memory_bytes, device.sm_count)
    return Environment(
        kind="cuda",
        gpu=device.name,
        spec=spec.name if spec else None,
        capability=device.capability,
        sm_count=device.sm_count,
        l2_bytes=device.l2_bytes,
        memory_bytes=device.memory_bytes,
        max_clock_mhz=facts.max_clock_mhz,
        power_limit_mw=facts.power_limit_mw,
        power_limit_default_mw=facts.power_limit_default_mw,
        vbios=facts.vbios,
        driver=facts.driver,
        cpu=devices.cpu_model(),
        cpu_threads=devices.threads(),
        os=devices.os_name(),
        versions=devices.versions(),
        mig=facts.mig,
        shared_with=facts.other_processes,
        monitoring=devices.monitoring_agents(),
        unreadable=facts.unreadable,
    )
