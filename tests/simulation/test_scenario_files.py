from __future__ import annotations

import re
import tomllib
from importlib import resources

import msgspec
import pytest

from flopwatt.errors import SuiteError
from flopwatt.measurement.simulation import scenario as tables
from flopwatt.measurement.simulation.loading import load_scenario, parse_scenario, shipped
from flopwatt.measurement.simulation.rig import SimulatedRig

FOLDER = resources.files("flopwatt.measurement.simulation") / "scenarios"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
SMALLEST = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)[-1]


def test_the_shipped_scenarios_load_by_name_and_by_path(tmp_path):
    assert sorted(shipped()) == ["a100", "h100"]
    h100 = load_scenario("h100")
    assert (h100.gpu.name, h100.gpu.power_limit_w, h100.power.idle_w) == ("NVIDIA H100 80GB HBM3", 700, 73)
    assert (h100.sensor.update_period_s, h100.sensor.average_window_s) == (0.1, 1.0)
    assert h100.sensor.window_s == (0.021, 0.025)
    a100 = load_scenario("a100")
    assert (a100.gpu.peak_flop_per_s["bf16"], a100.power.idle_w) == (312e12, 56)
    assert a100.sensor.average_window_s is None
    copy = tmp_path / "mine.toml"
    copy.write_text(shipped()["h100"])
    assert load_scenario(copy) == h100


def test_the_documented_smallest_scenario_is_one():
    scenario = parse_scenario(SMALLEST, "README")
    assert SimulatedRig(scenario).environment.gpu == "Plain GPU"


def test_every_key_of_the_format_is_documented():
    documented = set(re.findall(r"`([a-z0-9_]+)`", README))
    sections = {"gpu", "backends", "power", "thermal", "sensor", "noise", "boards", "faults", "throttle", "unknown"}
    for name, table in vars(tables).items():
        if isinstance(table, type) and issubclass(table, msgspec.Struct) and not name.startswith("_"):
            missing = set(table.__struct_fields__) - documented - sections - {"m", "n", "efficiency", "second_process"}
            assert not missing, f"{name}: {missing}"


def without(key):
    return re.sub(rf"^{key} = .*\n", "", SMALLEST, flags=re.MULTILINE)


def swapped(key, value):
    assert re.search(rf"^{key} = ", SMALLEST, flags=re.MULTILINE)
    return re.sub(rf"^{key} = .*$", f"{key} = {value}", SMALLEST, flags=re.MULTILINE)


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        ("", "top level", "missing required field `name`"),
        ("name = ", "bad.toml", "not TOML"),
        ("a = 1\na = 2", "bad.toml", "not TOML"),
        ("[" * 100_000, "bad.toml", "TOML"),
        ("x = " + "9" * 5000, "bad.toml", "TOML"),
        (without("sm_count"), "gpu", "missing required field `sm_count`"),
        (without("update_period_s"), "sensor", "missing required field `update_period_s`"),
        (swapped("sm_count", "0"), "gpu.sm_count", "Expected `int` >= 1"),
        (swapped("sm_count", "true"), "gpu.sm_count", "Expected `int`, got `bool`"),
        (swapped("sm_count", "1" + "0" * 400), "gpu.sm_count", "not a finite number"),
        (swapped("idle_w", "nan"), "power.idle_w", "nan is not a finite number"),
        (swapped("idle_w", "-3"), "power.idle_w", "Expected `float` >= 0"),
        (swapped("power_limit_w", "inf"), "gpu.power_limit_w", "inf is not a finite number"),
        (swapped("power_limit_w", '"400"'), "gpu.power_limit_w", "Expected `float`, got `str`"),
        (swapped("window_s", "[0.03, 0.02]"), "sensor", "window_s = .* give a number or"),
        (swapped("window_s", "[0.02, 0.025, 0.03]"), "sensor", "window_s = .* give a number or"),
        (swapped("window_s", "[0.02, inf]"), r"sensor.window_s\[1\]", "inf is not a finite number"),
        (swapped("window_s", "0"), "sensor", "window_s = 0.* within 0.0001 to 60"),
        (swapped("update_period_s", "[0.0, 0.1]"), "sensor", "update_period_s = .* within 0.001 to 60"),
        (swapped("update_period_s", '"fast"'), "sensor.update_period_s", "Expected `float | array`, got `str`"),
        (swapped("compute_w", "{ bf16 = 100 }"), "power", "`default` entry"),
        (swapped("compute_w", "{ default = 100, fp4 = 3 }"), "power", "unknown dtype 'fp4'"),
        (swapped("peak_flop_per_s", "{ bf61 = 3e14 }"), "gpu", "unknown dtype 'bf61'"),
        (swapped("peak_flop_per_s", "{}"), "gpu.peak_flop_per_s", "Expected `object` of length >= 1"),
        (SMALLEST.replace("[backends.default]", "[backends.torch]"), "top level", "backends must have a `default`"),
        (swapped("context_w", "500"), "top level", "nothing could ever run"),
        (SMALLEST + 'unsupported = ["counters"]', r"sensor.unsupported\[0\]", "Invalid enum value 'counters'"),
        (SMALLEST + "[faults]\nloss_after_s = 3", "faults", "unknown field `loss_after_s`"),
        (SMALLEST + "[faults.unknown]\nfrom_s = 3", "faults.unknown", "missing required field `quantities`"),
        (SMALLEST + '[faults]\nsensor_lost_code = "GONE"', "faults.sensor_lost_code", "Invalid enum value 'GONE'"),
        (SMALLEST + "[noise]\nrun_time = 5", "noise.run_time", "Expected `float` <= 0.2"),
        (SMALLEST + "[thermal]\npower_per_c = 0.01\nc_per_w = 10", "top level", "more than twofold"),
        (
            SMALLEST + "[[faults.throttle]]\nfrom_s = 1",
            r"faults.throttle\[0\]",
            "missing required",
        ),
        (swapped("name", '"../etc"'), "name", "Expected `str` matching regex"),
    ],
)
def test_a_malformed_scenario_is_one_line_with_file_key_and_remedy(tmp_path, text, key, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SuiteError) as caught:
        load_scenario(path)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 500
    assert line.startswith(str(path))
    assert re.search(key, line), line
    assert re.search(message, line, flags=re.IGNORECASE), line


def test_files_that_are_none_are_refused_in_one_line(tmp_path):
    huge = tmp_path / "huge.toml"
    huge.write_bytes(b"#" * (2**20 + 1))
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b'name = "\xff\xfe"')
    for name, message in (
        (huge, "larger than 1 MiB"),
        (binary, "byte 8 is not UTF-8"),
        (tmp_path, "is not a file: give a .toml file or one of a100, h100"),
        (tmp_path / "none.toml", "is no file and no shipped scenario"),
        ("b200", "is no file and no shipped scenario: give a .toml file or one of a100, h100"),
        ("a\0b", "is no file|cannot be read"),
        ("x" * 5000, "cannot be read|is no file"),
        ("/dev/zero", "is not a file"),
    ):
        with pytest.raises(SuiteError, match=message):
            load_scenario(name)


def test_whole_numbers_pass_for_fractions_everywhere():
    text = SMALLEST + "gain = 1\noffset_w = [-5, 5]\n"
    assert tomllib.loads(text)["sensor"]["gain"] == 1
    sensor = parse_scenario(text, "x").sensor
    assert (sensor.gain, sensor.offset_w) == (1.0, (-5.0, 5.0))
