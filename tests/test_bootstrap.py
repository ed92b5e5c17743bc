"""The set-up, run as `make` runs it, on machines made of small shell scripts that answer in Python's place."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Answers the questions the set-up asks of an interpreter, and makes an "environment" that answers in turn.
FAKE_PYTHON = """#!/bin/sh
PATH=/usr/bin:/bin
here='{folder}/{name}'
case "$1 $2" in
  *in_virtualenv*) cat "$here.facts" ;;
  *sees_gpu*) cat "$here.torch" ;;
  *venv*) for venv; do :; done
    echo "$@" > "$here.venv-arguments"
    mkdir -p "$venv/bin" "$venv/lib/python3.11/site-packages"
    if [ -e '{folder}/venv-hangs' ]; then touch '{folder}/venv-started'; sleep 60; fi
    cp '{folder}/venv-python' "$venv/bin/python" ;;
esac
"""
FAKE_VENV_PYTHON = """#!/bin/sh
PATH=/usr/bin:/bin
case "$1 $2" in
  *find_spec*) echo '{{"found": true}}' ;;
  *sees_gpu*) cat '{folder}/venv-torch' ;;
  *pip*) echo "$@" >> '{folder}/pip.log'
    if [ -e '{folder}/pip-hangs' ]; then touch '{folder}/pip-started'; sleep 60; fi
    exit $(cat '{folder}/pip-exit') ;;
