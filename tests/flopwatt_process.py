"""The program as a user starts it: a process, its exit code and its two streams."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

COMMAND = [sys.executable, "-m", "flopwatt"]
ENVIRONMENT = {**os.environ, "PYTHONWARNINGS": "error", "NO_COLOR": "1"}
NOTHING: Mapping[str, str] = {}


def flopwatt(
    *words: str | Path, cwd: Path | None = None, timeout: float = 120, variables: Mapping[str, str] = NOTHING
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env={**ENVIRONMENT, **variables},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def sources(*first: Path) -> dict[str, str]:
    """PYTHONPATH as this process sees it, with folders in front: of a `sitecustomize`, of backends."""
    return {"PYTHONPATH": os.pathsep.join([*map(str, first), *filter(None, sys.path)])}


def start(*words: str | Path, cwd: Path | None = None, variables: Mapping[str, str] = NOTHING) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, words)],
        cwd=cwd,
        env={**ENVIRONMENT, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
