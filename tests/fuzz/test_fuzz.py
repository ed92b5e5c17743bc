"""A short run of the fuzzing that `make fuzz` does at length, and proof that it finds what it looks for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="Atheris has wheels for x86-64 and CPython up to 3.13 only")

import readers

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", readers.READERS)
def test_no_input_breaks_a_reader(tmp_path: Path, name: str) -> None:
    inputs = 100 * readers.READERS[name].weight
    command = [sys.executable, HERE / "fuzz.py", "--found", tmp_path / "found", "--inputs", str(inputs), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert f"{inputs} inputs" in done.stdout
    assert not (tmp_path / "found").exists()


BROKEN = {
    "raises": "raise ValueError",
    "hangs": "import time; time.sleep(60)",
    "starts a process": "import subprocess; subprocess.run(['true'])",
    "writes elsewhere": "open('elsewhere', 'w')",
    "eats memory": "kept = bytearray(2 * 10**9); kept[::4096] = bytes(len(kept[::4096]))",
    "shows an escape sequence": "readers.assert_plain(chr(27) + '[31m')",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_reader_is_found(tmp_path: Path, how: str) -> None:
    """The same driver on a reader that breaks its word as soon as an input holds an x."""
    program = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import fuzz, readers
from pathlib import Path

def read(path):
    if b"x" in path.read_bytes():
        {BROKEN[how]}

fuzz.TIMEOUT_S = 1
readers.READERS["broken"] = readers.Reader(read, lambda: [b"abc"], words=("x",))
fuzz.fuzz_one("broken", 100_000, Path({str(tmp_path)!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode != 0
    (found,) = tmp_path.glob("broken-*")
    assert b"x" in found.read_bytes()
