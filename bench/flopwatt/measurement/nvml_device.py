"""What NVML says of a GPU that does not change while it computes: identity, limits, modes, and who else is on it.

Source: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from flopwatt.measurement.power.nvml import CLOCK_SM, Nvml, NvmlError

VIRTUALISATION: Final = {0: "none", 1: "passthrough", 2: "vgpu", 3: "host-vgpu", 4: "host-vsga"}
"""nvmlGpuVirtualizationMode_t. In `vgpu` the watts, where readable, may be the whole GPU's."""

PROCESS_CALLS: Final = ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetComputeRunningProcesses_v2")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NvmlFacts:
    """Identity and state of one GPU. None where a fact could not be read; `unreadable` then holds its NVML code.

    board_id: SHA-256 of the UUID, 12 digits; the UUID itself is never kept. other_processes: compute processes besides
    the caller's own; in a container the driver counts by the host's process ids, so ask before creating a CUDA context
    there.
    """

    name: str | None = None
    board_id: str | None = None
    vbios: str | None = None
    driver: str | None = None
    power_limit_mw: int | None = None
    power_limit_default_mw: int | None = None
    max_clock_mhz: int | None = None
    mig: bool | None = None
    virtualisation: str | None = None
    other_processes: int | None = None
    unreadable: dict[str, str] = field(default_factory=dict)


def count() -> int:
    """Number of NVIDIA GPUs. Raises NvmlError, which names the remedy, where NVML cannot be had."""
    nvml = Nvml()
    try:
        return int(nvml.call("nvmlDeviceGetCount"))
    finally:
        nvml.close()


def describe(selector: str | None = None, own_pids: Collection[int] = ()) -> NvmlFacts:
    """Facts of the GPU that `selector` names, as in `Nvml.find`. Raises NvmlError: no NVML, or no such GPU.

    Takes milliseconds and a lock in the driver that kernels' launches may wait for: never inside a window.
    """
    nvml = Nvml()
    try:
        return _facts(nvml, nvml.find(selector), frozenset(own_pids))
    finally:
        nvml.close()


def board_id(uuid: str) -> str:
    """The identity under which a board is stored: 12 hexadecimal digits of SHA-256 over `GPU-…`, as NVML spells it."""
    named = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    return hashlib.sha256(named.encode()).hexdigest()[:12]


def _facts(nvml: Nvml, device: Any, own_pids: frozenset[int]) -> NvmlFacts:
    unreadable: dict[str, str] = {}

    def read(fact: str, reading: Callable[[], T]) -> T | None:
        try:
            return reading()
        except NvmlError as error:
            unreadable[fact] = error.code
            return None

    def get(name: str, *arguments: Any) -> Any:
        return nvml.call(f"nvmlDeviceGet{name}", device, *arguments)

    return NvmlFacts(
        name=read("name", lambda: _text(get("Name"))),
        board_id=read("board_id", lambda: board_id(_text(get("UUID")))),
        vbios=read("vbios", lambda: _text(get("VbiosVersion"))),
        driver=read("driver", lambda: _text(nvml.call("nvmlSystemGetDriverVersion"))),
        power_limit_mw=read("power_limit_mw", lambda: int(get("EnforcedPowerLimit"))),
        power_limit_default_mw=read("power_limit_default_mw", lambda: int(get("PowerManagementDefaultLimit"))),
        max_clock_mhz=read("max_clock_mhz", lambda: int(get("MaxClockInfo", CLOCK_SM))),
        mig=read("mig", lambda: bool(get("MigMode")[0])),
        virtualisation=read("virtualisation", lambda: _virtualisation(get("VirtualizationMode"))),
        other_processes=read("other_processes", lambda: _others(nvml.first(PROCESS_CALLS, device), own_pids)),
        unreadable=unreadable,
    )


def _text(value: str | bytes) -> str:
    """Older bindings answer bytes."""
    return value.decode() if isinstance(value, bytes) else value


def _virtualisation(mode: int) -> str:
    return VIRTUALISATION.get(mode, f"mode {mode}")


def _others(processes: list[Any], own_pids: frozenset[int]) -> int:
    return sum(process.pid not in own_pids for process in processes)
