"""A fake NVML for this folder's tests. Other folders: put tests/ on the path likewise and use `fake_nvml.build`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1]))

from fake_nvml import build


@dataclass
class FakeGpu:
    """A scenario in force: its environment, its log of calls, and the t = 0 of its power and counter."""

    variables: dict[str, str]
    log: Path
    origin_ns: int

    def run(self, code: str) -> Any:
        return build.run(f"import json\n{code}\nprint(json.dumps(answer))", self.variables)

    def calls(self) -> list[str]:
        return self.log.read_text().split()


@pytest.fixture(scope="session")
def nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    built: dict[tuple[str, ...], Path] = {}

    def library(*without: str) -> Path:
        if without not in built:
            built[without] = build.build(tmp_path_factory.mktemp("nvml"), without)
        return built[without]

    return library


@pytest.fixture
def fake_gpu(
    nvml_library: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., FakeGpu]]:
    """Puts a scenario in force for every process started from here on."""

    def make(without: tuple[str, ...] = (), **changes: object) -> FakeGpu:
        origin_ns = time.monotonic_ns()
        scenario = build.write_scenario(tmp_path / "scenario.txt", origin_ns=origin_ns, **changes)
        variables = build.environment(nvml_library(*without), scenario, tmp_path / "calls.log")
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return FakeGpu(variables, tmp_path / "calls.log", origin_ns)

    yield make
    log = tmp_path / "calls.log"
    if log.exists():
        assert not set(log.read_text().split()) & set(build.setters()), "a call that changes the GPU was made"
