import json
import sys
from pathlib import Path

import pytest

from flopwatt.measurement import doctor_facts
from flopwatt.measurement.doctor_facts import (
    Limits,
    Torch,
    ask_machine,
    ask_nvml,
    ask_torch,
    cgroup_limits,
    find_compiler,
    find_headers,
    pci_gpus,
)
from flopwatt.measurement.power.nvml import NvmlError


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


def test_torch_answers_from_a_process_of_its_own() -> None:
    said = ask_torch(sys.executable)
    assert (said.error, said.works) == (None, True)
    assert said.version is not None
    assert said.version.startswith("2.")
    assert said.triton is not None


def test_chatter_before_the_answer_is_no_harm(tmp_path: Path) -> None:
    answer = json.dumps({"version": "2.13.0", "capability": [9, 0], "sees_gpu": True})
    said = ask_torch(script(tmp_path / "python", f"echo warning: chatter\necho '{answer}'"))
    assert said == Torch(version="2.13.0", capability=(9, 0), sees_gpu=True)


def test_a_torch_that_crashes_is_an_answer(tmp_path: Path) -> None:
    said = ask_torch(script(tmp_path / "python", "echo 'Fatal: illegal instruction' >&2; kill -SEGV $$"))
    assert said.error == "importing it ended with exit code -11: Fatal: illegal instruction"


def test_a_torch_that_hangs_is_an_answer(tmp_path: Path) -> None:
    said = ask_torch(script(tmp_path / "python", "exec sleep 60"), timeout_s=0.3)
    assert said.error is not None
    assert said.error.startswith("importing it took more than")


def test_no_torch_is_an_answer(tmp_path: Path) -> None:
    python = script(tmp_path / "python", f'exec {sys.executable} -S -I "$@"')
    said = ask_torch(python)
    assert said.error == "ModuleNotFoundError: No module named 'torch'"
    assert (said.triton, said.triton_error) == (None, None)


def test_the_compiler_is_the_one_triton_would_call(tmp_path: Path) -> None:
    clang, gcc = (script(tmp_path / name, "") for name in ("clang", "gcc"))
    path = str(tmp_path)
    assert find_compiler({"PATH": path}) == gcc
    assert find_compiler({"PATH": path, "CC": "clang"}) == clang
    assert find_compiler({"PATH": path, "CC": "/missing/icx"}) is None
    (tmp_path / "gcc").rename(tmp_path / "cc")  # Triton does not look for this name
    assert find_compiler({"PATH": path}) == clang
    (tmp_path / "clang").unlink()
    assert find_compiler({"PATH": path}) is None


def test_headers(tmp_path: Path) -> None:
    assert find_headers(tmp_path) is None
    (tmp_path / "Python.h").touch()
    assert find_headers(tmp_path) == str(tmp_path)


def test_gpus_on_the_bus(tmp_path: Path) -> None:
    devices = {"a": ("0x030200", "0x10de"), "b": ("0x120000", "0x1002"), "c": ("0x030000", "0x8086")}
    devices |= {"d": ("0x038000", "0x8086"), "e": ("0x020000", "0x10de"), "f": ("0x030000", "0x1a03")}
    files = {f"{name}/{file}": text for name, pair in devices.items() for file, text in zip(("class", "vendor"), pair)}  # noqa: B905
    assert pci_gpus(tree(tmp_path, files)) == ("AMD", "Intel", "NVIDIA")
    assert pci_gpus(tmp_path / "missing") == ()


@pytest.mark.parametrize(
    ("files", "limits"),
    [
        ({"memory.max": "max", "cpu.max": "max 100000"}, Limits()),
        ({"memory.max": "1073741824", "cpu.max": "150000 100000"}, Limits(memory_bytes=2**30, processors=1.5)),
        (
            {
                "memory/memory.limit_in_bytes": "1073741824",
                "cpu/cpu.cfs_quota_us": "400000",
                "cpu/cpu.cfs_period_us": "100000",
            },
            Limits(memory_bytes=2**30, processors=4.0),
        ),
        (
            {
                "memory/memory.limit_in_bytes": "9223372036854771712",
                "cpu/cpu.cfs_quota_us": "-1",
                "cpu/cpu.cfs_period_us": "100000",
            },
            Limits(),
        ),
        ({}, Limits()),
    ],
)
def test_cgroup_limits(tmp_path: Path, files: dict[str, str], limits: Limits) -> None:
    assert cgroup_limits(tree(tmp_path, files)) == limits


def test_no_nvml_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise NvmlError("LIBRARY_NOT_FOUND", "nvmlInit")

    monkeypatch.setattr(doctor_facts.nvml_device, "count", refuse)
    said = ask_nvml()
    assert said.gpus == ()
    assert said.error is not None
    assert "--gpus all" in said.error


def test_this_machine_answers_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_facts, "ask_torch", lambda executable: Torch(version="2.13.0"))
    machine = ask_machine()
    assert machine.python == sys.version_info[:3]
    assert machine.processors >= 1
    assert machine.has_venv
