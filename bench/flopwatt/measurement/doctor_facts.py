"""What `flopwatt doctor` asks this machine. Answers only: what follows from them is `doctor`'s business."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from flopwatt.errors import DeviceError
from flopwatt.measurement import nvml_device
from flopwatt.measurement.device import nvidia_gpu_present
from flopwatt.measurement.nvml_device import NvmlFacts
from flopwatt.measurement.power.nvml import NvmlError, open_nvml
from flopwatt.measurement.power.rapl import open_rapl
from flopwatt.measurement.power.sensor import SensorLost

TORCH_TIMEOUT_S: Final = 60.0
PCI_VENDORS: Final = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
"""PCI vendor ids, https://pci-ids.ucw.cz."""
PCI_CLASSES: Final = ("0x03", "0x12")
"""PCI base classes of display controllers and processing accelerators."""
PCI_VGA: Final = "0x030000"

# One process for all questions: importing torch takes seconds, and a broken one may crash or hang.
TORCH_QUESTIONS: Final = """
import json
facts = {}
try:
    import torch
    facts.update(version=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip)
    facts["works"] = float((torch.ones(2, 2) @ torch.ones(2, 2)).sum()) == 8.0
    facts["sees_gpu"] = torch.cuda.is_available()
    if facts["sees_gpu"]:
        facts["gpus"] = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        facts["capability"] = torch.cuda.get_device_capability(0)
        facts["architectures"] = torch.cuda.get_arch_list()
    else:
        try:
            torch.cuda.init()
        except Exception as error:
            facts["gpu_error"] = str(error)
except Exception as error:
    facts["error"] = f"{type(error).__name__}: {error}"
try:
    import triton
    facts["triton"] = triton.__version__
except ModuleNotFoundError:
    pass
except Exception as error:
    facts["triton_error"] = f"{type(error).__name__}: {error}"
print()
print(json.dumps(facts))
"""


class Torch(msgspec.Struct, frozen=True, kw_only=True):
    """What PyTorch and Triton said in a process of their own. error: why there was no answer about torch."""

    version: str | None = None
    cuda: str | None = None
    hip: str | None = None
    works: bool = False
    sees_gpu: bool = False
    gpus: tuple[str, ...] = ()
    capability: tuple[int, int] | None = None
    architectures: tuple[str, ...] = ()
    gpu_error: str | None = None
    error: str | None = None
    triton: str | None = None
    triton_error: str | None = None


class Gpu(msgspec.Struct, frozen=True, kw_only=True):
    """One GPU as NVML describes it, and whether its power can be read. unreadable: power quantity → NVML's code."""

    facts: NvmlFacts
    power_readable: bool = False
    counter_readable: bool = False
    unreadable: dict[str, str] = {}


class Nvml(msgspec.Struct, frozen=True, kw_only=True):
    """What NVML said. error: why it said nothing, with its remedy, None where it answers."""

    driver: str | None = None
    gpus: tuple[Gpu, ...] = ()
    error: str | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What the container or cgroup leaves this process. None: not limited."""

    memory_bytes: int | None = None
    processors: float | None = None


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that `doctor.diagnose` judges.

    compiler: the C compiler that Triton would call. headers: folder of Python.h, None where it is not there.
    nvidia_driver: the kernel has an NVIDIA GPU. pci_gpus: vendors of GPUs on the PCI bus, driven or not. rapl_error:
    None where the CPU's energy is readable.
    """

    python: tuple[int, int, int] = (3, 11, 0)
    has_venv: bool = True
    torch: Torch = Torch()
    compiler: str | None = None
    headers: str | None = None
    nvml: Nvml = Nvml()
    nvidia_driver: bool = False
    pci_gpus: tuple[str, ...] = ()
    in_container: bool = False
    visible_devices: str | None = None
    limits: Limits = Limits()
    processors: int = 1
    rapl_error: str | None = None


def ask_machine() -> Machine:
    """Asks everything once. Takes as long as importing torch, at most a minute; raises nothing."""
    return Machine(
        python=sys.version_info[:3],
        has_venv=_has_venv(),
        torch=ask_torch(sys.executable),
        compiler=find_compiler(os.environ),
        headers=find_headers(Path(sysconfig.get_paths(scheme="posix_prefix")["include"])),
        nvml=ask_nvml(),
        nvidia_driver=nvidia_gpu_present(),
        pci_gpus=pci_gpus(Path("/sys/bus/pci/devices")),
        in_container=_in_container(),
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        limits=cgroup_limits(Path("/sys/fs/cgroup")),
        processors=len(os.sched_getaffinity(0)),
        rapl_error=_rapl_error(),
    )


