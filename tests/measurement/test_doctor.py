from dataclasses import replace

import msgspec
import pytest

from flopwatt.measurement.doctor import Finding, can_measure, diagnose
from flopwatt.measurement.doctor_facts import Gpu, Limits, Machine, Nvml, Torch
from flopwatt.measurement.nvml_device import NvmlFacts

H100 = NvmlFacts(
    name="NVIDIA H100 80GB HBM3",
    driver="580.65.06",
    power_limit_mw=700_000,
    power_limit_default_mw=700_000,
    mig=False,
    virtualisation="none",
    other_processes=0,
)
SEEN = Torch(
    version="2.13.0+cu130",
    cuda="13.0",
    works=True,
    sees_gpu=True,
    gpus=("NVIDIA H100 80GB HBM3",),
    capability=(9, 0),
    architectures=("sm_80", "sm_90", "sm_100"),
    triton="3.7.1",
)
UNSEEN = msgspec.structs.replace(SEEN, sees_gpu=False, gpus=(), capability=None, gpu_error="No CUDA GPUs are available")
CPU_TORCH = Torch(version="2.13.0+cpu", works=True, triton="3.7.1")


def nvml_of(*boards: NvmlFacts, power: bool = True, counter: bool = True, **more: dict[str, str]) -> Nvml:
    gpus = tuple(Gpu(facts=facts, power_readable=power, counter_readable=counter, **more) for facts in boards)
    return Nvml(driver=boards[0].driver, gpus=gpus)


def facts(**changes: object) -> NvmlFacts:
    return replace(H100, **changes)  # type: ignore[arg-type]


def rented_box(**changes: object) -> Machine:
    box = Machine(
        python=(3, 12, 3),
        torch=SEEN,
        compiler="/usr/bin/gcc",
        headers="/usr/include/python3.12",
        nvml=nvml_of(H100),
        nvidia_driver=True,
        pci_gpus=("NVIDIA",),
        processors=26,
        rapl_error="RAPL: no permission to read energy_uj; as root: chmod a+r energy_uj",
    )
    return msgspec.structs.replace(box, **changes)


def laptop(**changes: object) -> Machine:
    return msgspec.structs.replace(Machine(torch=CPU_TORCH, processors=8, rapl_error="RAPL: no CPU package"), **changes)


def about(topic: str, machine: Machine) -> Finding:
    (found,) = [finding for finding in diagnose(machine) if finding.topic == topic]
    return found


def test_a_whole_gpu_box_has_nothing_to_complain_of() -> None:
    findings = diagnose(rented_box())
    assert [finding.topic for finding in findings if finding.state not in ("ok", "absent")] == []
    assert can_measure(findings)
    assert about("watts of the GPU", rented_box()).state == "ok"
    assert about("GPU", rented_box()).detail == "NVIDIA H100 80GB HBM3"


def test_a_laptop_measures_time_on_its_cpu_and_says_why_no_more() -> None:
    findings = diagnose(laptop())
    assert can_measure(findings)
    assert about("time on the GPU", laptop()).state == "absent"
    assert about("time on the CPU", laptop()) == Finding("time on the CPU", "ok", "can be measured")
    assert about("watts of the CPU", laptop()) == Finding(
        "watts of the CPU", "absent", "cannot be measured", "RAPL: no CPU package"
    )
    assert about("watts of the CPU", laptop(rapl_error=None)).state == "ok"
    assert {about(topic, laptop()).state for topic in ("GPU", "NVML", "C compiler", "Python headers")} == {"absent"}


def test_every_topic_is_judged_once_and_what_is_wrong_has_a_remedy() -> None:
    worst = rented_box(
        python=(3, 10, 12), has_venv=False, torch=UNSEEN, compiler=None, headers=None, nvml=Nvml(error="NVML: UNKNOWN")
    )
    findings = diagnose(worst)
    topics = [finding.topic for finding in findings]
    assert len(topics) == len(set(topics))
    assert [f.topic for f in findings if f.state in ("warn", "fail") and not f.remedy] == []
    assert msgspec.json.decode(msgspec.json.encode(findings), type=list[Finding]) == findings


def test_python_310() -> None:
    found = about("Python", laptop(python=(3, 10, 12)))
    assert found.state == "fail"
    assert "3.10.12" in found.detail
    assert found.remedy == "apt install python3.11 python3.11-venv"


def test_no_venv_module() -> None:
    found = about("venv module", laptop(has_venv=False))
    assert (found.state, found.remedy) == ("warn", "apt install python3-venv")


def test_no_torch() -> None:
    machine = laptop(torch=Torch(error="ModuleNotFoundError: No module named 'torch'"))
    found = about("PyTorch", machine)
    assert (found.state, found.detail) == ("fail", "not installed")
    assert "pip install 'flopwatt[measure]'" in (found.remedy or "")
    assert about("time on the CPU", machine).state == "fail"
    assert not can_measure(diagnose(machine))


