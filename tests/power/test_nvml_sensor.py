"""The NVML sensor through the unmodified nvidia-ml-py, against a library that answers what a scenario says."""

from __future__ import annotations

import time
from ctypes.util import find_library

import pytest

from fake_nvml import build
from flopwatt.measurement.nvml_device import board_id

READ = """
from flopwatt.measurement.power.nvml import open_nvml
sensor = open_nvml()
readings = [[sensor.read_counter(), sensor.read_power()._asdict(), sensor.read_slow()._asdict()] for _ in range(3)]
answer = dict(readings=readings, unreadable=sensor.unreadable)
sensor.close()
"""
ERROR = """
from flopwatt.measurement.power.nvml import open_nvml, NvmlError
try:
    open_nvml({selector!r})
    answer = None
except NvmlError as error:
    answer = [error.code, str(error)]
"""


def test_a_quiet_gpu_answers_everything_in_native_units(fake_gpu):
    answer = fake_gpu(counter_frozen=1).run(READ)
    counter, power, slow = answer["readings"][0]
    assert counter == 5_000_000
    stamp_us = power.pop("stamp_us")
    assert power == {"instant_mw": 73000, "average_mw": 73000, "clock_mhz": 1755, "temp_c": 41, "reasons": 4}
    assert abs(stamp_us * 1e-6 - time.time()) < 60, "the driver's own time, by the wall's clock"
    assert slow == {
        "power_limit_mw": 700000,
        "power_violation_ns": 123456789,
        "thermal_violation_ns": 42,
        "memory_clock_mhz": 2619,
    }
    assert answer["unreadable"] == {}


def test_instant_and_average_are_not_mixed(fake_gpu):
    answer = fake_gpu(average_bias_mw=-3000).run(READ)
    assert {power["instant_mw"] for _, power, _ in answer["readings"]} == {73000}
    assert {power["average_mw"] for _, power, _ in answer["readings"]} == {70000}


@pytest.mark.parametrize(
    ("call", "quantity", "symbol"),
    [
        ("counter", "counter", "nvmlDeviceGetTotalEnergyConsumption"),
        ("limit", "power_limit_mw", "nvmlDeviceGetEnforcedPowerLimit"),
        ("reasons", "reasons", "nvmlDeviceGetCurrentClocksEventReasons"),
        ("clock", "clock_mhz", "nvmlDeviceGetClockInfo"),
    ],
)
def test_what_is_not_supported_is_none_with_its_code_and_not_asked_again(fake_gpu, call, quantity, symbol):
    errors = {call: "NOT_SUPPORTED", "throttle_reasons": "NOT_SUPPORTED"}
    gpu = fake_gpu(**errors)
    answer = gpu.run(READ)
    assert answer["unreadable"] == {quantity: "NOT_SUPPORTED"}
    for counter, power, slow in answer["readings"]:
        values = {"counter": counter, **power, **slow}
        assert [name for name, value in values.items() if value is None] == [quantity]
    memory_clock_calls = 3 if call == "clock" else 0
    assert gpu.calls().count(symbol) == 1 + memory_clock_calls


@pytest.mark.parametrize("code", ["NO_PERMISSION", "UNKNOWN", "TIMEOUT"])
def test_other_errors_are_none_with_their_code_and_asked_again(fake_gpu, code):
    gpu = fake_gpu(counter=code)
    answer = gpu.run(READ)
    assert [counter for counter, _, _ in answer["readings"]] == [None] * 3
    assert answer["unreadable"] == {"counter": code}
    assert gpu.calls().count("nvmlDeviceGetTotalEnergyConsumption") == 3


def test_an_error_younger_than_the_bindings_keeps_its_number(fake_gpu):
    assert fake_gpu(counter="YOUNGER_THAN_BINDINGS").run(READ)["unreadable"] == {"counter": "ERROR_777"}


def test_power_alone_is_one_call(fake_gpu):
    gpu = fake_gpu()
    code = "from flopwatt.measurement.power.nvml import open_nvml\nsensor = open_nvml()\n"
    reading = gpu.run(code + "answer = sensor.read_watts()._asdict()\nsensor.close()\n")
    assert (reading["instant_mw"], reading["average_mw"]) == (73000, 73000)
    assert reading["clock_mhz"] is reading["temp_c"] is reading["reasons"] is None
    assert [call for call in gpu.calls() if call.startswith("nvmlDeviceGet") and "Handle" not in call] == [
        "nvmlDeviceGetFieldValues"
    ]


