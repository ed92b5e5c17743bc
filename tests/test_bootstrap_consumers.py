"""The environment of the cost models: made once, again when its pins change, never left looking finished."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootstrap import consumers
from bootstrap.environment import read_marker
from bootstrap.interpreters import Stop


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that were run in place of a real Python: a dev environment whose packages lie in `site`."""
    commands: list[list[str]] = []
    site = tmp_path / "dev-consumers" / "site"

    def run(command: list[str], complaint: str) -> None:
        commands.append(command)
        site.mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(consumers, "_run", run)
    monkeypatch.setattr(consumers, "ask", lambda *_, **__: {"site": str(site)})
    return commands


def test_it_is_made_over_the_dev_environment_with_the_pins_alone(made: list[list[str]], tmp_path: Path) -> None:
    consumers.build_consumers(tmp_path / "dev")
    making, installing = made
    assert making[:3] == [str(tmp_path / "dev" / "bin" / "python"), "-m", "venv"]
    assert installing[1:] == ["-m", "pip", "install", "--quiet", "--no-deps", "-r", str(consumers.PINS)]
    assert "addsitedir" in (tmp_path / "dev-consumers" / "site" / "dev.pth").read_text()
    assert read_marker(tmp_path / "dev-consumers")["state"] == "ready"


def test_it_is_made_again_only_when_its_pins_change(
    made: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumers.build_consumers(tmp_path / "dev")
    consumers.build_consumers(tmp_path / "dev")
    assert len(made) == 2
    pins = tmp_path / "pins.txt"
    pins.write_text("genz-llm==9\n")
    monkeypatch.setattr(consumers, "PINS", pins)
    consumers.build_consumers(tmp_path / "dev")
    assert len(made) == 4


def test_a_failed_install_is_no_environment(
    made: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(command: list[str], complaint: str) -> None:
        if "pip" in command:
            raise Stop(complaint)
        (tmp_path / "dev-consumers" / "site").mkdir()

    monkeypatch.setattr(consumers, "_run", fails)
    with pytest.raises(Stop, match="pip failed"):
        consumers.build_consumers(tmp_path / "dev")
    assert read_marker(tmp_path / "dev-consumers") == {"state": "installing"}


def test_a_folder_that_is_somebody_elses_is_left_alone(made: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / "dev-consumers").mkdir()
    (tmp_path / "dev-consumers" / "mine").write_text("mine")
    with pytest.raises(Stop, match="not made by this script"):
        consumers.build_consumers(tmp_path / "dev")
    assert made == []


def test_without_a_dev_environment_it_says_how_to_make_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumers, "ask", lambda *_, **__: None)
    with pytest.raises(Stop, match="`make test` makes it"):
        consumers.build_consumers(tmp_path / "dev")


def test_every_pin_is_exact() -> None:
    lines = [line for line in consumers.PINS.read_text().splitlines() if not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines)
    assert {line.split("==")[0] for line in lines} >= {"aiconfigurator", "genz-llm", "llm-analysis"}
    assert not any(line.startswith(("torch", "triton", "transformers", "numpy")) for line in lines)
