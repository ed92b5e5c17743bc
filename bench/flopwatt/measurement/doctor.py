"""What this machine can measure, what it cannot, why, and the remedy: one finding a topic, from facts alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

from flopwatt.measurement.doctor_facts import Gpu, Machine, ask_machine

State = Literal["ok", "warn", "fail", "absent"]

MIN_PYTHON: Final = (3, 11)
MIN_TORCH: Final = (2, 11)
MIN_CAPABILITY: Final = (8, 0)
MIN_DRIVER: Final = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580,)}
"""CUDA major version → oldest Linux driver that runs it. Source: NVIDIA, "CUDA Compatibility", minor version table."""

FEW_BYTES: Final = 4 * 2**30

INSTALL: Final = "pip install 'flopwatt[measure]', or `make run` in a checkout"
IN_CONTAINER: Final = (
    "start the container with --gpus all (NVIDIA Container Toolkit on the host) and "
    "-e NVIDIA_DRIVER_CAPABILITIES=utility,compute"
)
OWN_TORCH: Final = (
    "install a torch 2.11 or newer built for this driver (pytorch.org gives the command), which `make run` reuses; "
    "or a newer driver"
)


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at, what was found, and what to do about it (None where nothing needs doing).

    state: `fail` keeps this machine from measuring, `warn` costs something, `absent` is not here and not missed.
    """

    topic: str
    state: State
    detail: str
    remedy: str | None = None


def diagnose(machine: Machine | None = None) -> list[Finding]:
    """Every finding about `machine`, or about this one; the last ones sum up what can be measured."""
    machine = machine or ask_machine()
    return [
        python(machine),
        venv(machine),
        torch(machine),
        gpu(machine),
        triton(machine),
        compiler(machine),
        headers(machine),
        nvml(machine),
        *boards(machine.nvml.gpus),
        other_gpus(machine),
        container(machine),
        *summary(machine),
    ]


def can_measure(findings: Sequence[Finding]) -> bool:
    """Whether nothing stands in the way of `flopwatt run`."""
    return all(finding.state != "fail" for finding in findings)


def python(machine: Machine) -> Finding:
    """Its version."""
    version = ".".join(map(str, machine.python))
    if machine.python >= MIN_PYTHON:
        return Finding("Python", "ok", version)
    return Finding(
        "Python", "fail", f"{version}: flopwatt needs 3.11 or newer", "apt install python3.11 python3.11-venv"
    )


def venv(machine: Machine) -> Finding:
    """The module `make run` builds its environment with."""
    if machine.has_venv:
        return Finding("venv module", "ok", "present")
    return Finding("venv module", "warn", "missing: `make run` cannot build .venv", "apt install python3-venv")


def torch(machine: Machine) -> Finding:
    """Whether PyTorch starts, and which it is."""
    said = machine.torch
    if said.error is not None:
        missing = said.error.startswith("ModuleNotFoundError") and "'torch'" in said.error
        detail = "not installed" if missing else f"does not start: {said.error}"
        return Finding("PyTorch", "fail", detail, INSTALL if missing else f"reinstall it: {INSTALL}")
    build = f"CUDA {said.cuda}" if said.cuda else f"ROCm {said.hip}" if said.hip else "CPU"
    detail = f"{said.version}, {build} build"
    if not said.works:
        return Finding("PyTorch", "fail", f"{detail}: a 2×2 product came out wrong", f"reinstall it: {INSTALL}")
    if numbers(said.version or "")[:2] < MIN_TORCH:
        return Finding("PyTorch", "warn", f"{detail}: older than 2.11, which flopwatt is tested with", INSTALL)
    return Finding("PyTorch", "ok", detail)


def gpu(machine: Machine) -> Finding:
    """Whether PyTorch sees the NVIDIA GPU there is; where it does not, why."""
    if machine.torch.sees_gpu and machine.torch.cuda:
        return _seen_gpu(machine)
    if not has_nvidia(machine):
        return Finding("GPU", "absent", "no NVIDIA GPU here: the CPU is measured")
    name = (machine.nvml.gpus[0].facts.name if machine.nvml.gpus else None) or "an NVIDIA GPU"
    why, remedy = _why_unseen(machine)
    # A board that no driver runs does not stop a run, which then takes the CPU.
    driven = machine.nvidia_driver or bool(machine.nvml.gpus)
    return Finding("GPU", "fail" if driven else "warn", f"{name}: {why}", remedy)