@pytest.mark.parametrize("code", ["NOT_SUPPORTED", "NO_PERMISSION"])
def test_violations_that_cannot_be_read_are_none_with_their_code(fake_gpu, code):
    answer = fake_gpu(violation=code, field_74=code, field_75=code).run(READ)
    assert {slow["power_violation_ns"] for _, _, slow in answer["readings"]} == {None}
    assert {slow["thermal_violation_ns"] for _, _, slow in answer["readings"]} == {None}
    assert answer["unreadable"] == {"power_violation_ns": code, "thermal_violation_ns": code}


def test_one_field_may_fail_alone(fake_gpu):
    answer = fake_gpu(field_185="NOT_SUPPORTED").run(READ)
    assert answer["readings"][2][1]["instant_mw"] == 73000
    assert answer["readings"][2][1]["average_mw"] is None
    assert answer["unreadable"] == {"average_mw": "NOT_SUPPORTED"}


@pytest.mark.parametrize("code", ["NOT_SUPPORTED", "INVALID_ARGUMENT"])
@pytest.mark.parametrize("capability", [(7, 0), (8, 0)])
def test_up_to_ga100_power_usage_stands_in_for_instant_and_says_so(fake_gpu, code, capability):
    major, minor = capability
    gpu = fake_gpu(field_185=code, field_186=code, capability_major=major, capability_minor=minor)
    answer = gpu.run(READ)
    assert [power["instant_mw"] for _, power, _ in answer["readings"]] == [73000] * 3
    assert [power["average_mw"] for _, power, _ in answer["readings"]] == [None] * 3
    assert answer["unreadable"]["field_186"].startswith(f"{code}; instant_mw is GetPowerUsage")
    assert answer["unreadable"]["average_mw"] == code
    assert gpu.calls().count("nvmlDeviceGetFieldValues") == 1


def test_past_ga100_power_usage_never_stands_in(fake_gpu):
    gpu = fake_gpu(fields="NOT_SUPPORTED", capability_major=8, capability_minor=6)
    answer = gpu.run(READ)
    assert [power["instant_mw"] for _, power, _ in answer["readings"]] == [None] * 3
    assert answer["unreadable"] == {"instant_mw": "NOT_SUPPORTED", "average_mw": "NOT_SUPPORTED"}
    assert "nvmlDeviceGetPowerUsage" not in gpu.calls()


def test_an_old_driver_without_the_newer_symbols_is_read_by_the_older_ones(fake_gpu):
    gpu = fake_gpu(
        without=(
            "nvmlDeviceGetTemperatureV",
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetFieldValues",
            "nvmlDeviceGetTotalEnergyConsumption",
        )
    )
    answer = gpu.run(READ)
    counter, power, slow = answer["readings"][0]
    assert (counter, power["temp_c"], power["reasons"]) == (None, 41, 4)
    assert slow["power_violation_ns"] == 123456789
    missing = "FUNCTION_NOT_FOUND"
    assert answer["unreadable"] == {"counter": missing, "instant_mw": missing, "average_mw": missing}


def test_a_driver_without_violation_status_is_asked_by_field(fake_gpu):
    answer = fake_gpu(without=("nvmlDeviceGetViolationStatus",)).run(READ)
    slow = answer["readings"][0][2]
    assert (slow["power_violation_ns"], slow["thermal_violation_ns"]) == (123456789, 42)
    assert answer["unreadable"] == {}


def test_bindings_older_than_a_call_are_no_error(fake_gpu):
    old = "import pynvml\ndel pynvml.nvmlDeviceGetTemperatureV, pynvml.nvmlDeviceGetCurrentClocksEventReasons\n"
    answer = fake_gpu().run(old + READ)
    assert answer["readings"][0][1]["temp_c"] == 41
    assert answer["readings"][0][1]["reasons"] == 4
    assert answer["unreadable"] == {}


def test_zero_power_is_kept_raw(fake_gpu):
    answer = fake_gpu(zero_power=1).run(READ)
    assert answer["readings"][0][1]["instant_mw"] == 0
    assert answer["readings"][0][1]["average_mw"] == 0


