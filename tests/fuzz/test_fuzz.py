"""A short run of the fuzzing that `make fuzz` does at length, and proof that it finds what it looks for."""

from __future__ import annotations

import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import mutators
import pytest
from judging import judge
from readers import READERS

HERE = Path(__file__).parent
INPUTS_MOST = 64

atheris = pytest.mark.skipif(
    find_spec("atheris") is None, reason="Atheris has wheels for x86-64 and CPython up to 3.13"
)


@pytest.mark.parametrize("name", READERS)
def test_no_input_breaks_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The seeds, and what the mutators alone make of them, judged as `make fuzz` judges; warnings are errors here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    reader, chance = READERS[name], random.Random(name)
    path = tmp_path / f"input{reader.suffix}"
    seeds = list(reader.seeds())
    path.write_bytes(seeds[0])
    reader.read(path)  # refused, it would be no valid input to start from
    for seed in seeds:
        judge(reader, path, seed)
    mutator = reader.mutator or mutators.any_bytes
    for _ in range(min(INPUTS_MOST, 8 * reader.weight)):
        data = chance.choice(seeds)
        for _ in range(chance.randrange(1, 4)):
            change = mutator if chance.random() < 0.8 else mutators.any_bytes
            data = change(data, chance) or data
        judge(reader, path, data)


@atheris
def test_the_driver_counts_its_inputs_and_keeps_nothing_of_good_ones(tmp_path: Path) -> None:
    command = [sys.executable, HERE / "fuzz.py", "--found", tmp_path / "found", "--inputs", "500", "scenario"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "500 inputs" in done.stdout
    assert not (tmp_path / "found").exists()


BROKEN = {
    "raises": "raise ValueError",
    "hangs": "import time; time.sleep(60)",
    "takes long": "sum(range(3 * 10**7))",
    "warns": "import warnings; warnings.warn('odd')",
    "leaves the page": "import tame_page; tame_page.assert_tame('<p><img src=x onerror=alert(1)></p>')",
    "starts a process": "import subprocess; subprocess.run(['true'])",
    "writes elsewhere": "open('elsewhere', 'w')",
    "eats memory": "kept = bytearray(2 * 10**9); kept[::4096] = bytes(len(kept[::4096]))",
    "shows an escape sequence": "judging.assert_plain(chr(27) + '[31m')",
}


@atheris
@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_reader_is_found(tmp_path: Path, how: str) -> None:
    """The same driver on a reader that breaks its word as soon as an input holds an x."""
    program = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import fuzz, judging, readers
from pathlib import Path

def read(path):
    if b"x" in path.read_bytes():
        {BROKEN[how]}

fuzz.TIMEOUT_S, judging.SLOWEST_S = 2, 0.1
readers.READERS["broken"] = judging.Reader(read, lambda: [b"abc"], words=("x",))
found = Path({str(tmp_path)!r})
(found / "own").mkdir()
fuzz.fuzz_one("broken", 100_000, found, found / "own")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    (found,) = tmp_path.glob("broken-*")
    assert b"x" in found.read_bytes()
