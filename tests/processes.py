"""Processes that a test started: what became of them, and waiting for it however busy the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path


def wait_for(happened: Callable[[], bool]) -> None:
    """Until something has happened, however busy the machine."""
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline, "it has not happened in two minutes"
        time.sleep(0.005)


def children(pid: int) -> list[int]:
    """Processes that this one started; none where it has ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def is_stopped(pid: int) -> bool:
    """Whether a process stands still, as after SIGSTOP."""
    return _state(pid) == "T"


def is_gone(pid: int) -> bool:
    """Whether a process has ended, if nobody has yet collected it."""
    return _state(pid) in ("", "Z", "X")


def _state(pid: int) -> str:
    """Its letter in /proc; empty where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
