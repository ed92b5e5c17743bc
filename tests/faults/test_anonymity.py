"""Run files tell neither where nor by whom nor on which board they were measured, whatever went into them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from anonymity import USER, assert_anonymous

from flopwatt.runs.store import read
from flopwatt.text import anonymous
from flopwatt_process import flopwatt, sources

SUITE = """
tokens = 10
[[gemm]]
m = 1024
n = 1024
k = 1024
role = "mlp"
"""

CONFIG = {
    "model_type": "llama",
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 2048,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A user's folder, deep in which everything lies."""
    folder = tmp_path / USER / "secret project"
    folder.mkdir(parents=True)
    return folder


def test_a_run_of_suites_models_and_scenarios_given_by_path(home: Path) -> None:
    (home / "suite.toml").write_text(SUITE)
    (home / "llama").mkdir()
    (home / "llama" / "config.json").write_text(json.dumps(CONFIG))
    words = ["--suite", home / "suite.toml", "--model", home / "llama" / "config.json", "--seq", "1024"]
    path = home / "run.jsonl"
    variables = {"USER": USER, "HOME": str(home.parent)}
    done = flopwatt("run", "--simulate", "h100", *words, "--effort", "fast", "-o", path, variables=variables)
    assert done.returncode == 0, done.stderr
    assert {suite.name for suite in read(path).header.suites} == {"suite", "llama"}
    assert_anonymous(path, "secret project", str(home))


def test_an_import_by_path(home: Path) -> None:
    (home / "table.csv").write_text(
        "m,n,k,dtype,layout,backend,time_s\n4096,4096,4096,bf16,nt,cublas,0.0002\n2048,4096,4096,bf16,nt,cublas,0.0001\n"
    )
    path = home / "imported.jsonl"
    words = ("import", "csv", home / "table.csv", "--gpu", "NVIDIA H100 80GB HBM3", "-o", path)
    done = flopwatt(*words, variables={"USER": USER, "HOME": str(home.parent)})
    assert done.returncode == 0, done.stderr
    assert len(read(path).records) == 2
    assert_anonymous(path, "secret project", str(home))


SAID = {
    "cc -I/home/alice/x/y failed, see docs/cc.md or http://x/y": "cc -I…/y failed, see docs/cc.md or http://x/y",
    "open '/home/alice/My Project/x y.cu'": "open '…/x y.cu'",
    "is a directory: '/home/alice'": "is a directory: '…'",
    "cannot import name 'x' from 'torch' (/opt/alice/torch/__init__.py)": (
        "cannot import name 'x' from 'torch' (…/__init__.py)"
    ),
    "GPU-00000000-1111-2222-3333-444444444440 is lost": "… is lost",
    "MIG-00000000-1111-2222-3333-444444444440 is lost": "… is lost",
    "no CPU package under /sys/class/powercap: 8 TFLOPS/W": "no CPU package under /sys/class/powercap: 8 TFLOPS/W",
}


@pytest.mark.parametrize("text", SAID)
def test_words_lose_what_tells_a_person_or_a_machine(text: str) -> None:
    assert anonymous(text) == SAID[text]


def test_words_lose_this_user_and_this_machine() -> None:
    said = f"{USER} of host: not un{USER}s"
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from flopwatt.text import anonymous; print(anonymous(sys.argv[1]))", said],
        env={**os.environ, "USER": USER, **sources()},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == f"… of host: not un{USER}s"
