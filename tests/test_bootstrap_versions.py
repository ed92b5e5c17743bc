import re
import tomllib
from pathlib import Path

import pytest

from bootstrap.versions import MIN_PYTHON, MIN_VERSIONS, at_least, effective_constraints, parse_version, pin_name

ROOT = Path(__file__).resolve().parents[1]
PINS = "# why\nJinja2==3.1.6\nnumpy==2.4.6\npandas==3.1.1\nsympy==1.14.0\ntorch==2.13.0\ntriton==3.7.1\n"


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("2.13.0+cpu", (2, 13)),
        ("2.11.0a0+5228986c39.nv26.2", (2, 11, -1)),
        ("3.6.0.dev20260101", (3, 6, -1)),
        ("580.65.06", (580, 65, 6)),
        ("unknown", ()),
    ],
)
def test_parse_version(text: str, release: tuple[int, ...]) -> None:
    assert parse_version(text) == release


def test_a_prerelease_is_older_than_its_release_and_newer_than_the_one_before() -> None:
    assert not at_least("2.11.0a0+nv", (2, 11))
    assert at_least("2.12.0a0+nv", (2, 11))
    assert at_least("2.11.0+cu128", (2, 11))
    assert not at_least("2.9.1", (2, 11))
    assert not at_least(None, (2, 11))
    assert not at_least("570.86.10", (580,))


def test_floors_are_those_of_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["measure"]]
    floors = dict(re.fullmatch(r"([\w-]+)>=([\d.]+)", line).groups() for line in asked)  # type: ignore[union-attr]
    assert {name: parse_version(floors[name]) for name in MIN_VERSIONS} == MIN_VERSIONS
    assert parse_version(project["requires-python"].removeprefix(">=")) == MIN_PYTHON


def test_every_direct_dependency_is_pinned_at_or_above_its_floor() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    exact = [line.partition(";")[0].strip() for line in lines]  # a marker says for which Python a pin holds
    pins = {pin_name(line): line.partition("==")[2] for line in exact if pin_name(line)}
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins.values()), "exact public versions only"
    asked = project["project"]["dependencies"] + project["build-system"]["requires"]
    for extra in ("measure", "calibrate", "reference", "report", "dev"):
        asked += [line for line in project["project"]["optional-dependencies"][extra] if "[" not in line]
    for line in asked:
        name, floor = line.partition(";")[0].split(">=")
        assert at_least(pins[pin_name(name)], parse_version(floor)), line


def test_without_a_reused_torch_the_pins_stand() -> None:
    assert effective_constraints(PINS, {}) == PINS


def test_a_reused_torch_and_triton_are_held_and_their_companions_left_alone() -> None:
    reused = {"torch": "2.14.0+cu130", "triton": "3.8.0", "numpy": "2.3.5", "jinja2": "3.1.4"}
    assert effective_constraints(PINS, reused).splitlines() == [
        "# why",
        "pandas==3.1.1",
        "sympy==1.14.0",  # not there: the pinned one is installed
        "torch==2.14.0+cu130",
        "triton==3.8.0",
    ]


def test_a_reused_torch_without_triton_gets_the_one_it_was_built_against() -> None:
    lines = effective_constraints(PINS, {"torch": "2.14.0", "numpy": "2.4.6"}).splitlines()
    assert "triton==3.8.*" in lines
    assert "triton==3.7.1" not in lines


def test_triton_36_gets_a_numpy_its_interpreter_works_with() -> None:
    lines = effective_constraints(PINS, {"torch": "2.11.0+cu128", "triton": "3.6.0", "numpy": "2.4.1"}).splitlines()
    assert [line for line in lines if line.startswith("numpy")] == ["numpy<2.4"]


def test_a_numpy_below_the_floor_is_replaced_by_the_pinned_one() -> None:
    lines = effective_constraints(PINS, {"torch": "2.13.0", "triton": "3.7.1", "numpy": "1.24.4"}).splitlines()
    assert "numpy==2.4.6" in lines