def ask_torch(executable: str, timeout_s: float = TORCH_TIMEOUT_S) -> Torch:
    """PyTorch's and Triton's answers from a process of their own, so that a broken one takes nothing else down."""
    command = [executable, "-c", TORCH_QUESTIONS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return Torch(error=f"importing it took more than {timeout_s:.0f} s")
    except OSError as error:
        return Torch(error=str(error))
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines:
        last_words = done.stderr.strip().splitlines()[-1:]
        return Torch(error=f"importing it ended with exit code {done.returncode}: {' '.join(last_words)}")
    return msgspec.convert(json.loads(lines[-1]), Torch)


def find_compiler(environment: Mapping[str, str]) -> str | None:
    """Path of the compiler Triton calls: CC if set, else gcc, else clang. Source: triton/runtime/build.py."""
    path = environment.get("PATH")
    if "CC" in environment:
        return shutil.which(environment["CC"], path=path)
    return shutil.which("gcc", path=path) or shutil.which("clang", path=path)


def find_headers(include: Path) -> str | None:
    """`include` if Python.h is in it."""
    return str(include) if (include / "Python.h").is_file() else None


def ask_nvml() -> Nvml:
    """The driver, and each GPU's state and what can be read of its power."""
    try:
        gpus = tuple(_ask_gpu(str(index)) for index in range(nvml_device.count()))
    except (NvmlError, SensorLost) as error:
        return Nvml(error=str(error))
    return Nvml(driver=gpus[0].facts.driver if gpus else None, gpus=gpus)


def _ask_gpu(selector: str) -> Gpu:
    # This process has no CUDA context, and PyTorch's has ended: every process there is somebody else's.
    facts = nvml_device.describe(selector)
    sensor = open_nvml(selector)
    try:
        power, counter = sensor.read_power(), sensor.read_counter()
        return Gpu(
            facts=facts,
            power_readable=bool(power.instant_mw or power.average_mw),
            counter_readable=counter is not None,
            unreadable=dict(sensor.unreadable),
        )
    finally:
        sensor.close()


def pci_gpus(root: Path) -> tuple[str, ...]:
    """Vendors of the GPUs on the PCI bus, sorted. An Intel VGA controller is a processor's own display, and no GPU."""
    found = set()
    for device in root.glob("*"):
        try:
            class_, vendor = ((device / file).read_text().strip() for file in ("class", "vendor"))
        except OSError:
            continue
        display_only = vendor == "0x8086" and class_ == PCI_VGA
        if class_.startswith(PCI_CLASSES) and vendor in PCI_VENDORS and not display_only:
            found.add(PCI_VENDORS[vendor])
    return tuple(sorted(found))


def cgroup_limits(root: Path) -> Limits:
    """Memory and processor limits of control groups, version 2 or 1. Source: the kernel's cgroup documentation."""
    memory = _read(root / "memory.max") or _read(root / "memory/memory.limit_in_bytes")
    quota, _, period = (_read(root / "cpu.max") or "").partition(" ")
    if not quota:
        quota, period = _read(root / "cpu/cpu.cfs_quota_us"), _read(root / "cpu/cpu.cfs_period_us")
    limited = quota.isdecimal() and period.isdecimal() and int(period) > 0
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Limits(
        memory_bytes=int(memory) if memory.isdecimal() and int(memory) < physical else None,
        processors=int(quota) / int(period) if limited else None,
    )


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _has_venv() -> bool:
    # Debian ships both modules' package apart from Python itself.
    return all(importlib.util.find_spec(name) is not None for name in ("venv", "ensurepip"))


def _in_container() -> bool:
    marks = (Path("/.dockerenv"), Path("/run/.containerenv"))
    return any(mark.exists() for mark in marks) or "KUBERNETES_SERVICE_HOST" in os.environ or "container" in os.environ


def _rapl_error() -> str | None:
    try:
        open_rapl().close()
    except DeviceError as error:
        return str(error)
    return None