def _why_unseen(machine: Machine) -> tuple[str, str]:
    said, driver = machine.torch, machine.nvml.driver
    oldest = MIN_DRIVER.get(numbers(said.cuda)[0]) if said.cuda else None
    if said.error is not None:
        found = "no PyTorch to use it", "see PyTorch above"
    elif said.cuda is None:
        remedy = "install a CUDA build of torch (pytorch.org gives the command), which `make run` reuses"
        found = "this PyTorch is built without CUDA", remedy
    elif machine.visible_devices is not None and machine.visible_devices.strip() in ("", "-1"):
        found = "hidden by CUDA_VISIBLE_DEVICES", "unset CUDA_VISIBLE_DEVICES, or run --device cpu"
    elif driver is not None and oldest is not None and numbers(driver) < oldest:
        needs = ".".join(map(str, oldest))
        found = f"PyTorch is too new for the driver: CUDA {said.cuda} needs {needs}, here is {driver}", OWN_TORCH
    elif driver is None and machine.in_container:
        found = "in the machine, but not given to this container", IN_CONTAINER
    elif driver is None:
        found = "no working driver", "install the NVIDIA driver: `nvidia-smi` must work first"
    else:
        found = f"PyTorch does not see it: {said.gpu_error or 'no reason given'}", "after a driver update, reboot"
    return found


def _seen_gpu(machine: Machine) -> Finding:
    said = machine.torch
    detail = ", ".join(said.gpus)
    if said.capability is None:
        return Finding("GPU", "ok", detail)
    major, minor = said.capability
    if said.architectures and not _runs_on(said.architectures, said.capability):
        detail += f": this PyTorch has no kernels for compute capability {major}.{minor}"
        return Finding("GPU", "fail", detail, "install a torch that has (pytorch.org), which `make run` reuses")
    if said.capability < MIN_CAPABILITY:
        detail += f": compute capability {major}.{minor} is below 8.0, Triton's kernels are skipped"
        return Finding("GPU", "warn", detail, "use an A100 or newer for all backends")
    return Finding("GPU", "ok", detail)


def _runs_on(architectures: Sequence[str], capability: tuple[int, int]) -> bool:
    """Binaries run on later minor versions of their architecture, PTX on everything later."""
    for architecture in architectures:
        kind, _, number = architecture.partition("_")
        digits = number.rstrip("af")
        built = (int(digits[:-1]), int(digits[-1]))
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False


def triton(machine: Machine) -> Finding:
    """Whether Triton starts."""
    said = machine.torch
    if said.triton is not None:
        return Finding("Triton", "ok", said.triton)
    if said.triton_error is not None:
        return Finding("Triton", "warn", f"does not start: {said.triton_error}", f"reinstall it: {INSTALL}")
    return Finding("Triton", "warn", "not installed: its backends are skipped", INSTALL)


def compiler(machine: Machine) -> Finding:
    """The C compiler that Triton's launcher is built with, on a GPU."""
    if machine.compiler is not None:
        return Finding("C compiler", "ok", machine.compiler)
    return _for_triton(machine, "C compiler", "no CC, gcc or clang", "apt install gcc libc6-dev, or set CC")


def headers(machine: Machine) -> Finding:
    """The headers that Triton's launcher is built against."""
    if machine.headers is not None:
        return Finding("Python headers", "ok", machine.headers)
    package = "python{}.{}-dev".format(*machine.python)
    return _for_triton(machine, "Python headers", "no Python.h for this Python", f"apt install {package}")


def _for_triton(machine: Machine, topic: str, detail: str, remedy: str) -> Finding:
    if not has_nvidia(machine):
        return Finding(topic, "absent", f"{detail}; needed by Triton on a GPU alone")
    return Finding(topic, "warn", f"{detail}: Triton's backends fail on the GPU", remedy)


def nvml(machine: Machine) -> Finding:
    """Whether the driver answers questions about power."""
    said = machine.nvml
    if said.error is None and said.gpus:
        return Finding("NVML", "ok", f"driver {said.driver}, {len(said.gpus)} GPU(s)")
    if not has_nvidia(machine):
        return Finding("NVML", "absent", "no NVIDIA GPU to ask about")
    detail = f"does not answer, so no watts: {said.error or 'it lists no GPU'}"
    bindings = said.error is not None and "BINDINGS_NOT_INSTALLED" in said.error
    remedy = INSTALL if bindings else IN_CONTAINER if machine.in_container else "make `nvidia-smi` work first"
    return Finding("NVML", "warn", detail, remedy)


def boards(gpus: Sequence[Gpu]) -> Iterator[Finding]:
    """What is unusual about each GPU: company, partitioning, its power limit."""
    one_is_free = any(not each.facts.other_processes for each in gpus)
    for index, each in enumerate(gpus):
        yield from _board(index, each, "warn" if one_is_free else "fail")


