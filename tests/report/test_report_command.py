"""`flopwatt report` as a user starts it: files, exit codes, one clear line for what cannot be."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from flopwatt.commands.report import report
from flopwatt.errors import InputError
from flopwatt_process import ENVIRONMENT, flopwatt


@pytest.fixture(scope="module")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "h100.jsonl"
    done = flopwatt(
        "run", "--simulate", "h100", "--shape", "4096x4096x4096", "--shape", "8192x8192x8192", "--seed", "1", "-o", path
    )
    assert done.returncode == 0, done.stderr
    return path


def test_page_and_figures(run_file: Path, tmp_path: Path) -> None:
    done = flopwatt("report", run_file, "-o", "out.html", "--png", "figures", "--price", "H100=2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 cases" in done.stdout
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert len(page) < 6e6
    assert "SIMULATED" in page
    assert "at $2.00 an hour" in page
    image = (tmp_path / "figures" / "roofline.png").read_bytes()
    assert image.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", image[16:24])
    assert width > 1000
    assert height > 500
    assert sorted(path.stem for path in (tmp_path / "figures").iterdir()) == [
        "efficiency", "per-watt", "roofline", "trace-1", "trace-2",
    ]  # fmt: skip
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")], "no part is left behind"
    again = flopwatt("report", run_file, "-o", "out.html", cwd=tmp_path)
    assert again.returncode == 0, "an earlier page is replaced"


def refused(files: Path, output: Path, png: Path | None = None, price: tuple[str, ...] = ()) -> str:
    with pytest.raises(InputError) as error:
        report([files], output, png, price, Console(quiet=True))
    return str(error.value)


def test_a_run_file_is_never_overwritten(run_file: Path) -> None:
    before = run_file.read_bytes()
    assert "is not a report: choose another name" in refused(run_file, run_file)
    assert run_file.read_bytes() == before


def test_what_cannot_be_names_the_remedy(run_file: Path, tmp_path: Path) -> None:
    out, taken = tmp_path / "out.html", tmp_path / "taken"
    taken.write_text("a file")
    assert "no such GPU in these files, which hold H100-SXM5-80GB" in refused(run_file, out, price=("B200=3",))
    assert "write GPU=USD_PER_HOUR" in refused(run_file, out, price=("H100",))
    assert "no such file or directory: choose another" in refused(run_file, tmp_path / "nowhere" / "out.html")
    assert "is a folder" in refused(run_file, tmp_path)
    assert "choose another --png" in refused(run_file, out, png=taken)
    empty = tmp_path / "empty.jsonl"
    empty.write_bytes(run_file.read_bytes().split(b"\n")[0] + b"\n")
    assert "no record in these files" in refused(empty, out)
    assert not out.exists()


def test_without_vl_convert_the_remedy_is_named(run_file: Path, tmp_path: Path) -> None:
    (tmp_path / "vl_convert.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join(filter(None, (str(tmp_path), ENVIRONMENT.get("PYTHONPATH"))))
    done = subprocess.run(
        [sys.executable, "-m", "flopwatt", "report", run_file, "-o", tmp_path / "out.html"],
        env={**ENVIRONMENT, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == "flopwatt: a report needs vl-convert-python: pip install vl-convert-python\n"
    assert not (tmp_path / "out.html").exists()
