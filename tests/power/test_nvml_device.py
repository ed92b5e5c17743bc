"""Identity and state of a GPU, through the unmodified nvidia-ml-py."""

from __future__ import annotations

import hashlib

import pytest

DESCRIBE = """
import dataclasses
from flopwatt.measurement.nvml_device import count, describe
answer = dict(facts=dataclasses.asdict(describe({arguments})), count=count())
"""
UUID = "GPU-00000000-1111-2222-3333-444444444440"


def test_facts_of_a_gpu(fake_gpu):
    answer = fake_gpu(gpus=3, virtualisation=1).run(DESCRIBE.format(arguments=""))
    assert answer["count"] == 3
    assert answer["facts"] == {
        "name": "NVIDIA H100 80GB HBM3",
        "board_id": hashlib.sha256(UUID.encode()).hexdigest()[:12],
        "vbios": "96.00.89.00.01",
        "driver": "570.86.15",
        "power_limit_mw": 700000,
        "power_limit_default_mw": 700000,
        "max_clock_mhz": 1980,
        "mig": False,
        "virtualisation": "passthrough",
        "other_processes": 0,
        "unreadable": {},
    }
    assert UUID not in str(answer)


def test_the_board_id_does_not_depend_on_how_cuda_spells_the_uuid(fake_gpu):
    answer = fake_gpu().run(
        f"from flopwatt.measurement.nvml_device import board_id\nanswer = [board_id({UUID!r}), board_id({UUID[4:]!r})]"
    )
    assert answer[0] == answer[1]


def test_other_processes_leave_out_the_callers_own(fake_gpu):
    answer = fake_gpu(processes=3, first_pid=4000).run(DESCRIBE.format(arguments="own_pids=[4001]"))
    assert answer["facts"]["other_processes"] == 2


def test_an_old_driver_counts_processes_by_the_older_call(fake_gpu):
    gpu = fake_gpu(without=("nvmlDeviceGetComputeRunningProcesses_v3",), processes=2)
    assert gpu.run(DESCRIBE.format(arguments=""))["facts"]["other_processes"] == 2


def test_mig_is_told(fake_gpu):
    assert fake_gpu(mig=1).run(DESCRIBE.format(arguments=""))["facts"]["mig"] is True


def test_unreadable_facts_are_none_with_their_code(fake_gpu):
    errors = {"mig": "NOT_SUPPORTED", "vbios": "NO_PERMISSION", "processes": "UNKNOWN"}
    gpu = fake_gpu(without=("nvmlDeviceGetVirtualizationMode",), **errors)
    facts = gpu.run(DESCRIBE.format(arguments=""))["facts"]
    assert facts["unreadable"] == {
        "vbios": "NO_PERMISSION",
        "mig": "NOT_SUPPORTED",
        "virtualisation": "FUNCTION_NOT_FOUND",
        "other_processes": "UNKNOWN",
    }
    assert [facts[name] for name in facts["unreadable"]] == [None] * 4
    assert facts["power_limit_mw"] == 700000


@pytest.mark.parametrize("call", ["describe", "count"])
def test_no_nvml_is_an_error_with_its_code(fake_gpu, call):
    answer = fake_gpu(init="DRIVER_NOT_LOADED").run(
        f"from flopwatt.errors import DeviceError\nfrom flopwatt.measurement.nvml_device import {call}\n"
        f"try:\n    {call}()\nexcept DeviceError as error:\n    answer = [error.code, error.exit_code]\n"
    )
    assert answer == ["DRIVER_NOT_LOADED", 2]
