"""What this machine is: the device to measure on, its environment as a run file records it, and its peculiarities."""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from flopwatt import __version__
from flopwatt.errors import DeviceError
from flopwatt.runs.records import Environment
from gemmkernels.backend import Device

_BF16_FLAGS: Final = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
AGENTS: Final = frozenset({"nv-hostengine", "dcgm-exporter", "dcgmi", "dcgmproftester1", "nsys", "ncu"})
"""Programs that may switch a GPU's profiling counters on, by what the kernel calls their processes (15 characters)."""

_PACKAGES: Final = ("torch", "triton", "numpy", "nvidia-ml-py")


def choose(wanted: str) -> Device:
    """The device that `auto`, `cpu` or `cuda:N` means here. Imports torch. Raises DeviceError.

    `auto` is the first GPU, and a CPU only where there is no NVIDIA GPU: one that PyTorch cannot use is an error, or a
    run would quietly measure something else.
    """
    import torch

    if wanted == "cpu":
        return cpu_device()
    if wanted != "auto" and not _is_cuda(wanted):
        raise DeviceError(f"unknown device {wanted!r}: give auto, cpu or cuda:N")
    if torch.cuda.is_available():
        if torch.version.cuda is None:
            if wanted == "auto":
                return cpu_device()
            raise DeviceError("this PyTorch drives a GPU that is not NVIDIA's: measure its CPU with --device cpu")
        return _cuda_device(0 if wanted in ("auto", "cuda") else int(wanted.removeprefix("cuda:")))
    if wanted != "auto":
        raise DeviceError(f"{wanted}: PyTorch sees no GPU: run `flopwatt doctor`, or measure the CPU with --device cpu")
    if nvidia_gpu_present():
        raise DeviceError(
            "there is an NVIDIA GPU, but PyTorch cannot use it: "
            "run `flopwatt doctor`, or measure the CPU with --device cpu"
        )
    return cpu_device()


def nvidia_gpu_present() -> bool:
    """Whether the kernel driver has an NVIDIA GPU, asked of the filesystem: needs no library."""
    return any(Path("/proc/driver/nvidia/gpus").glob("*")) or Path("/dev/nvidia0").exists()


def cpu_device() -> Device:
    """The CPU as a device. l2_bytes is its last-level cache."""
    return Device(kind="cpu", name=cpu_model(), l2_bytes=_last_level_cache_bytes(), memory_bytes=_memory_bytes())


def default_dtype(environment: Environment) -> str:
    """bf16, the format of training; fp32 on a CPU without bf16 instructions, where bf16 is emulated."""
    if environment.kind == "cpu" and not _cpu_flags() & _BF16_FLAGS:
        return "fp32"
    return "bf16"


def describe_cpu(device: Device) -> Environment:
    """The environment of a CPU run."""
    return Environment(
        kind="cpu",
        gpu=device.name,
        l2_bytes=device.l2_bytes,
        memory_bytes=device.memory_bytes,
        cpu=device.name,
        cpu_threads=threads(),
        os=os_name(),
        versions=versions(),
    )


def versions() -> dict[str, str]:
    """Versions of what a measurement depends on."""
    found = {"flopwatt": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    if torch is not None and torch.version.cuda:
        found["cuda"] = torch.version.cuda
    return found


def monitoring_agents(processes: Path = Path("/proc")) -> tuple[str, ...]:
    """Programs running here that may profile a GPU; those of the host are not seen from inside a container."""
    found = set()
    for file in processes.glob("[0-9]*/comm"):
        try:
            found.add(file.read_text().strip())
        except OSError:
            continue  # it ended meanwhile
    return tuple(sorted(found & AGENTS))


def threads() -> int:
    """Processors that this process may use, which in a container are fewer than the machine's."""
    allowed = len(os.sched_getaffinity(0))
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return min(allowed, max(1, round(int(quota) / int(period)))) if quota.isdecimal() else allowed


def os_name() -> str:
    """Kernel name, release and architecture; no host name."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def _is_cuda(wanted: str) -> bool:
    return wanted == "cuda" or (wanted.startswith("cuda:") and wanted.removeprefix("cuda:").isdecimal())


def _cuda_device(index: int) -> Device:
    import torch

    if index >= torch.cuda.device_count():
        raise DeviceError(f"cuda:{index}: this machine has {torch.cuda.device_count()} GPU(s), counted from 0")
    properties = torch.cuda.get_device_properties(index)
    return Device(
        kind="cuda",
        name=properties.name,
        index=index,
        capability=(properties.major, properties.minor),
        sm_count=properties.multi_processor_count,
        shared_memory_bytes=getattr(properties, "shared_memory_per_block_optin", 0),
        l2_bytes=properties.L2_cache_size,
        memory_bytes=properties.total_memory,
    )


def cpu_model() -> str:
    """The processor's marketing name, or its architecture where the kernel does not say."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


@cache
def _cpuinfo(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == key), "")


def _cpu_flags() -> frozenset[str]:
    return frozenset((_cpuinfo("flags") or _cpuinfo("Features")).split())


def available_bytes() -> int:
    """Memory that can be had without swapping; all of it where the kernel does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return _memory_bytes()
    kib = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return int(kib) * 1024 if kib else _memory_bytes()


def _last_level_cache_bytes() -> int:
    """Size of the largest cache of the first processor; 32 MiB where the kernel does not say."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        unit = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:], 1)
        digits = text.rstrip("KMG")
        if digits.isdecimal():
            sizes.append(int(digits) * unit)
    return max(sizes, default=32 * 2**20)


def _memory_bytes() -> int:
    """Physical memory, or less where a container may use less."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdecimal() else physical
