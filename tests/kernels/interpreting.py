"""Runs GEMMs through Triton's interpreter, in a process of its own: Triton chooses it while it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import gemmkernels
from gemmkernels.backend import Config
from gemmkernels.problem import LAYOUTS, Problem

Case = tuple[Problem, Config | None]
"""A problem and a configuration, None for the backend's default."""


def ragged(shape: tuple[int, int, int], dtypes: Sequence[str], config: Config) -> dict[str, Case]:
    """One problem that no tile divides, in each format and layout."""
    return {
        f"ragged {dtype} {layout}": (Problem(*shape, dtype=dtype, layout=layout), config)
        for dtype in dtypes
        for layout in LAYOUTS
    }


class Interpreter:
    """One interpreting process, which answers case after case until it is closed."""

    def __init__(self) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("interpreted_gemm.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(gemmkernels.__file__).parents[1])},
        )

    def run(self, backend: str, case: Case) -> dict:
        """A case's `error`, the `bound` it must keep, and the `refusal` of `supports`, or None."""
        problem, config = case
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {"backend": backend, "problem": asdict(problem), "config": dict(config) if config else None}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            raise AssertionError(f"the interpreter died over {problem} {config}:\n{self._errors.read()}")
        return json.loads(answer)

    def close(self) -> None:
        self._process.communicate(timeout=60)
        self._errors.close()


@dataclass(frozen=True)
class Interpreted:
    """A backend's results of named cases, each computed when first asked for."""

    interpreter: Interpreter
    backend: str
    cases: Mapping[str, Case]
    found: dict[str, dict]

    def __getitem__(self, name: str) -> dict:
        if name not in self.found:
            self.found[name] = self.interpreter.run(self.backend, self.cases[name])
        return self.found[name]
