"""Runs GEMMs through Triton's interpreter, in a process of its own: Triton chooses it while it is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import gemmkernels
from gemmkernels.backend import Config
from gemmkernels.problem import Problem


def interpret(backend: str, cases: Mapping[str, tuple[Problem, Config | None]]) -> dict[str, dict]:
    """For each named case its `error`, the `bound` it must keep, and the `refusal` of `supports`, or None."""
    lines = [
        json.dumps({"backend": backend, "problem": asdict(problem), "config": dict(config) if config else None})
        for problem, config in cases.values()
    ]
    source = Path(gemmkernels.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("interpreted_gemm.py")],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(source)},
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, map(json.loads, done.stdout.splitlines()), strict=True))