def test_a_torch_that_does_not_start_is_not_called_missing() -> None:
    found = about("PyTorch", laptop(torch=Torch(error="ModuleNotFoundError: No module named 'sympy'")))
    assert found.detail == "does not start: ModuleNotFoundError: No module named 'sympy'"


def test_a_torch_that_computes_nonsense() -> None:
    assert about("PyTorch", laptop(torch=msgspec.structs.replace(CPU_TORCH, works=False))).state == "fail"


def test_an_old_torch() -> None:
    found = about("PyTorch", laptop(torch=msgspec.structs.replace(CPU_TORCH, version="2.9.1+cpu")))
    assert (found.state, "older than 2.11" in found.detail) == ("warn", True)


@pytest.mark.parametrize(
    ("driver", "cuda", "needs"),
    [("570.86.10", "13.0", "580"), ("525.60.12", "12.8", "525.60.13"), ("450.51.06", "11.8", "450.80.2")],
)
def test_a_torch_too_new_for_the_driver(driver: str, cuda: str, needs: str) -> None:
    box = rented_box(torch=msgspec.structs.replace(UNSEEN, cuda=cuda), nvml=nvml_of(facts(driver=driver)))
    found = about("GPU", box)
    assert found.state == "fail"
    assert f"too new for the driver: CUDA {cuda} needs {needs}, here is {driver}" in found.detail
    assert "torch 2.11 or newer built for this driver" in (found.remedy or "")
    assert "`make run` reuses" in (found.remedy or "")
    assert about("time on the GPU", box).remedy == found.remedy


@pytest.mark.parametrize(("driver", "cuda"), [("580.65.06", "13.0"), ("525.60.13", "12.8"), ("580.95.05", "12.6")])
def test_a_driver_new_enough_is_not_blamed(driver: str, cuda: str) -> None:
    box = rented_box(torch=msgspec.structs.replace(UNSEEN, cuda=cuda), nvml=nvml_of(facts(driver=driver)))
    assert "No CUDA GPUs are available" in about("GPU", box).detail


def test_a_torch_built_without_cuda_on_a_gpu_box() -> None:
    found = about("GPU", rented_box(torch=CPU_TORCH))
    assert (found.state, "built without CUDA" in found.detail) == ("fail", True)
    assert "CUDA build of torch" in (found.remedy or "")


def test_a_hidden_gpu() -> None:
    found = about("GPU", rented_box(torch=UNSEEN, visible_devices=""))
    assert (found.state, found.remedy) == ("fail", "unset CUDA_VISIBLE_DEVICES, or run --device cpu")


def test_a_torch_without_kernels_for_the_gpu() -> None:
    old = msgspec.structs.replace(SEEN, capability=(12, 0))
    box = rented_box(torch=old)
    assert "no kernels for compute capability 12.0" in about("GPU", box).detail
    assert not can_measure(diagnose(box))
    with_ptx = msgspec.structs.replace(old, architectures=("sm_90", "compute_90"))
    assert about("GPU", rented_box(torch=with_ptx)).state == "ok"
    assert about("GPU", rented_box(torch=msgspec.structs.replace(SEEN, capability=(8, 6)))).state == "ok"


def test_a_gpu_older_than_ampere_loses_the_triton_kernels_only() -> None:
    turing = msgspec.structs.replace(SEEN, capability=(7, 5), architectures=("sm_75", "sm_80"))
    box = rented_box(torch=turing)
    assert (about("GPU", box).state, "below 8.0" in about("GPU", box).detail) == ("warn", True)
    assert about("time on the GPU", box).state == "ok"


def test_a_container_that_was_given_no_gpu() -> None:
    box = rented_box(torch=UNSEEN, nvml=Nvml(error="NVML: LIBRARY_NOT_FOUND in nvmlInit"), in_container=True)
    found = about("GPU", box)
    assert (found.state, "not given to this container" in found.detail) == ("fail", True)
    assert "--gpus all" in (found.remedy or "")


def test_a_container_with_cuda_but_without_nvml_measures_time_alone() -> None:
    box = rented_box(nvml=Nvml(error="NVML: LIBRARY_NOT_FOUND in nvmlInit"), in_container=True)
    found = about("NVML", box)
    assert found.state == "warn"
    assert "NVIDIA_DRIVER_CAPABILITIES=utility,compute" in (found.remedy or "")
    assert about("time on the GPU", box).state == "ok"
    assert about("watts of the GPU", box).state == "warn"
    assert about("watts of the GPU", box).remedy == found.remedy
    assert can_measure(diagnose(box))


def test_missing_nvml_bindings_are_a_pip_install() -> None:
    box = rented_box(nvml=Nvml(error="NVML: BINDINGS_NOT_INSTALLED in import pynvml"))
    assert "flopwatt[measure]" in (about("NVML", box).remedy or "")


