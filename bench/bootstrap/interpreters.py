"""Which Python to build on: the one whose torch can be reused, else the first that is new enough."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bootstrap.versions import MIN_PYTHON, MIN_VERSIONS, TESTED_PYTHONS, at_least

# Reads metadata only: importing torch costs seconds, and only a candidate deserves them. Any Python can run it.
INTERPRETER_PROBE = """
import json, sys
facts = {"executable": sys.executable, "version": list(sys.version_info[:3]), "prefix": sys.prefix,
         "in_virtualenv": sys.prefix != getattr(sys, "base_prefix", sys.prefix),
         "has_venv": False, "site": [], "packages": {}}
if sys.version_info >= (3, 11):
    import importlib.util, re
    from importlib import metadata
    facts["has_venv"] = all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
    facts["site"] = [p for p in sys.path if p.endswith(("site-packages", "dist-packages"))]
    pending = ["triton", "numpy", "torch"]
    while pending:
        name = pending.pop(0)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        if name not in facts["packages"] and "torch" in [name, *facts["packages"]]:
            needs = [re.match("[A-Za-z0-9._-]+", r).group(0) for r in found.requires or [] if "extra ==" not in r]
            pending += [re.sub("[-_.]+", "-", need).lower() for need in needs]
        facts["packages"][name] = found.version
print(json.dumps(facts))
"""

TORCH_PROBE = """
import json, torch
works = float((torch.ones(2, 2) @ torch.ones(2, 2)).sum()) == 8.0
print(json.dumps({"sees_gpu": torch.cuda.is_available(), "works": works}))
"""


class Stop(Exception):
    """Nothing can be built here; the message is one line that names the remedy."""


@dataclass(frozen=True)
class Interpreter:
    """A Python on this machine. packages: distribution → version of triton, numpy, torch and what torch needs."""

    executable: str
    version: tuple[int, ...]
    prefix: str
    in_virtualenv: bool
    has_venv: bool
    site: list[str]
    packages: dict[str, str]

    def __str__(self) -> str:
        return f"{self.executable} ({'.'.join(map(str, self.version))})"

    @property
    def venv_package(self) -> str:
        """Debian's package with the venv module: python3-venv for its own Python, a versioned one for others."""
        name = Path(self.executable).name
        return f"{name}-venv" if name.startswith("python3.") else "python3-venv"


@dataclass(frozen=True)
class Base:
    """What `.venv` is built on. reused: the packages of a torch that stays where it is, empty when none is reused."""

    interpreter: Interpreter
    reused: dict[str, str] = field(default_factory=dict)


def say(message: str) -> None:
    """One line on stderr: stdout belongs to flopwatt."""
    print(f"flopwatt set-up: {message}", file=sys.stderr, flush=True)


def clean_environment() -> dict[str, str]:
    """The caller's environment without what makes Python or pip look, or install, outside `.venv`."""
    banned = ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_PREFIX")
    kept = {name: value for name, value in os.environ.items() if name not in banned}
    return {**kept, "PIP_USER": "0", "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def ask(executable: str | Path, code: str, timeout_s: float) -> dict[str, Any] | None:
    """The JSON object that `code` prints last under `executable`, or None if it does not get that far."""
    # Hidden GPUs are still there: CUDA_VISIBLE_DEVICES must not decide which torch is installed.
    environment = {name: value for name, value in clean_environment().items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [str(executable), "-c", code]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False, cwd="/"
        )
        answer = json.loads(done.stdout.strip().splitlines()[-1])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None
    return answer if isinstance(answer, dict) else None


def gpu_driver() -> str | None:
    """The NVIDIA driver's version, or None where `nvidia-smi` finds no GPU."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0].strip() if done.returncode == 0 and lines and lines[0][:1].isdigit() else None


def interpreter_paths(override: str | None) -> list[str]:
    """Every Python worth asking: the one PYTHON names alone, else all on PATH, an active environment's first."""
    if override:
        found = shutil.which(override)
        if found is None:
            raise Stop(f"PYTHON={override} is no executable: name a Python 3.11 or newer, as in PYTHON=python3.12")
        return [found]
    names = ["python3", "python", *(f"python3.{minor}" for _, minor in reversed(TESTED_PYTHONS))]
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    found_paths = [shutil.which(name, path=folder) for name in names for folder in folders if folder]
    return list(dict.fromkeys(path for path in found_paths if path))


def find_interpreters(override: str | None, venv: Path) -> list[Interpreter]:
    """The Pythons that answer, each once and without `venv` itself; those flopwatt is tested with come first."""
    found: dict[str, Interpreter] = {}
    for path in interpreter_paths(override):
        facts = ask(path, INTERPRETER_PROBE, timeout_s=60)
        if facts is None or Path(facts["prefix"]).resolve() == venv.resolve():
            continue
        interpreter = Interpreter(**{**facts, "version": tuple(facts["version"])})
        # One installation often answers to several names; the first on PATH speaks for it.
        found.setdefault(interpreter.prefix + str(interpreter.version), interpreter)
    return sorted(found.values(), key=lambda python: python.version[:2] not in TESTED_PYTHONS)


def has_usable_torch(python: Interpreter, driver: str | None) -> bool:
    """Whether its torch is new enough and sees the GPU; where there is no NVIDIA GPU, whether it computes."""
    version = python.packages.get("torch")
    if version is None:
        return False
    if not at_least(version, MIN_VERSIONS["torch"]):
        say(f"{python} has torch {version}: too old to reuse, 2.11 is the oldest that flopwatt works with")
        return False
    answer = ask(python.executable, TORCH_PROBE, timeout_s=180)
    if answer is None or not answer["works"]:
        say(f"{python} has torch {version}, which does not start: not reused")
        return False
    if driver is not None and not answer["sees_gpu"]:
        say(f"{python} has torch {version}, which does not see the GPU: not reused")
        return False
    return True


def choose_base(override: str | None, venv: Path, driver: str | None) -> Base:
    """The Python whose torch is reused, else the first that is new enough. Raises Stop where there is none."""
    interpreters = find_interpreters(override, venv)
    fit = [python for python in interpreters if python.version >= MIN_PYTHON]
    if not fit:
        have = "here is only " + ", ".join(map(str, interpreters)) if interpreters else "none was found"
        raise Stop(
            f"Python 3.11 or newer is needed and {have}: install one (`apt install python3.11 python3.11-venv`, or "
            "conda, uv or pyenv) and put it on PATH, or name it: make PYTHON=/path/to/python3.11 ..."
        )
    ready = [python for python in fit if python.has_venv]
    if not ready:
        raise Stop(f"{fit[0]} lacks the venv module: `apt install {fit[0].venv_package}`, then the same command again")
    for python in ready:
        if has_usable_torch(python, driver):
            return Base(python, reused=python.packages)
    for python in fit:
        if python not in ready and "torch" in python.packages:
            say(f"to reuse the torch of {python}: `apt install {python.venv_package}`, `make clean`, then again")
    return Base(ready[0])
