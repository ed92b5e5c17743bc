"""Where runs meet the world: suites that overlap, text that looks like markup, pipes, nohup, containers, resumption."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flopwatt.analysis.headline import headlines
from flopwatt.measurement.simulation.loading import shipped
from flopwatt.runs.store import read
from flopwatt.runs.tidy import load
from flopwatt_process import COMMAND, ENVIRONMENT, flopwatt, start
from simulated_runs import LONG, WORDS, wait_for_records

SIMULATED = ("run", "--simulate", "h100")

GEMM = '[[gemm]]\nm = {m}\nn = 1024\nk = 1024\nrole = "{role}"\ncount = {count}\n'


def suite(path: Path, *gemms: tuple[int, str, int], tokens: int = 100) -> Path:
    path.write_text(
        f"tokens = {tokens}\n" + "".join(GEMM.format(m=m, role=role, count=count) for m, role, count in gemms)
    )
    return path


def test_equal_gemms_of_a_suite_add_up(tmp_path: Path) -> None:
    doubled = suite(tmp_path / "doubled.toml", (1024, "x", 2), (1024, "x", 3), (2048, "y", 1))
    path = tmp_path / "run.jsonl"
    assert flopwatt(*SIMULATED, "--suite", doubled, "--processes", "1", "-o", path).returncode == 0
    table = load(path).set_index("m")["count"].to_dict()
    assert table == {1024: 5, 2048: 1}
    (headline,) = headlines([read(path)])
    assert headline.flop == 5 * 2 * 1024**3 + 2 * 2048 * 1024**2
    assert headline.coverage == 1.0


def test_one_gemm_in_two_roles_is_measured_once_and_shown_twice(tmp_path: Path) -> None:
    shared = suite(tmp_path / "shared.toml", (1024, "x", 2), (1024, "y", 3))
    path = tmp_path / "run.jsonl"
    flopwatt(*SIMULATED, "--suite", shared, "--processes", "1", "-o", path)
    assert len(read(path).records) == 1
    assert load(path).set_index("role")["count"].to_dict() == {"x": 2, "y": 3}


def test_two_suites_of_one_name_are_refused_and_one_named_twice_is_not(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = suite(tmp_path / "mine.toml", (1024, "x", 2))
    two = suite(tmp_path / "other" / "mine.toml", (2048, "x", 2))
    done = flopwatt(*SIMULATED, "--suite", one, "--suite", two)
    assert done.returncode == 2
    assert "two different suites are called 'mine'" in done.stderr
    path = tmp_path / "run.jsonl"
    assert flopwatt(*SIMULATED, "--suite", one, "--suite", one, "--processes", "1", "-o", path).returncode == 0
    assert load(path)["count"].tolist() == [2]


def test_a_suite_of_mixed_formats_has_one_headline(tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.toml"
    mixed.write_text(
        "tokens = 10\n"
        + GEMM.format(m=1024, role="a", count=1)
        + GEMM.format(m=1024, role="b", count=1)
        + 'dtype = "fp16"\n'
    )
    path = tmp_path / "run.jsonl"
    flopwatt(*SIMULATED, "--suite", mixed, "--processes", "1", "-o", path)
    (headline,) = headlines([read(path)])
    assert headline.dtype == "bf16+fp16"
    assert headline.flop == 2 * 2 * 1024**3


def test_several_formats_of_a_suite_have_a_headline_each(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    flopwatt(*SIMULATED, "--suite", "quick", "--dtype", "bf16", "--dtype", "fp16", "-o", path)
    found = headlines([read(path)])
    assert sorted(headline.dtype for headline in found) == ["bf16", "fp16"]
    assert all(headline.gap is not None and headline.coverage == 1.0 for headline in found)


def test_text_that_looks_like_markup_is_text(tmp_path: Path) -> None:
    odd = suite(tmp_path / "odd.toml", (1024, "[/x][bold]", 2))
    path = tmp_path / "run[red].jsonl"
    done = flopwatt(*SIMULATED, "--suite", odd, "--processes", "1", "-o", path)
    assert done.returncode == 0, done.stderr
    assert "[/x][bold]" in done.stdout
    assert str(path) in done.stdout
    assert "[/x][bold]" in flopwatt(*SIMULATED, "--suite", odd, "--plan").stdout


def test_a_run_in_which_everything_was_skipped_is_a_no(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    done = flopwatt("run", "--simulate", "a100", "--shape", "1024x1024x1024", "--dtype", "fp8_e4m3", "-o", path)
    assert done.returncode == 1
    assert set(load(path)["status"]) == {"skipped"}
    assert "capability 8.9" in done.stdout


def test_a_reader_that_stops_listening_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    flopwatt(*SIMULATED, "--suite", "llama-3.1-8b", "-o", path)
    for words in (["show", str(path), "--format", "csv"], ["show", str(path)]):
        process = subprocess.Popen(
            [*COMMAND, *words], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) in (0, 1)
        process.stderr.close()


def test_a_lost_connection_does_not_stop_a_nohup_run(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    process = subprocess.Popen(
        ["nohup", *COMMAND, *WORDS, "-o", str(path)],
        env=ENVIRONMENT,
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_records(path, 1)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 0
    end = read(path).end
    assert end is not None
    assert end.reason == "done"


def test_it_runs_as_the_first_process_of_a_container(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("making a process namespace needs root and unshare")
    path = tmp_path / "run.jsonl"
    words = ["unshare", "-p", "-f", "--mount-proc", *COMMAND, *SIMULATED, "--shape", "1024x1024x1024", "-o", str(path)]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if "unshare" in done.stderr:
        pytest.skip(f"no process namespace can be made here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    assert set(load(path)["status"]) == {"ok"}


def test_resume_takes_no_other_plan_and_can_show_its_own(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    flopwatt(*SIMULATED, "--suite", "quick", "--budget", "40s", "-o", path)
    before = path.read_bytes()
    refused = flopwatt("run", "--simulate", "h100", "--resume", path, "--suite", "peak")
    assert refused.returncode == 2
    assert "takes its plan from the file" in refused.stderr
    shown = flopwatt("run", "--simulate", "h100", "--resume", path, "--plan")
    assert shown.returncode == 0
    left = 13 - len(read(path).records)
    assert f"{left} cases, about" in shown.stdout
    assert path.read_bytes() == before
    assert "ended by budget" in flopwatt("show", path).stdout


def test_a_killed_run_says_so_when_shown(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    process = start(*LONG, "-o", path)
    wait_for_records(path, 1)
    process.kill()
    process.communicate()
    assert "continue with --resume" in flopwatt("show", path).stdout
    assert flopwatt("check", path).returncode == 1


def test_a_simulated_run_is_called_so_by_default(tmp_path: Path) -> None:
    done = flopwatt(*SIMULATED, "--suite", "quick", cwd=tmp_path)
    (written,) = tmp_path.iterdir()
    assert written.name.startswith("simulated-h100")
    assert "(simulated)" in done.stdout


def test_zeros_say_so_in_the_headline(tmp_path: Path) -> None:
    done = flopwatt(*SIMULATED, "--suite", "quick", "--inputs", "zeros", "-o", tmp_path / "run.jsonl")
    assert "on zeros inputs" in done.stdout


def test_a_folder_that_may_be_written_but_not_read(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every folder")
    folder = tmp_path / "blind"
    folder.mkdir(mode=0o300)
    assert flopwatt(*SIMULATED, "--shape", "1024x1024x1024", "-o", folder / "run.jsonl").returncode == 0


def test_a_name_too_long_is_one_line(tmp_path: Path) -> None:
    done = flopwatt(*SIMULATED, "-o", tmp_path / ("x" * 300))
    assert done.returncode == 2
    assert "choose another -o" in done.stderr


def test_a_pipe_is_no_run_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    done = flopwatt("show", tmp_path / "pipe", timeout=20)
    assert done.returncode == 2
    assert "not a regular file" in done.stderr


def test_a_kernels_words_lose_their_paths() -> None:
    from flopwatt.text import without_paths

    said = "cc -I/home/alice/x/y failed: '/home/alice/.venv/Python.h' not found, see docs/cc.md or http://x/y"
    assert without_paths(said) == "cc -I…/y failed: '…/Python.h' not found, see docs/cc.md or http://x/y"


def test_no_words_show_the_help() -> None:
    done = subprocess.run([sys.executable, "-m", "flopwatt"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage: flopwatt" in done.stdout


def test_a_process_that_comes_in_the_middle_is_seen_and_costs_the_watts(tmp_path: Path) -> None:
    scenario = tmp_path / "joined.toml"
    scenario.write_text(shipped()["h100"] + "\n[faults.second_process]\nshare = 0.3\nextra_w = 60\nfrom_s = 9\n")
    path = tmp_path / "run.jsonl"
    words = ("--suite", "quick", "-o", path)
    done = flopwatt("run", "--simulate", scenario, *words)
    table = load(path)
    assert table["energy_status"].tolist()[0] == "ok"
    assert table["energy_status"].tolist()[-1] == "refused"
    assert table["power_w"].isna().tolist()[-1]
    assert "measured beside another process" in done.stdout