def _board(index: int, each: Gpu, if_busy: State) -> Iterator[Finding]:
    of, facts = f"of GPU {index}", each.facts
    if facts.other_processes is None:
        why = facts.unreadable.get("other_processes", "no reason given")
        yield Finding(f"use {of}", "warn", f"whether others compute on it cannot be read ({why})", "look at nvidia-smi")
    elif facts.other_processes:
        detail = f"{facts.other_processes} other process(es) compute on it: `run` refuses it"
        remedy = "wait for them, take another with --device cuda:N, or measure beside them with --shared"
        yield Finding(f"use {of}", if_busy, detail, remedy)
    else:
        yield Finding(f"use {of}", "ok", "no other process computes on it")
    if facts.mig:
        detail = "on: NVML's watts are the whole GPU's, so TFLOPS/W of a slice is refused"
        yield Finding(f"MIG {of}", "warn", detail, f"as root: nvidia-smi -i {index} -mig 0")
    if facts.virtualisation == "vgpu":
        detail = "a virtual GPU: watts, where readable, may be those of the whole one"
        yield Finding(f"virtualisation {of}", "warn", detail, "rent a whole GPU (passthrough)")
    limit_mw, default_mw = facts.power_limit_mw, facts.power_limit_default_mw
    if limit_mw is None or default_mw is None:
        return
    if limit_mw == default_mw:
        yield Finding(f"power limit {of}", "ok", f"{limit_mw / 1000:.0f} W, the default")
    else:
        detail = f"{limit_mw / 1000:.0f} W, not the default of {default_mw / 1000:.0f} W: figures hold for this limit"
        yield Finding(f"power limit {of}", "warn", detail, f"as root: nvidia-smi -i {index} -pl {default_mw // 1000}")


def other_gpus(machine: Machine) -> Finding:
    """GPUs of other makers, which flopwatt does not measure."""
    others = [vendor for vendor in machine.pci_gpus if vendor != "NVIDIA"]
    if machine.torch.hip and "AMD" not in others:
        others.append("AMD")
    if not others:
        return Finding("other GPUs", "absent", "none")
    return Finding("other GPUs", "warn", f"{' and '.join(others)}: not measured, only the CPU and NVIDIA GPUs are")


def container(machine: Machine) -> Finding:
    """What control groups leave of the machine."""
    limits, found = machine.limits, []
    if limits.memory_bytes is not None:
        found.append(f"memory limited to {limits.memory_bytes / 2**30:.1f} GiB")
    if limits.memory_bytes is not None and limits.memory_bytes < FEW_BYTES:
        return Finding("limits", "warn", f"{found[0]}: large cases may be killed", "give the container 4 GiB or more")
    if limits.processors is not None and limits.processors < machine.processors:
        found.append(f"{limits.processors:g} of {machine.processors} processors' time")
        remedy = "pin whole processors instead (docker run --cpuset-cpus)"
        return Finding("limits", "warn", f"{', '.join(found)}: a CPU run is throttled in bursts", remedy)
    return Finding("limits", "ok", ", ".join(found) or "none")


def summary(machine: Machine) -> Iterator[Finding]:
    """What can be measured here: time and watts, on the GPU and on the CPU."""
    seen = gpu(machine)
    usable = machine.torch.sees_gpu and seen.state in ("ok", "warn")
    if usable:
        yield Finding("time on the GPU", "ok", "can be measured")
    else:
        yield Finding("time on the GPU", seen.state, f"cannot be measured: {seen.detail}", seen.remedy)
    yield _gpu_watts(machine, usable)
    cpu = torch(machine)
    if cpu.state == "fail":
        yield Finding("time on the CPU", "fail", f"cannot be measured: PyTorch {cpu.detail}", cpu.remedy)
    else:
        yield Finding("time on the CPU", "ok", "can be measured")
    if machine.rapl_error is None:
        yield Finding("watts of the CPU", "ok", "energy counters (RAPL) of the CPU packages are readable")
    else:
        yield Finding("watts of the CPU", "absent", "cannot be measured", machine.rapl_error)


def _gpu_watts(machine: Machine, usable: bool) -> Finding:
    topic = "watts of the GPU"
    if not usable or not machine.nvml.gpus:
        asked = nvml(machine)
        state: State = "absent" if asked.state == "absent" else "warn"
        return Finding(topic, state, "cannot be measured" + ("" if usable else ": see the GPU above"), asked.remedy)
    first = machine.nvml.gpus[0]
    if first.facts.mig:
        return Finding(topic, "warn", "only of the whole GPU: MIG is on", "as root: nvidia-smi -mig 0")
    if first.counter_readable:
        return Finding(
            topic, "ok", "energy counter" + (" and power are readable" if first.power_readable else " alone")
        )
    if first.power_readable:
        detail = "power alone, without an energy counter: the sensor must be identified first"
        return Finding(topic, "warn", detail, "flopwatt doctor --sensor")
    codes = ", ".join(f"{quantity} {code}" for quantity, code in sorted(first.unreadable.items()))
    return Finding(topic, "warn", f"cannot be measured: {codes}", "virtual GPUs hide them: use a whole one")


def has_nvidia(machine: Machine) -> bool:
    """Whether an NVIDIA GPU is here, whoever says so."""
    by_torch = machine.torch.sees_gpu and machine.torch.cuda is not None
    return machine.nvidia_driver or bool(machine.nvml.gpus) or "NVIDIA" in machine.pci_gpus or by_torch


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version or driver version: 2.13.0+cu130 is (2, 13, 0)."""
    release = version.partition("+")[0].split(".")
    return tuple(int(part) for part in release if part.isdecimal())
