"""What became of every GPU of a fleet run: one JSON file beside its run files, written at its start and at its end.

It names no host: a GPU is its type, the number of its node, its number there, and the hash of its UUID.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from flopwatt.errors import RunFileError
from flopwatt.runs.frozen import Frozen
from flopwatt.runs.growing_file import sync_folder
from flopwatt.runs.plan import Plan
from flopwatt.runs.records import Planned, Policy, SuiteFact
from flopwatt.text import plain, shortened

FILE: Final = "account.json"
SCHEMA: Final = 1
"""History: 1 (2026-11) the first."""

Mode: TypeAlias = Literal["alone", "together"]
"""One GPU at a time on each node, or all at once."""

Became: TypeAlias = Literal["waiting", "done", "budget", "failed", "interrupted", "lost", "refused"]
"""`waiting`: its turn never came; `failed`: measuring stopped early; `lost`: its node or process died; `refused`: it
never began."""


_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]


class Fate(Frozen, frozen=True, kw_only=True):
    """One GPU and what became of it. measured, planned: cases in its file, in its plan."""

    accelerator: str
    node: _Count
    gpu: _Count
    became: Became = "waiting"
    reason: str = ""
    board_id: str | None = None
    file: str | None = None
    measured: _Count = 0
    planned: _Count = 0
    failed_cases: _Count = 0
    skipped_cases: _Count = 0

    @property
    def place(self) -> str:
        """Where it is, in words."""
        return f"{self.accelerator}, node {self.node}, GPU {self.gpu}"


class SharedPlan(Frozen, frozen=True, kw_only=True):
    """The plan that every GPU is given, for devices whose format of choice is `dtype`."""

    dtype: str
    cases: tuple[Planned, ...]
    suites: tuple[SuiteFact, ...]

    def plan(self, policy: Policy) -> Plan:
        """The same as a single GPU's plan."""
        return Plan(self.cases, self.suites, policy.processes)


class Account(Frozen, frozen=True, kw_only=True):
    """A fleet run: what was asked for, and its GPUs."""

    schema: int = SCHEMA
    created: str
    mode: Mode
    policy: Policy
    plans: Annotated[tuple[SharedPlan, ...], msgspec.Meta(min_length=1)]
    scenarios: tuple[str, ...] = ()
    simulated: tuple[_Count, _Count] | None = None
    gpus: tuple[Fate, ...] = ()


class _Versioned(msgspec.Struct):
    schema: int = SCHEMA


def save(folder: Path, account: Account) -> None:
    """Writes the account into its folder, whole or not at all. Raises RunFileError."""
    path = folder / FILE
    part = folder / f".{FILE}.{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(account), indent=1))
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        sync_folder(path)
    except OSError as error:
        raise RunFileError(f"{path}: {plain(error)}: the run files beside it are whole") from None
    finally:
        part.unlink(missing_ok=True)


def run_files(folder: Path) -> list[Path]:
    """The run files of a folder, by name. Raises RunFileError where it holds none."""
    if not folder.is_dir():
        raise RunFileError(f"{folder} is no folder: give one of run files")
    found = sorted(path for path in folder.glob("*.jsonl") if path.is_file())
    if not found:
        raise RunFileError(f"{folder}: no run file (*.jsonl) in it: give a run file, or a folder of them")
    return found


def load(folder: Path) -> Account:
    """The account of a fleet run's folder. Raises RunFileError."""
    path = folder / FILE
    try:
        data = path.read_bytes()
        newer = msgspec.json.decode(data, type=_Versioned).schema
        if newer > SCHEMA:
            raise RunFileError(f"{path}: schema {newer} is newer than this flopwatt's {SCHEMA}: upgrade flopwatt")
        return msgspec.json.decode(data, type=Account)
    except FileNotFoundError:
        raise RunFileError(f"{folder}: no {FILE} in it: give a folder that `flopwatt fleet run` made") from None
    except OSError as error:
        raise RunFileError(f"{path}: {plain(error)}: give a folder that `flopwatt fleet run` made") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunFileError(f"{path}: not a fleet's account ({shortened(str(error))}): restore it") from None
