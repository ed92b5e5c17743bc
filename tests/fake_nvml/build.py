"""Builds the fake NVML library and runs Python under it. Import as `fake_nvml.build` with tests/ on the path."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).with_name("nvml.c")
ROOT = Path(__file__).parents[2]
SONAME = "libnvidia-ml.so.1"
SETTER = re.compile(r'"(nvml\w*?(?:Set|Reset|Clear|Create|Destroy|Modify|Freeze|Remove|Discover)[A-Z]\w*)"')

H100 = {
    "gpus": 1,
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-00000000-1111-2222-3333-444444444440",
    "vbios": "96.00.89.00.01",
    "driver": "570.86.15",
    "cuda_version": 12080,
    "capability_major": 9,
    "capability_minor": 0,
    "memory_bytes": 85520809984,
    "idle_mw": 73000,
    "load_mw": 690000,
    "load_from_s": 1e9,
    "load_to_s": 1e9,
    "power_update_ms": 100,
    "counter_start_mj": 5_000_000,
    "counter_tick_ms": 100,
    "limit_mw": 700000,
    "default_limit_mw": 700000,
    "clock_mhz": 1755,
    "max_clock_mhz": 1980,
    "memory_clock_mhz": 2619,
    "temp_c": 41,
    "reasons": 4,
    "power_violation_ns": 123456789,
    "thermal_violation_ns": 42,
    "first_pid": 4000,
}
"""A quiet H100: what a scenario says unless told otherwise."""


def setters() -> list[str]:
    """Every NVML symbol of the installed bindings that changes something."""
    spec = importlib.util.find_spec("pynvml")
    assert spec is not None, "nvidia-ml-py is not installed: pip install 'flopwatt[dev]'"
    assert spec.origin is not None
    return sorted({name for name in SETTER.findall(Path(spec.origin).read_text()) if "Get" not in name})


def build(folder: Path, without: tuple[str, ...] = ()) -> Path:
    """Compiles the library into `folder`, which goes into LD_LIBRARY_PATH. without: symbols an older driver lacks."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    assert compiler, "the fake NVML library needs a C compiler: install gcc (or set CC)"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "setters.h").write_text("".join(f"SETTER({name})\n" for name in setters()))
    hidden = folder / "hidden.map"
    hidden.write_text(f"{{ local: {' '.join(f'{name};' for name in without)} }};\n")
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-std=gnu11", f"-I{folder}"]
    command += [f"-Wl,-soname,{SONAME}", *([f"-Wl,--version-script={hidden}"] if without else [])]
    command += ["-o", str(folder / SONAME), str(SOURCE), "-lm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"the fake NVML library does not compile:\n{done.stderr}"
    return folder


def write_scenario(path: Path, **changes: object) -> Path:
    """A scenario file: the quiet H100 with changes, such as counter="NOT_SUPPORTED" or load_from_s=0."""
    path.write_text("".join(f"{key}={value}\n" for key, value in {**H100, **changes}.items()))
    return path


def extend_scenario(variables: dict[str, str], **changes: object) -> None:
    """Changes a scenario in force, for those who initialise NVML from now on."""
    with Path(variables["FAKE_NVML_SCENARIO"]).open("a") as file:
        file.writelines(f"{key}={value}\n" for key, value in changes.items())


def environment(library: Path, scenario: Path, log: Path | None = None) -> dict[str, str]:
    """Variables under which a process started afresh finds the fake instead of a driver."""
    variables = {"LD_LIBRARY_PATH": str(library), "FAKE_NVML_SCENARIO": str(scenario)}
    return {**variables, **({"FAKE_NVML_LOG": str(log)} if log else {})}


def run(code: str, variables: dict[str, str]) -> Any:
    """What `code` prints as JSON, run by a Python of its own with the checkout's packages on its path."""
    path = os.pathsep.join([str(ROOT / "kernels"), str(ROOT / "bench")])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, "PYTHONPATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
