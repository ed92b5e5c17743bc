"""`flopwatt fleet`: simulated GPUs through real processes, on the Ray that the command starts for itself."""

from __future__ import annotations

import json
import signal
import sys
import time
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "fleet"))

import msgspec
import pytest
from fleet_runs import account as waiting

from flopwatt.analysis.report.fleet import account_cells
from flopwatt.commands.fleet import _exit_code
from flopwatt.measurement.simulation.loading import shipped
from flopwatt.runs import account
from flopwatt_process import flopwatt, start

# Not by importing it: Ray reads its token at import, and other tests of this process have one of their own.
pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the `fleet` extra")

ONE = ("--shape", "4096x4096x4096", "--processes", "1")
ODD = """
[[boards.odd]]
number = 2
power_limit_w = 500
"""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four A100s and four H100s, of which one has a lower limit, measured by the command."""
    folder = tmp_path_factory.mktemp("fleet")
    (folder / "odd.toml").write_text(shipped()["h100"].replace('name = "h100"', 'name = "odd"') + ODD)
    words = ("--simulate", "a100", "--simulate", folder / "odd.toml", "--gpus", "1x4", "-o", folder / "out")
    done = flopwatt("fleet", "run", *words, *ONE, timeout=280)
    assert done.returncode == 0, done.stderr
    (folder / "stdout").write_text(done.stdout)
    (folder / "stderr").write_text(done.stderr)
    return folder


def test_a_run_accounts_for_every_gpu_and_shows_the_spread(fleet: Path) -> None:
    out, err = (fleet / "stdout").read_text(), (fleet / "stderr").read_text()
    assert "8 GPUs on 2 node(s), one at a time on each node, 1 cases each" in err
    assert err.count("done, 1 of 1 cases") == 8
    assert "8 GPUs: 8 done" in out
    assert "A100-SXM4-80GB (simulated), 4 boards" in out
    assert "low power limit: 500 W, the others 700 W" in out
    gpus = account.load(fleet / "out").gpus
    assert [gpu.became for gpu in gpus] == ["done"] * 8
    assert len(list((fleet / "out").glob("*.jsonl"))) == 8
    for gpu in gpus:
        assert f"node{gpu.node:03d}-gpu{gpu.gpu}-{gpu.board_id}.jsonl" in str(gpu.file)
        assert str(gpu.board_id) in out


def test_the_report_names_outliers_and_compares_types_over_boards(fleet: Path, tmp_path: Path) -> None:
    done = flopwatt("fleet", "report", fleet / "out", "-o", tmp_path / "fleet.html", "--png", tmp_path / "png")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "fleet.html").read_text()
    assert "<h2" in page
    for words in (
        "SIMULATED: no figure of A100-SXM4-80GB, H100-SXM5-80GB on this page was measured on a real GPU.",
        "4 × A100-SXM4-80GB, 4 × H100-SXM5-80GB: boards of one type side by side",
        "low power limit: 500 W, the others 700 W",
        "Boards are the sample: 4 of A100-SXM4-80GB, 4 of H100-SXM5-80GB",
        "8 GPUs: 8 done. One GPU at a time was measured on each node.",
    ):
        assert words in page
    assert sorted(path.name for path in (tmp_path / "png").iterdir()) == [
        "speed-by-watts.png", "spread-power-w.png", "spread-tflops-per-w.png", "spread-tflops.png",
    ]  # fmt: skip
    refused = flopwatt("fleet", "report", tmp_path)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "no run file (*.jsonl) in it" in refused.stderr
    assert "nowhere is no folder" in flopwatt("fleet", "report", tmp_path / "nowhere").stderr


def test_compare_takes_folders_and_types(fleet: Path) -> None:
    words = ("--base-gpu", "A100", "--new-gpu", "H100", "--metric", "tflops", "--format", "json")
    done = flopwatt("compare", fleet / "out", fleet / "out", *words)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["boards"] == [4, 4]
    (case,) = told["cases"]
    assert 2.3 < case["tflops_ratio"] < 3.0
    width = case["tflops_ratio_high"] - case["tflops_ratio_low"]
    assert width > 0.1, "a low limit on one board of four is in the interval"


def test_wrong_words_are_refused_before_anything_starts(tmp_path: Path) -> None:
    for words, why in (
        (("--gpus", "4"), "it goes with --simulate"),
        (("--simulate", "h100", "--gpus", "4y"), "write a number of GPUs, or nodes x GPUs such as 4x8"),
        (("--simulate", "h100", "--gpus", "0"), "give 1 to 100,000 GPUs"),
        (("--device", "cuda:1"), "give auto, cuda or cpu"),
        (("--dtype", "fp7"), "unknown dtype"),
        (("--resume", tmp_path, "--shape", "8x8x8"), "--resume takes its plan from the folder"),
        (("--resume", tmp_path / "nowhere"), "no account.json in it"),
        (("--address", "127.0.0.1:1"), "no Ray cluster answers at 127.0.0.1:1 (connection refused)"),
        (("--address", "127.0.0.1:99999"), "no Ray cluster answers at 127.0.0.1:99999"),
        (("--simulate", "h100", "--gpus", "2", "-o", Path(__file__).parent), "is not empty: choose another -o\n"),
    ):
        done = flopwatt("fleet", "run", *words, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert why in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_plan_of_simulated_gpus_needs_no_cluster(tmp_path: Path) -> None:
    words = ("--simulate", "h100", "--gpus", "2x3", *ONE, "--plan")
    done = flopwatt("fleet", "run", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    minutes = float(done.stdout.split("about ")[1].split()[0])
    assert done.stdout.startswith("1 cases, about ")
    together = flopwatt("fleet", "run", *words, "--together", cwd=tmp_path).stdout
    assert f"each of 6 GPUs on 2 node(s), all at once: about {minutes:.1f} minutes in all" in together
    ends = done.stdout.splitlines()[-1].split("about ")
    assert ends[0] == "each of 6 GPUs on 2 node(s), one at a time on each node: "
    assert float(ends[1].split()[0]) == pytest.approx(3 * minutes, abs=0.2)
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_every_case_is_skipped_says_no() -> None:
    def became(*skipped: int) -> account.Account:
        gpus = [account.Fate(accelerator="H100", node=0, gpu=gpu, became="done", measured=2, planned=2, skipped_cases=n)
                for gpu, n in enumerate(skipped)]  # fmt: skip
        return msgspec.structs.replace(waiting([]), gpus=tuple(gpus))

    assert [_exit_code(became(*skipped)) for skipped in ((2, 2), (2, 1), (0, 0))] == [1, 0, 0]
    assert account_cells(became(2).gpus[0])[5] == "2/2, 2 skipped"


@pytest.mark.slow
def test_stopped_by_a_signal_while_ray_starts_it_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    process = start("fleet", "run", "--simulate", "h100", "--gpus", "2", *ONE, "-o", "out", cwd=tmp_path)
    until = time.monotonic() + 60
    while time.monotonic() < until and "/ray/" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (130, "stopped by SIGTERM, while nothing was being measured\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_stopped_by_a_signal_it_accounts_for_every_gpu_and_goes_on_when_asked(tmp_path: Path) -> None:
    shapes = [word for m in range(1024, 1024 + 8 * 50, 8) for word in ("--shape", f"{m}x1024x1024")]
    out = tmp_path / "out"
    process = start("fleet", "run", "--simulate", "h100", "--gpus", "3x2", *shapes, "--processes", "1", "-o", out)
    until = time.monotonic() + 200
    while time.monotonic() < until and not any('"record"' in path.read_text() for path in out.glob("*.jsonl")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert f"continue with: flopwatt fleet run --resume {out}" in err
    gpus = account.load(out).gpus
    assert len(gpus) == 6
    assert {gpu.became for gpu in gpus} <= {"interrupted", "waiting", "done"}
    done = flopwatt("fleet", "run", "--resume", out, timeout=400)
    assert done.returncode == 0, done.stderr
    assert [(gpu.became, gpu.measured) for gpu in account.load(out).gpus] == [("done", 50)] * 6
    assert flopwatt("check", *out.glob("*.jsonl")).returncode == 0


@pytest.mark.slow
def test_a_cpu_is_a_node_too(tmp_path: Path) -> None:
    words = ("--device", "cpu", "--shape", "256x256x256", "--dtype", "fp32", "--effort", "fast", "--processes", "1")
    done = flopwatt("fleet", "run", *words, "--regime", "burst", "-o", tmp_path / "out", timeout=280)
    assert done.returncode == 0, done.stderr
    (gpu,) = account.load(tmp_path / "out").gpus
    assert (gpu.accelerator, gpu.became, gpu.file) == ("cpu", "done", "cpu-node000-gpu0.jsonl")