esac
"""


@dataclass
class Machine:
    """A project folder and the folder that is all of its PATH."""

    project: Path
    folder: Path

    def add_python(
        self,
        name: str = "python3",
        version: tuple[int, int, int] = (3, 11, 9),
        packages: dict[str, str] | None = None,
        torch: dict[str, bool] | None = None,
        **facts: Any,
    ) -> None:
        defaults = {
            "executable": str(self.folder / name),
            "version": version,
            "prefix": f"/opt/{name}",
            "in_virtualenv": False,
            "has_venv": True,
            "site": [],
            "packages": packages or {},
        }
        (self.folder / f"{name}.facts").write_text(json.dumps({**defaults, **facts}))
        (self.folder / f"{name}.torch").write_text(json.dumps(torch) if torch else "")
        self.script(name, FAKE_PYTHON.format(folder=self.folder, name=name))

    def add_gpu(self, driver: str) -> None:
        self.script("nvidia-smi", f"#!/bin/sh\necho {driver}\n")

    def script(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o755)

    def command(self, extra: str) -> tuple[list[str], dict[str, str]]:
        environment = {"PATH": str(self.folder), "PYTHONPATH": str(self.project / "bench"), "LC_ALL": "C"}
        return [sys.executable, "-m", "bootstrap", extra], environment

    def set_up(self, extra: str = "measure", **variables: str) -> subprocess.CompletedProcess[str]:
        command, environment = self.command(extra)
        return subprocess.run(
            command, env=environment | variables, cwd=self.project, capture_output=True, text=True, check=False
        )

    def pip_calls(self) -> list[str]:
        log = self.folder / "pip.log"
        return log.read_text().splitlines() if log.exists() else []

    def constraints(self) -> list[str]:
        return (self.project / ".venv/constraints.txt").read_text().splitlines()

    def venv_arguments(self, name: str = "python3") -> str:
        return (self.folder / f"{name}.venv-arguments").read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    project, folder = tmp_path / "project", tmp_path / "bin"
    shutil.copytree(ROOT / "bench/bootstrap", project / "bench/bootstrap", ignore=shutil.ignore_patterns("__pycache__"))
    folder.mkdir()
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, project)
    made = Machine(project, folder)
    made.script("venv-python", FAKE_VENV_PYTHON.format(folder=folder))
    (folder / "venv-torch").write_text('{"sees_gpu": true, "works": true}')
    (folder / "pip-exit").write_text("0")
    return made


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


TORCH_212 = {"torch": "2.12.1+cu126", "triton": "3.7.1", "numpy": "2.3.5"}
SEES = {"sees_gpu": True, "works": True}
BLIND = {"sees_gpu": False, "works": True}


def test_only_python_310_is_one_line_with_the_remedy(machine: Machine) -> None:
    machine.add_python(version=(3, 10, 12))
    done = machine.set_up()
    assert done.returncode == 2
    assert "Python 3.11 or newer is needed" in only_line(done)
    assert "(3.10.12)" in only_line(done)
    assert "apt install python3.11 python3.11-venv" in only_line(done)
    assert not (machine.project / ".venv").exists()


def test_no_python_at_all_is_one_line(machine: Machine) -> None:
    assert "none was found" in only_line(machine.set_up())


def test_a_newer_python_beside_310_is_found(machine: Machine) -> None:
    machine.add_python(version=(3, 10, 12))
    machine.add_python("python3.12", version=(3, 12, 3))
    assert machine.set_up().returncode == 0
    assert machine.venv_arguments("python3.12").endswith(f"{machine.project}/.venv\n")


def test_no_venv_module_names_debians_package(machine: Machine) -> None:
    machine.add_python(has_venv=False)
    done = machine.set_up()
    assert done.returncode == 2
    assert "`apt install python3-venv`" in only_line(done)


def test_no_venv_module_of_a_versioned_python_names_that_package(machine: Machine) -> None:
    machine.add_python("python3.12", version=(3, 12, 3), has_venv=False)
    assert "`apt install python3.12-venv`" in only_line(machine.set_up())


def test_without_torch_everything_is_pinned(machine: Machine) -> None:
    machine.add_python()
    done = machine.set_up()
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "--system-site-packages" not in machine.venv_arguments()
    assert (machine.project / "constraints.txt").read_text() == "\n".join(machine.constraints()) + "\n"
    assert {"torch==2.13.0", "triton==3.7.1"} <= set(machine.constraints())
    assert machine.pip_calls() == [f"-m pip install -c {machine.project}/.venv/constraints.txt -e .[measure]"]


def test_a_system_torch_that_sees_the_gpu_is_reused(machine: Machine) -> None:
    machine.add_gpu("560.35.03")
    machine.add_python(packages=TORCH_212, torch=SEES)
    done = machine.set_up()
    assert "reusing torch 2.12.1+cu126" in only_line(done)
    assert "--system-site-packages" in machine.venv_arguments()
    pins = machine.constraints()
    assert "torch==2.12.1+cu126" in pins
    assert not [line for line in pins if line.startswith(("torch==2.13", "numpy"))]


def test_the_torch_of_another_python_on_path_is_found(machine: Machine) -> None:
    machine.add_gpu("580.65.06")
    machine.add_python()
    machine.add_python("python3.12", version=(3, 12, 3), packages=TORCH_212, torch=SEES)
    machine.set_up()
    assert "--system-site-packages" in machine.venv_arguments("python3.12")


def test_the_torch_of_an_active_virtual_environment_is_seen_through_its_site_packages(machine: Machine) -> None:
    machine.add_python(packages=TORCH_212, torch=BLIND, in_virtualenv=True, site=["/venv/lib/python3.11/site-packages"])
    machine.set_up()
    assert "--system-site-packages" not in machine.venv_arguments()
    listed = machine.project / ".venv/lib/python3.11/site-packages/reused-torch.pth"
    assert listed.read_text() == "/venv/lib/python3.11/site-packages\n"
    assert "torch==2.12.1+cu126" in machine.constraints()


@pytest.mark.parametrize(
    ("packages", "torch", "why"),
    [
        ({"torch": "2.9.1"}, SEES, "too old to reuse"),
        ({"torch": "2.11.0a0+nv26.2"}, SEES, "too old to reuse"),
        (TORCH_212, BLIND, "does not see the GPU"),
        (TORCH_212, None, "does not start"),
        (TORCH_212, {"sees_gpu": True, "works": False}, "does not start"),
    ],
)
def test_a_torch_that_will_not_do_is_named_and_not_reused(
    machine: Machine, packages: dict[str, str], torch: dict[str, bool] | None, why: str
) -> None:
    machine.add_gpu("580.65.06")
    machine.add_python(packages=packages, torch=torch)
    done = machine.set_up()
    assert why in done.stderr
    assert "--system-site-packages" not in machine.venv_arguments()
    assert "torch==2.13.0" in machine.constraints()


def test_a_torch_without_a_gpu_is_reused_where_there_is_no_gpu(machine: Machine) -> None:
    machine.add_python(packages=TORCH_212, torch=BLIND)
    machine.set_up()
    assert "--system-site-packages" in machine.venv_arguments()


def test_the_variable_python_decides_alone(machine: Machine) -> None:
    machine.add_python(packages=TORCH_212, torch=BLIND)
    machine.add_python("python3.13", version=(3, 13, 1))
    machine.set_up(PYTHON="python3.13")
    assert "torch==2.13.0" in machine.constraints()
    assert machine.venv_arguments("python3.13")


def test_a_variable_python_that_is_not_there_is_one_line(machine: Machine) -> None:
    machine.add_python()
    done = machine.set_up(PYTHON="python3.99")
    assert (done.returncode, "PYTHON=python3.99" in only_line(done)) == (2, True)


def test_an_untested_python_is_only_taken_where_there_is_no_other(machine: Machine) -> None:
    machine.add_python(version=(3, 15, 0))
    machine.add_python("python3.12", version=(3, 12, 3))
    machine.set_up()
    assert machine.venv_arguments("python3.12")


def test_a_driver_too_old_for_the_pinned_torch_is_said_before_and_after(machine: Machine) -> None:
    machine.add_gpu("550.54.15")
    machine.add_python()
    (machine.folder / "venv-torch").write_text(json.dumps(BLIND))
    before, _, after = machine.set_up().stderr.splitlines()
    assert "driver is 550.54.15" in before
    assert "needs 580 or newer" in before
    assert "install a torch 2.11 or newer built for this driver" in before
    assert "only the CPU can be measured" in after


def test_a_torch_installed_after_that_warning_is_taken_up_by_the_next_run(machine: Machine) -> None:
    machine.add_gpu("550.54.15")
    machine.add_python()
    (machine.folder / "venv-torch").write_text(json.dumps(BLIND))
    machine.set_up()
    machine.set_up()
    assert len(machine.pip_calls()) == 1
    machine.add_python(packages=TORCH_212, torch=SEES)
    (machine.folder / "venv-torch").write_text(json.dumps(SEES))
    # The environment's own torch stays blind until it is made anew.
    (machine.project / ".venv/bin/python").write_text(
        FAKE_VENV_PYTHON.format(folder=machine.folder).replace("venv-torch", "python3.blind")
    )
    (machine.folder / "python3.blind").write_text(json.dumps(BLIND))
    assert "reusing torch 2.12.1+cu126" in machine.set_up().stderr
    assert len(machine.pip_calls()) == 2
    assert machine.set_up().stderr == ""


def test_the_second_time_nothing_happens(machine: Machine) -> None:
    machine.add_python()
    machine.set_up()
    done = machine.set_up()
    assert (done.returncode, done.stderr, len(machine.pip_calls())) == (0, "", 1)


def test_dev_holds_measure_and_is_added_in_place(machine: Machine) -> None:
    machine.add_python()
    machine.set_up("measure")
    (machine.project / ".venv/kept").touch()
    machine.set_up("dev")
    machine.set_up("measure")
    assert [call.rpartition(" ")[2] for call in machine.pip_calls()] == [".[measure]", ".[dev]"]
    assert (machine.project / ".venv/kept").exists()


def test_changed_inputs_install_again_what_was_installed(machine: Machine) -> None:
    machine.add_python()
    machine.set_up("dev")
    with (machine.project / "constraints.txt").open("a") as pins:
        pins.write("six==1.17.0\n")
    machine.set_up("measure")
    assert [call.rpartition(" ")[2] for call in machine.pip_calls()] == [".[dev]", ".[dev]"]
    assert "six==1.17.0" in machine.constraints()


def test_a_failed_installation_is_started_over(machine: Machine) -> None:
    machine.add_python()
    (machine.folder / "pip-exit").write_text("1")
    done = machine.set_up()
    assert done.returncode == 2
    assert "pip failed" in done.stderr.splitlines()[-1]
    (machine.project / ".venv/half-installed").touch()
    (machine.folder / "pip-exit").write_text("0")
    assert machine.set_up().returncode == 0
    assert not (machine.project / ".venv/half-installed").exists()
    assert machine.set_up().stderr == ""


@pytest.mark.parametrize(("step", "pip_calls"), [("venv", 1), ("pip", 2)])
def test_a_killed_set_up_is_started_over(machine: Machine, step: str, pip_calls: int) -> None:
    machine.add_python()
    (machine.folder / f"{step}-hangs").touch()
    command, environment = machine.command("measure")
    with subprocess.Popen(
        command, env=environment, cwd=machine.project, stderr=subprocess.DEVNULL, start_new_session=True
    ) as process:
        deadline = time.monotonic() + 30
        while not (machine.folder / f"{step}-started").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
    (machine.folder / f"{step}-hangs").unlink()
    (machine.project / ".venv/half-installed").touch()
    assert machine.set_up().returncode == 0
    assert len(machine.pip_calls()) == pip_calls
    assert not (machine.project / ".venv/half-installed").exists()


def test_a_vanished_interpreter_below_is_replaced(machine: Machine) -> None:
    machine.add_python()
    machine.set_up()
    (machine.project / ".venv/bin/python").unlink()
    assert machine.set_up().returncode == 0
    assert len(machine.pip_calls()) == 2


def test_somebody_elses_environment_is_left_alone(machine: Machine) -> None:
    machine.add_python()
    theirs = machine.project / ".venv/pyvenv.cfg"
    theirs.parent.mkdir()
    theirs.touch()
    for words in ("measure", "remove"):
        done = machine.set_up(words)
        assert (done.returncode, "was not made by this script" in only_line(done)) == (2, True)
    assert theirs.exists()
    assert machine.set_up(VENV="other").returncode == 0


def test_remove_takes_the_environment_away(machine: Machine) -> None:
    machine.add_python()
    machine.set_up()
    assert machine.set_up("remove").returncode == 0
    assert sorted(path.name for path in machine.project.iterdir()) == ["bench", "constraints.txt", "pyproject.toml"]


def test_pip_is_shielded_from_the_callers_settings(machine: Machine) -> None:
    machine.add_python()
    machine.script("venv-python", FAKE_VENV_PYTHON.format(folder=machine.folder).replace('"$@" >>', "$(env) >>"))
    machine.set_up(PIP_CONSTRAINT="/etc/pip/constraint.txt", PIP_TARGET="/elsewhere", PIP_USER="1")
    (seen,) = machine.pip_calls()
    assert f"PIP_CONSTRAINT={machine.project}/.venv/constraints.txt" in seen
    assert "PIP_TARGET" not in seen
    assert "PYTHONPATH" not in seen
    assert "PIP_USER=0" in seen