@pytest.mark.parametrize("read", ["read_counter", "read_power", "read_slow"])
@pytest.mark.parametrize("code", ["GPU_IS_LOST", "DRIVER_NOT_LOADED"])
def test_a_lost_gpu_ends_reading_with_its_code(fake_gpu, read, code):
    gpu = fake_gpu(counter=code, fields=code, limit=code)
    answer = gpu.run(
        "from flopwatt.measurement.power.nvml import open_nvml\n"
        "from flopwatt.measurement.power.sensor import SensorLost\n"
        "sensor = open_nvml()\n"
        f"try:\n    sensor.{read}()\nexcept SensorLost as lost:\n    answer = str(lost)\n"
        "sensor.close()\n"
    )
    assert answer.startswith(f"NVML: {code} in ")


def test_a_field_that_reports_the_gpu_lost_ends_reading(fake_gpu):
    answer = fake_gpu(field_186="GPU_IS_LOST").run(
        "from flopwatt.measurement.power.nvml import open_nvml\n"
        "from flopwatt.measurement.power.sensor import SensorLost\n"
        "try:\n    open_nvml().read_power()\nexcept SensorLost as lost:\n    answer = str(lost)\n"
    )
    assert answer.startswith("NVML: GPU_IS_LOST in field 186")


@pytest.mark.parametrize("code", ["DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH", "NO_PERMISSION"])
def test_an_nvml_that_does_not_initialise_names_its_code_and_remedy(fake_gpu, code):
    found, line = fake_gpu(init=code).run(ERROR.format(selector=None))
    assert found == code
    assert line.startswith(f"NVML: {code} in nvmlInit: ")
    assert len(line) > len(f"NVML: {code} in nvmlInit: ") + 10


@pytest.mark.skipif(find_library("nvidia-ml") is not None, reason="this machine has a driver")
def test_no_library_at_all_is_one_line_with_the_remedy():
    found, line = build.run(f"import json\n{ERROR.format(selector=None)}\nprint(json.dumps(answer))", {})
    assert found == "LIBRARY_NOT_FOUND"
    assert "install the driver" in line


def test_no_bindings_is_one_line_with_the_remedy(fake_gpu):
    found, line = fake_gpu().run("import sys\nsys.modules['pynvml'] = None\n" + ERROR.format(selector=None))
    assert found == "BINDINGS_NOT_INSTALLED"
    assert "pip install 'flopwatt[measure]'" in line


@pytest.mark.parametrize(
    "selector",
    [
        "1",
        "GPU-00000000-1111-2222-3333-444444444441",
        "00000000-1111-2222-3333-444444444441",
        "00000000:1b:00.0",
        "0000:1B:00.0",
        "MIG-00000000-1111-2222-3333-444444444441",
    ],
)
def test_a_gpu_is_found_by_every_name_it_has(fake_gpu, selector):
    gpu = fake_gpu(gpus=2, mig=1)
    code = "from flopwatt.measurement.nvml_device import describe\nanswer = describe({!r}).board_id"
    assert gpu.run(code.format(selector)) == board_id("GPU-00000000-1111-2222-3333-444444444441")


@pytest.mark.parametrize("selector", ["7", "GPU-none", "ffff", "0000:ff:00.0"])
def test_a_gpu_that_is_not_there_names_the_remedy(fake_gpu, selector):
    _, line = fake_gpu().run(ERROR.format(selector=selector))
    assert "nvidia-smi -L" in line


def test_nothing_that_changes_a_gpu_can_be_called(fake_gpu):
    gpu = fake_gpu()
    setters = build.setters()
    assert len(setters) > 50
    refused = gpu.run(
        "import ctypes, pynvml\n"
        "from flopwatt.measurement.power.nvml import Nvml\n"
        "nvml, refused = Nvml(), []\n"
        f"for name in {setters!r}:\n"
        "    ctypes.CDLL('libnvidia-ml.so.1')[name]\n"
        "    try:\n        nvml.call(name)\n"
        "    except ValueError:\n        refused.append(name)\n"
        "answer = refused\n"
    )
    assert refused == setters


def test_the_fake_records_a_setter_so_that_silence_means_something(nvml_library, tmp_path):
    scenario = build.write_scenario(tmp_path / "scenario.txt")
    log = tmp_path / "log"
    code = "import json, pynvml\npynvml.nvmlInit()\nh = pynvml.nvmlDeviceGetHandleByIndex(0)\n"
    code += "try:\n    pynvml.nvmlDeviceSetPowerManagementLimit(h, 300000)\n"
    code += "except pynvml.NVMLError as error:\n    print(json.dumps(error.value))\n"
    assert build.run(code, build.environment(nvml_library(), scenario, log)) == 4
    assert "nvmlDeviceSetPowerManagementLimit" in log.read_text().split()
