"""The environment itself: made once, brought up to date when its inputs change, never left looking finished."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from bootstrap.interpreters import TORCH_PROBE, Base, Stop, ask, choose_base, clean_environment, gpu_driver, say
from bootstrap.versions import PINNED_TORCH_CUDA, PINNED_TORCH_DRIVER, at_least, effective_constraints

ROOT = Path(__file__).resolve().parents[2]
MARKER = "flopwatt-env.json"
OWN_TORCH = (
    "install a torch 2.11 or newer built for this driver (pytorch.org gives the command) with any Python on PATH; "
    "`make run` then reuses it"
)

PIP_FAILED = "pip failed, its words are above: free disk space or mend the network, then the same command again"


def build(extra: str, venv: Path, override: str | None) -> None:
    """Brings `venv` to where `extra` is installed from the current inputs.

    extra: `measure`, `measure,fleet` or `dev`, which holds both. override: the interpreter to build on. Raises Stop.
    """
    noted = read_marker(venv)
    if not noted and venv.exists() and any(venv.iterdir()):
        raise Stop(f"{venv} was not made by this script, which leaves it alone: move it, or name another with VENV=...")
    whole = noted.get("state") == "ready" and has_torch(venv)
    if whole and noted["gpu_unseen"]:
        whole = not a_better_torch_appeared(venv, noted, override)
    if not whole:
        start_over(extra, venv, override)
    elif noted["inputs"] != inputs_digest() or noted["extra"] not in (extra, "dev"):
        install("dev" if noted["extra"] == "dev" else extra, venv, noted["reused"])


def start_over(extra: str, venv: Path, override: str | None) -> None:
    """Replaces `venv` with a fresh one on the best Python here."""
    driver = gpu_driver()
    base = choose_base(override, venv, driver)
    if not base.reused and driver is not None and not at_least(driver, PINNED_TORCH_DRIVER):
        say(
            f"WARNING: the NVIDIA driver is {driver}; the pinned torch is built for CUDA {PINNED_TORCH_CUDA}, needs "
            f"{PINNED_TORCH_DRIVER[0]} or newer, and will not see the GPU. Better stop now (Ctrl-C) and {OWN_TORCH}"
        )
    kind = f"reusing torch {base.reused['torch']} of" if base.reused else "pinned versions on"
    say(f"making {venv}: {kind} {base.interpreter}")
    create(base, venv)
    install(extra, venv, base.reused)


def create(base: Base, venv: Path) -> None:
    """An empty environment on `base`, with sight of the packages of a reused torch."""
    python = base.interpreter
    remove(venv)
    venv.mkdir(parents=True)
    write_marker(venv, state="installing")
    # Made from a virtual environment, --system-site-packages would show the packages of the Python below it.
    flags = ["--system-site-packages"] if base.reused and not python.in_virtualenv else []
    command = [python.executable, "-m", "venv", *flags, "--prompt", "flopwatt", str(venv)]
    done = subprocess.run(command, env=clean_environment(), stdout=sys.stderr, check=False)
    if done.returncode != 0:
        remove(venv)
        raise Stop(f"{python} could not make {venv}: `apt install {python.venv_package}`, then the same command again")
    if base.reused and python.in_virtualenv:
        site = venv / "lib" / "python{}.{}".format(*python.version) / "site-packages"
        (site / "reused-torch.pth").write_text("".join(f"{path}\n" for path in python.site))


def install(extra: str, venv: Path, reused: dict[str, str]) -> None:
    """Installs flopwatt, editable, with `extra` and the pinned versions. Raises Stop when pip fails."""
    write_marker(venv, state="installing")
    constraints = venv / "constraints.txt"
    constraints.write_text(effective_constraints((ROOT / "constraints.txt").read_text(), reused))
    # These pin the build backend too: the second is for pip 25.3 and newer, the first for older ones.
    pins = {"PIP_CONSTRAINT": str(constraints), "PIP_BUILD_CONSTRAINT": str(constraints)}
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "-c", str(constraints), "-e", f".[{extra}]"]
    done = subprocess.run(command, cwd=ROOT, env={**clean_environment(), **pins}, stdout=sys.stderr, check=False)
    if done.returncode != 0:
        raise Stop(PIP_FAILED)
    driver = gpu_driver()
    gpu_unseen = driver is not None and not sees_gpu(venv)
    if gpu_unseen:
        say(gpu_unseen_line(driver))
    write_marker(venv, state="ready", inputs=inputs_digest(), extra=extra, reused=reused, gpu_unseen=gpu_unseen)


def a_better_torch_appeared(venv: Path, noted: dict[str, Any], override: str | None) -> bool:
    """Whether a torch that sees the GPU has been installed beside an environment whose own does not."""
    driver = gpu_driver()
    if driver is None or sees_gpu(venv):
        write_marker(venv, **{**noted, "gpu_unseen": False})
        return False
    if choose_base(override, venv, driver).reused:
        return True
    say(gpu_unseen_line(driver))
    return False


def gpu_unseen_line(driver: str | None) -> str:
    """What to do about a torch that does not see the GPU that `nvidia-smi` shows."""
    return (
        f"the installed torch does not see the GPU (driver {driver}), so that only the CPU can be measured: {OWN_TORCH}"
    )


def sees_gpu(venv: Path) -> bool:
    """Whether the torch in `venv` finds the GPU."""
    answer = ask(venv / "bin" / "python", TORCH_PROBE, timeout_s=180)
    return bool(answer and answer["sees_gpu"])


def has_torch(venv: Path) -> bool:
    """Whether `venv` still starts and finds a torch: the Python below it, or the torch it reuses, may be gone."""
    code = "import importlib.util, json; print(json.dumps({'found': importlib.util.find_spec('torch') is not None}))"
    answer = ask(venv / "bin" / "python", code, timeout_s=60)
    return bool(answer and answer["found"])


def inputs_digest() -> str:
    """A hash of everything that decides what is installed."""
    inputs = [ROOT / "pyproject.toml", ROOT / "constraints.txt", *sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in inputs)).hexdigest()


def read_marker(venv: Path) -> dict[str, Any]:
    """What this script noted about `venv`; empty when it did not make it."""
    try:
        noted = json.loads((venv / MARKER).read_text())
    except (OSError, ValueError):
        return {}
    return noted if isinstance(noted, dict) else {}


def write_marker(venv: Path, **noted: object) -> None:
    """Replaces the note in one step."""
    new = venv / f"{MARKER}.new"
    new.write_text(json.dumps(noted, indent=1))
    new.replace(venv / MARKER)


def remove(venv: Path) -> None:
    """Deletes `venv`, if this script made it. Cut off half-way, it leaves nothing that looks like an environment."""
    if not venv.exists():
        return
    if any(venv.iterdir()) and not read_marker(venv):
        raise Stop(f"{venv} was not made by this script: remove it by hand if it should go")
    doomed = venv.with_name(f"{venv.name}-removed")
    shutil.rmtree(doomed, ignore_errors=True)
    venv.replace(doomed)
    shutil.rmtree(doomed)
