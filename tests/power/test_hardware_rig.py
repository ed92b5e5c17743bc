"""The real rig on a GPU that is not there: PyTorch's answers made up, NVML's from the fake library, the rest real."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

OPEN = """
import os
import torch
from types import SimpleNamespace
properties = SimpleNamespace(
    name="NVIDIA H100 80GB HBM3", major=9, minor=0, multi_processor_count=132, L2_cache_size=52428800,
    total_memory=85017493504, shared_memory_per_block_optin=232448, uuid="00000000-1111-2222-3333-444444444440",
)
torch.version.cuda = "13.0"
torch.cuda.is_available = lambda: True
torch.cuda.device_count = lambda: 1
torch.cuda.get_device_properties = lambda index: properties
torch.cuda.set_device = torch.cuda.synchronize = torch.cuda.empty_cache = lambda *_: None
torch.zeros = lambda *_, **__: None
from flopwatt.measurement import gpu_lock
from flopwatt.measurement.hardware import HardwareRig
gpu_lock.PREFIX = f"\\0flopwatt-test-{os.getpid()}-"  # other tests pretend to have this GPU at the same time
from flopwatt.errors import DeviceBusy
try:
    rig = HardwareRig.open("auto", shared=SHARED, idle=True)
except DeviceBusy as busy:
    answer = {"busy": str(busy)}
else:
    e = rig.environment
    answer = {
        "gpu": e.gpu, "spec": e.spec, "capability": e.capability, "driver": e.driver, "vbios": e.vbios, "mig": e.mig,
        "limit": e.power_limit_mw, "board": rig.board_id, "idle": rig.idle_w, "context": rig.idle_context_w,
        "source": rig.sensor.source, "gain": rig.sensor.gain_uncertainty, "shared_with": e.shared_with,
        "after": rig.idle_after() if AFTER else None,
    }
    JOIN
    answer |= {
        "joined": rig.joined_by(), "unreadable": e.unreadable, "name": rig.device.torch_name,
    }
    rig.close()
"""

FakeGpuMaker = Callable[..., Any]


def opened(gpu: Any, shared: bool = False, after: bool = False, join: str = "") -> dict[str, Any]:
    code = OPEN.replace("SHARED", str(shared)).replace("AFTER", str(after)).replace("JOIN", join)
    answer: dict[str, Any] = gpu.run(code)
    return answer


def test_a_gpu_is_described_and_its_idle_watts_read(fake_gpu: FakeGpuMaker) -> None:
    found = opened(fake_gpu(), after=True)
    assert found["gpu"] == "NVIDIA H100 80GB HBM3"
    assert found["spec"] is not None
    assert found["capability"] == [9, 0]
    assert (found["driver"], found["vbios"], found["limit"]) == ("570.86.15", "96.00.89.00.01", 700_000)
    assert found["idle"] == found["context"] == found["after"] == pytest.approx(73.0)
    assert (found["source"], found["gain"]) == ("nvml", 0.05)
    assert len(found["board"]) == 12
    assert (found["shared_with"], found["joined"]) == (0, 0)
    assert found["name"] == "cuda:0"


def test_a_busy_gpu_is_refused_unless_shared(fake_gpu: FakeGpuMaker) -> None:
    gpu = fake_gpu(processes=2)
    assert "2 other process(es) compute on NVIDIA H100 80GB HBM3" in opened(gpu)["busy"]
    assert opened(gpu, shared=True)["shared_with"] == 2


SECOND = """
    try:
        HardwareRig.open("auto", shared=False, idle=False)
    except DeviceBusy as busy:
        answer["second"] = str(busy)
    HardwareRig.open("auto", shared=True, idle=False).close()
    rig.close()
    HardwareRig.open("auto", shared=False, idle=False).close()
"""


def test_a_gpu_is_opened_by_one_run_at_a_time_unless_shared(fake_gpu: FakeGpuMaker) -> None:
    second = opened(fake_gpu(), join=SECOND.strip())["second"]
    assert second == (
        "another flopwatt measures on NVIDIA H100 80GB HBM3: wait for it, "
        "or measure beside it with --shared, which marks the rows"
    )


def test_a_process_that_joins_is_counted(fake_gpu: FakeGpuMaker) -> None:
    gpu = fake_gpu()
    scenario = gpu.variables["FAKE_NVML_SCENARIO"]
    found = opened(gpu, join=f"open({scenario!r}, 'a').write('processes=2\\n')")
    assert (found["shared_with"], found["joined"]) == (0, 2)


def test_mig_is_seen_by_its_slices_uuid(fake_gpu: FakeGpuMaker) -> None:
    gpu = fake_gpu(mig=1)
    found = opened(gpu)
    assert found["mig"] is True
    assert found["source"] == "nvml"
    assert found["idle"] == pytest.approx(73.0), "the whole GPU's"


@pytest.mark.parametrize("code", ["NOT_SUPPORTED", "NO_PERMISSION", "UNKNOWN"])
def test_what_cannot_be_seen_of_others_is_null_with_its_code(fake_gpu: FakeGpuMaker, code: str) -> None:
    found = opened(fake_gpu(processes=code, mig=code))
    assert (found["shared_with"], found["mig"]) == (None, None)
    assert found["unreadable"] == {"other_processes": code, "mig": code}
    assert found["joined"] == 0


def test_without_nvml_the_gpu_is_measured_without_watts(
    fake_gpu: FakeGpuMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = fake_gpu()
    gpu.variables["LD_LIBRARY_PATH"] = "/nonexistent"
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nonexistent")
    found = opened(gpu)
    assert found["source"] == "none"
    assert found["idle"] is None
    assert "nvml" in found["unreadable"]
    assert len(found["board"]) == 12
