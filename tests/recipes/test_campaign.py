"""The campaign's recipe, rehearsed on a simulated GPU: every row leaves its file, and a second call goes on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flopwatt

CAMPAIGN = Path(__file__).parents[2] / "bench" / "recipes" / "campaign.sh"
ROWS = ("sensor", "inputs", "peak", "repeat", "pages")


def campaign(folder: Path, *rows: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", CAMPAIGN, folder, *rows],
        env={**os.environ, "FLOPWATT": f"{sys.executable} -m flopwatt", "SIMULATE": "h100"},
        capture_output=True,
        check=False,
        text=True,
    )


def test_an_unknown_row_is_refused(tmp_path: Path) -> None:
    done = campaign(tmp_path, "everything")
    assert done.returncode == 2
    assert "no row 'everything'" in done.stderr


@pytest.mark.slow
def test_every_row_leaves_a_sound_file_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    done = campaign(tmp_path, *ROWS)
    assert done.returncode == 0
    ends = dict(re.findall(r"^(\S+) +exit +(\d+)", done.stdout, re.MULTILINE))
    assert {name: code for name, code in ends.items() if code not in ("0", "3")} == {}
    assert {name for name, code in ends.items() if name.endswith(".check") and code == "0"} == {
        f"{name}.check" for name in ("inputs", "peak", "peak-fp16", "peak-tf32", "peak-fp8", "repeat")
    }
    assert len(flopwatt.load(tmp_path / "inputs.jsonl")) == 6
    assert len(flopwatt.load(tmp_path / "repeat.jsonl")) == 5
    assert (tmp_path / "report.html").stat().st_size > 100_000

    before = len(flopwatt.load(tmp_path / "peak-fp8.jsonl"))
    campaign(tmp_path, "peak")
    assert len(flopwatt.load(tmp_path / "peak-fp8.jsonl")) > before
