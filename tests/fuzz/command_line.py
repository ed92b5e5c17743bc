"""Words of the command line, through the very function that the program starts with."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import seeds
from judging import Finding, assert_plain, nothing_of_ours

SOUND, CALIBRATION, TABLE = "sound.jsonl", "sound.json", "table.csv"
COMMANDS = (
    ("run", "--plan"), ("show",), ("check",), ("run", "--plan", "--simulate", "h100"), ("compare",),
    ("predict", CALIBRATION), ("report",), ("import",), ("calibrate",), ("suites",),
    ("run", "--plan", "--resume", SOUND),
)  # fmt: skip


class NoWorker:
    """Stands in for the measuring process, of which a plan only wants to know the machine."""

    def __init__(self, *_: object) -> None:
        self.hello = SimpleNamespace(environment=seeds.segment().environment)

    def close(self) -> None:
        """Nothing to end."""

    kill = close


def command_line(path: Path) -> None:
    """Words, one a line, after a command that the first byte chooses; none that names another folder.

    Raises Finding where the exit code is none of the documented ones, a complaint is not one line, or a fault shows.
    """
    from flopwatt.commands import run

    data = path.read_bytes()
    if not data:
        return
    words = [os.fsdecode(word) for word in data[1:].split(b"\n") if b"\0" not in word and b"/" not in word]
    words = ["flopwatt", *COMMANDS[data[0] % len(COMMANDS)], *words]
    with contextlib.chdir(_furnished(path.parent)), mock.patch.object(run, "start", NoWorker):
        code, said, complaints = _called(words)
    assert_plain(said + complaints)
    if code not in (0, 1, 2, 3):
        raise Finding(f"exit code {code}")
    if "fault in flopwatt" in complaints or "Traceback" in complaints:
        raise Finding(complaints)
    if code == 2 and complaints.count("\n") != 1:
        raise Finding(f"not one line: {complaints!r}")


def _called(words: list[str]) -> tuple[object, str, str]:
    """Exit code, and what went to standard output and error."""
    from flopwatt.cli import main

    said, complaints = io.StringIO(), io.StringIO()
    code: object = "none: the program did not exit"
    argv = mock.patch.object(sys, "argv", words)
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaints), nothing_of_ours(), argv:
        try:
            main()
        except SystemExit as stop:
            code = stop.code
    return code, said.getvalue(), complaints.getvalue()


def _furnished(folder: Path) -> Path:
    """The folder to stand in, with one sound file of each kind for words to name."""
    room = folder / "room"
    if not room.exists():
        room.mkdir()
        (room / SOUND).write_bytes(seeds.run_files()[0])
        (room / CALIBRATION).write_bytes(seeds.calibrations()[0])
        (room / TABLE).write_bytes(seeds.TIDY)
    return room
