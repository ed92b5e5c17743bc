"""The recipes that launch a fleet run, tested as far as they can be without a cloud."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

import pytest

from flopwatt.runs import account

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "bench" / "recipes"
SCRIPTS = sorted(RECIPES.glob("*.sh"))
TASKS = sorted(RECIPES.glob("sky-*.yaml"))
SKYPILOT = "skypilot==0.14.1"
BASH = shutil.which("bash") or "/bin/bash"


def run(
    *words: str | Path, cwd: Path = ROOT, path: Sequence[Path] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    """A recipe with these folders of stand-ins before everything else on PATH."""
    bins = [*map(str, path), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(bins), "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=500
    )


def stand_in(folder: Path, name: str, script: str) -> None:
    """A command that does this in place of the real one."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!{BASH}\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_shell(script: Path) -> None:
    assert run("bash", "-n", script).stderr == ""
    checked = run("shellcheck", "--severity=style", script)
    assert (checked.returncode, checked.stdout) == (0, "")
    assert os.access(script, os.X_OK)


@pytest.mark.parametrize("task", TASKS, ids=lambda path: path.name)
def test_the_shell_inside_tasks_is_sound(task: Path) -> None:
    import yaml

    config = yaml.safe_load(task.read_text())
    for part in ("setup", "run"):
        checked = subprocess.run(
            ["shellcheck", "--shell=bash", "-"], input=config[part], capture_output=True, text=True, check=False,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert (checked.returncode, checked.stdout) == (0, ""), part
    assert "bench/recipes/node.sh" in config["run"]
    assert set(config["envs"]) == {"FLEET"}


def test_recipes_name_no_registry_and_no_machine() -> None:
    for path in RECIPES.iterdir():
        text = path.read_text().replace("nvidia.com/gpu", "")  # what containers call the device
        assert not re.findall(r"https?://\S+|\b[\w-]+\.(?:com|org|io|net)\b|/(?:home|root)/", text), path.name


@pytest.mark.slow
def test_skypilots_own_parser_takes_the_tasks(tmp_path: Path) -> None:
    """In an environment of its own: SkyPilot wants older packages than flopwatt is tested with."""
    venv.create(tmp_path / "sky", with_pip=True)
    python = tmp_path / "sky" / "bin" / "python"
    installed = run(python, "-m", "pip", "install", "-q", SKYPILOT)
    if installed.returncode:
        pytest.skip(f"{SKYPILOT} cannot be installed here: {installed.stderr.strip().splitlines()[-1]}")
    code = (
        "import sys, sky\n"
        "for path in sys.argv[1:]:\n"
        "    task = sky.Task.from_yaml(path)\n"
        "    (resources,) = task.resources\n"
        "    print(task.name, dict(resources.accelerators), task.num_nodes, task.envs)\n"
    )
    parsed = run(python, "-c", code, *TASKS, HOME=str(tmp_path))
    assert parsed.stdout.splitlines() == [
        "flopwatt-a100 {'A100-80GB': 8} 1 {'FLEET': '--suite quick'}",
        "flopwatt-h100 {'H100': 8} 1 {'FLEET': '--suite quick'}",
    ], parsed.stderr


@pytest.mark.slow
def test_two_nodes_by_hand_measure_every_gpu_of_both(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the `fleet` extra")
    node, port = RECIPES / "node.sh", "7391"
    second = subprocess.Popen(
        ["bash", node, "1", "2", "127.0.0.1"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "PORT": port, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
             "RAY_AUTH_TOKEN": "f" * 64,
             "RAY_WORDS": '--num-gpus=1 --num-cpus=1 --resources={"accelerator_type:A100":1}'},
    )  # fmt: skip
    try:
        done = run(
            "bash", node, "0", "2", "127.0.0.1", "--simulate", "h100", "--simulate", "a100",
            "--shape", "4096x4096x4096", "--processes", "1", "-o", tmp_path / "out", cwd=tmp_path, PORT=port,
            RAY_AUTH_TOKEN="f" * 64, RAY_WORDS='--num-gpus=2 --num-cpus=1 --resources={"accelerator_type:H100":1}',
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        second.wait(120)
    finally:
        second.kill()
    gpus = account.load(tmp_path / "out").gpus
    assert sorted((gpu.accelerator, gpu.became) for gpu in gpus) == [
        ("A100", "done"),
        ("H100", "done"),
        ("H100", "done"),
    ]


@pytest.mark.slow
def test_the_slurm_job_starts_a_node_a_task_and_leaves_the_files_where_it_was_submitted(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the `fleet` extra")
    (tmp_path / "bench").symlink_to(ROOT / "bench")
    bins = tmp_path / "bin"
    stand_in(bins, "scontrol", 'echo "$*" >>calls; echo gpu01; echo gpu02')
    # Words with a hyphen are srun's own; of the two tasks that it would start, the first.
    stand_in(bins, "srun", 'while [ "${1#-}" != "$1" ]; do echo "$1" >>calls; shift; done; SLURM_PROCID=0 exec "$@"')
    stand_in(bins, "hostname", "echo 127.0.0.1 10.0.0.7")
    words = "--simulate h100 --gpus 2 --shape 4096x4096x4096 --processes 1"
    variables = {"SLURM_SUBMIT_DIR": str(tmp_path), "SLURM_JOB_NODELIST": "gpu[01-02]", "SLURM_NNODES": "1",
                 "PORT": "7392", "FLEET": words}  # fmt: skip
    done = run("bash", RECIPES / "slurm.sh", cwd=tmp_path, path=[bins], **variables)
    assert done.returncode == 0, done.stderr
    assert [gpu.became for gpu in account.load(tmp_path / "fleet-slurm").gpus] == ["done", "done"]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert "show hostnames gpu[01-02]" in calls
    assert "--nodelist=gpu01" in calls
    again = run("bash", RECIPES / "slurm.sh", cwd=tmp_path, path=[bins], **variables)
    assert again.returncode == 0, again.stderr
    assert "done, 1 of 1 cases" in again.stderr, "the same job once more goes on where it ended"


def test_over_ssh_the_committed_tree_goes_there_and_the_run_files_come_home(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is no committed tree")
    bins, there = tmp_path / "bin", tmp_path / "there"
    there.mkdir()
    stand_in(bins, "ssh", f'echo "$1" >{tmp_path}/host; cd {there} && exec bash -c "$2"')
    stand_in(bins, "make", 'echo "$1" >../made; echo noise; mkdir -p .venv/bin; cp ../fleet .venv/bin/flopwatt')
    stand_in(
        there, "fleet", 'printf "%s\n" "$@" >../words; mkdir out; echo measured >out/h100.jsonl; echo noise; exit 3'
    )
    odd = "a b;$(touch pwned)'\"*"
    done = run("bash", RECIPES / "ssh.sh", "gpu-box", tmp_path / "home", "--model", odd, path=[bins])
    assert done.returncode == 3, "the exit code is that of the run"
    assert (tmp_path / "host").read_text() == "gpu-box\n"
    assert (there / "made").read_text() == "setup-fleet\n"
    assert (there / "words").read_text().splitlines() == ["fleet", "run", "--model", odd, "-o", "out"]
    assert (there / "flopwatt" / "Makefile").exists()
    assert (tmp_path / "home" / "h100.jsonl").read_text() == "measured\n"
    assert done.stdout == "", "what the run prints goes to standard error"
    again = run("bash", RECIPES / "ssh.sh", "gpu-box", tmp_path / "home", path=[bins])
    assert again.returncode == 3
    assert (there / "words").read_text().splitlines() == ["fleet", "run", "-o", "out"]
    (kept,) = (there / "flopwatt").glob("out-*")
    assert (kept / "h100.jsonl").exists(), "what an earlier run measured is moved aside"


def test_skypilot_launches_fetches_and_gives_the_machine_back(tmp_path: Path) -> None:
    bins, calls = tmp_path / "bin", tmp_path / "calls"
    stand_in(bins, "sky", f'echo "sky $1 ${{*: -1}}" >>{calls}; [ "$1" != launch ] || exit 100')
    (tmp_path / "sky_workdir" / "out").mkdir(parents=True)
    (tmp_path / "sky_workdir" / "out" / "h100.jsonl").write_text("measured\n")
    stand_in(bins, "ssh", f'echo "ssh $1" >>{calls}; cd {tmp_path} && exec bash -c "$2"')
    done = run("bash", RECIPES / "sky.sh", "h100", tmp_path / "home", path=[bins])
    assert (tmp_path / "home" / "h100.jsonl").read_text() == "measured\n"
    assert "the run failed; fetching what there is" in done.stderr
    launched, *rest = calls.read_text().splitlines()
    assert launched.startswith("sky launch")
    assert launched.endswith("bench/recipes/sky-h100.yaml")
    assert rest == ["ssh flopwatt-h100", "sky down flopwatt-h100"]


def test_the_container_copies_what_there_is_and_runs_words_that_are_understood(tmp_path: Path) -> None:
    lines = re.sub(r"\\\n", " ", (RECIPES / "Containerfile").read_text()).splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    assert [word for word, _ in steps] == ["FROM", "WORKDIR", *["COPY"] * 3, "RUN", "ENTRYPOINT", "CMD"]
    for word, rest in steps:
        if word == "COPY":
            assert all((ROOT / source).exists() for source in rest.split()[:-1]), rest
    entry, words = (eval(rest) for _, rest in steps[-2:])
    told = run(sys.executable, "-m", *entry, *words[:-1], tmp_path / "no" / "such", "--gpus", "2")
    assert (told.returncode, told.stderr) == (2, "flopwatt: --gpus counts simulated GPUs: it goes with --simulate\n")
