"""A GPU for the worker where there is none: PyTorch's answers made up, launches on the CPU, NVML from the fake library.

`install` is for a `sitecustomize` of the worker's process. A file called `gone` in the folder takes the GPU away, one
called `other` puts another in its place, for whoever asks from then on, as PyTorch counts anew in a fresh process.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

from flopwatt_process import sources
from simulated_runs import SHORT_RESTS

SUMMARY = "kernels of a GPU that is about to be lost"

UUIDS = ("00000000-1111-2222-3333-444444444440", "00000000-1111-2222-3333-444444444441")
XID_M, SOUND_M = 80, (64, 96)
"""The launch that loses the GPU, and the others."""

SITE = """
import sys
if "flopwatt.measurement.worker" in sys.orig_argv:
    import pretend_gpu
    pretend_gpu.install()
import gemmkernels.backend
gemmkernels.backend.BACKENDS["doomed"] = "pretend_gpu"
"""


def folder() -> Path:
    return Path(os.environ["PRETEND_GPU"])


def install() -> None:
    """Makes PyTorch and the rig of this process believe in the GPU."""
    import torch

    import gemmkernels.backend
    from flopwatt.measurement import gpu_lock, hardware, pauses
    from flopwatt.measurement.timing_cpu import CpuTimer

    properties = SimpleNamespace(
        name="NVIDIA H100 80GB HBM3",
        major=9,
        minor=0,
        multi_processor_count=132,
        L2_cache_size=2**20,
        total_memory=85017493504,
        shared_memory_per_block_optin=232448,
        uuid=UUIDS[(folder() / "other").exists()],
    )
    torch.version.cuda = "13.0"
    torch.cuda.is_available = lambda: not (folder() / "gone").exists()
    torch.cuda.device_count = lambda: 1
    torch.cuda.get_device_properties = lambda _: properties
    torch.cuda.mem_get_info = lambda *_: (80 * 10**9, 85 * 10**9)
    torch.cuda.set_device = torch.cuda.synchronize = torch.cuda.empty_cache = lambda *_: None
    gpu_lock.PREFIX = f"\0flopwatt-test-{os.stat(folder()).st_ino}-"  # other tests pretend the same at the same time
    pauses.PAUSE_LEAST_S = 60.0  # its launches wait for a CPU that others use; a GPU would not
    gemmkernels.backend.Device.torch_name = property(lambda _: "cpu")
    hardware.HardwareRig._timer = lambda rig, workload: CpuTimer(workload.step, rig.clock)


def supports(problem: object, device: object) -> str | None:
    return None


def configs(problem: object, device: object) -> Sequence[dict[str, int]]:
    return [{}]


def prepare(problem: object, config: object, device: object) -> object:
    import torch

    def launch(operands: object) -> None:
        torch.mm(operands.a, operands.b, out=operands.out)
        if problem.m == XID_M:
            (folder() / os.environ.get("PRETEND_LOSS", "gone")).touch()
            raise getattr(torch, "AcceleratorError", RuntimeError)(LOST)

    return launch


LOST = (
    "CUDA error: unspecified launch failure\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be "
    "incorrect.\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1"
)
"""What PyTorch says of a launch on a GPU that reported an Xid."""


def variables(where: Path) -> dict[str, str]:
    """Variables of a run whose worker shall find this GPU."""
    (where / "sitecustomize.py").write_text(SHORT_RESTS + SITE)
    return {**sources(where, Path(__file__).parent), "PRETEND_GPU": str(where), "OMP_NUM_THREADS": "1"}
