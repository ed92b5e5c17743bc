"""Other people's cost models, run in the environment that `make test-slow` makes for them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PYTHON = Path(sys.prefix).with_name(Path(sys.prefix).name + "-consumers") / "bin" / "python"


def run(*words: str | Path, timeout: float = 240) -> str:
    """What `python WORDS` prints there. Skips without it, except in continuous integration, which has to have it."""
    if not PYTHON.exists():
        assert os.environ.get("CI") != "true", f"{PYTHON} is missing: make test-slow makes it"
        pytest.skip("the cost models are not installed: make test-slow installs them")
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONWARNINGS")}
    done = subprocess.run(
        [str(PYTHON), *map(str, words)],
        env={**environment, "MPLBACKEND": "agg"}, capture_output=True, text=True, timeout=timeout, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def answer(script: str, *words: str | Path) -> object:
    """The JSON that a script prints last."""
    return json.loads(run("-c", script, *words).strip().splitlines()[-1])