def test_a_board_that_no_driver_runs_leaves_the_cpu_measurable() -> None:
    desktop = laptop(pci_gpus=("NVIDIA",), nvml=Nvml(error="NVML: LIBRARY_NOT_FOUND"), torch=UNSEEN)
    assert about("GPU", desktop).state == "warn"
    assert "install the NVIDIA driver" in (about("GPU", desktop).remedy or "")
    assert about("time on the GPU", desktop).detail.startswith("cannot be measured")
    assert can_measure(diagnose(desktop))


@pytest.mark.parametrize(
    ("changes", "topic", "remedy"),
    [
        ({"compiler": None}, "C compiler", "apt install gcc libc6-dev, or set CC"),
        ({"headers": None}, "Python headers", "apt install python3.12-dev"),
    ],
)
def test_what_triton_needs_on_a_gpu(changes: dict[str, None], topic: str, remedy: str) -> None:
    found = about(topic, rented_box(**changes))
    assert (found.state, found.remedy) == ("warn", remedy)


def test_triton_missing_and_triton_broken() -> None:
    missing = msgspec.structs.replace(SEEN, triton=None)
    assert about("Triton", rented_box(torch=missing)).detail == "not installed: its backends are skipped"
    broken = msgspec.structs.replace(missing, triton_error="ImportError: libtriton.so")
    assert "ImportError: libtriton.so" in about("Triton", rented_box(torch=broken)).detail


def test_a_busy_gpu_stops_a_run_and_its_neighbours_do_not() -> None:
    busy = facts(other_processes=2)
    found = about("use of GPU 0", rented_box(nvml=nvml_of(busy)))
    assert (found.state, "2 other process(es)" in found.detail) == ("fail", True)
    assert "--shared" in (found.remedy or "")
    beside = rented_box(nvml=nvml_of(H100, busy))
    assert (about("use of GPU 0", beside).state, about("use of GPU 1", beside).state) == ("ok", "warn")
    assert can_measure(diagnose(beside))


def test_processes_that_cannot_be_listed_are_not_taken_for_none() -> None:
    unknown = facts(other_processes=None, unreadable={"other_processes": "NO_PERMISSION"})
    found = about("use of GPU 0", rented_box(nvml=nvml_of(unknown)))
    assert (found.state, "NO_PERMISSION" in found.detail) == ("warn", True)


def test_mig_refuses_watts_per_slice() -> None:
    box = rented_box(nvml=nvml_of(facts(mig=True)))
    found = about("MIG of GPU 0", box)
    assert (found.state, found.remedy) == ("warn", "as root: nvidia-smi -i 0 -mig 0")
    assert "whole GPU's" in found.detail
    assert about("watts of the GPU", box).state == "warn"


def test_a_lowered_power_limit() -> None:
    found = about("power limit of GPU 0", rented_box(nvml=nvml_of(facts(power_limit_mw=500_000))))
    assert found.detail == "500 W, not the default of 700 W: figures hold for this limit"
    assert found.remedy == "as root: nvidia-smi -i 0 -pl 700"


def test_watts_by_what_can_be_read() -> None:
    power_only = rented_box(nvml=nvml_of(H100, counter=False))
    assert about("watts of the GPU", power_only).remedy == "flopwatt doctor --sensor"
    neither = rented_box(nvml=nvml_of(H100, power=False, counter=False, unreadable={"counter": "NOT_SUPPORTED"}))
    found = about("watts of the GPU", neither)
    assert (found.state, found.detail) == ("warn", "cannot be measured: counter NOT_SUPPORTED")
    vgpu = rented_box(nvml=nvml_of(facts(virtualisation="vgpu")))
    assert about("virtualisation of GPU 0", vgpu).state == "warn"


@pytest.mark.parametrize("changes", [{"pci_gpus": ("AMD",)}, {"torch": msgspec.structs.replace(CPU_TORCH, hip="6.4")}])
def test_another_makers_gpu_is_named_and_the_cpu_measured(changes: dict[str, object]) -> None:
    found = about("other GPUs", laptop(**changes))
    assert found.state == "warn"
    assert found.detail == "AMD: not measured, only the CPU and NVIDIA GPUs are"
    assert can_measure(diagnose(laptop(**changes)))


def test_container_limits() -> None:
    assert about("limits", laptop()).detail == "none"
    throttled = about("limits", laptop(limits=Limits(processors=1.5)))
    assert (throttled.state, "1.5 of 8 processors' time" in throttled.detail) == ("warn", True)
    assert about("limits", laptop(limits=Limits(processors=8.0, memory_bytes=16 * 2**30))).detail == (
        "memory limited to 16.0 GiB"
    )
    assert about("limits", laptop(limits=Limits(memory_bytes=2 * 2**30))).state == "warn"
