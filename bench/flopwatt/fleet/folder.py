"""The folder of a fleet run: a run file a board, and the account of all."""

from __future__ import annotations

import os
import resource
from collections import Counter
from pathlib import Path

from msgspec.structs import replace

from flopwatt.errors import InputError
from flopwatt.fleet.agent import Done, Greeting
from flopwatt.fleet.slots import Slot
from flopwatt.measurement.session import device_words, header, resumed, same_board, slug
from flopwatt.runs import account as accounts
from flopwatt.runs.account import Account, Fate
from flopwatt.runs.store import RunFile, RunWriter, read
from flopwatt.text import plain


class Folder:
    """Opens run files by board. Use `create` or `reopen`."""

    def __init__(self, path: Path, account: Account) -> None:
        self.path = path
        self.account = account
        self.known: dict[str, Done] = {}
        self._files: dict[str, Path] = {}
        # Each GPU at work holds a file open, besides Ray's own sockets.
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    @staticmethod
    def check(path: Path) -> None:
        """Raises InputError where `path` holds something, or cannot become a folder to write in. Creates nothing."""
        try:
            used = path.exists() and any(path.iterdir())
            there = next(one for one in (path, *path.absolute().parents) if one.exists())
        except OSError as error:
            raise InputError(f"{path}: {plain(error)}: choose another -o") from None
        if used:
            continued = f", or continue it with --resume {path}" if (path / accounts.FILE).exists() else ""
            raise InputError(f"{path} is not empty: choose another -o{continued}")
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise InputError(f"{path}: nothing can be written in {there}: choose another -o")

    @classmethod
    def create(cls, path: Path, account: Account) -> Folder:
        """A new folder with its account. Raises InputError where there is something in it already."""
        cls.check(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{path}: {plain(error)}: choose another -o") from None
        accounts.save(path, account)
        return cls(path, account)

    @classmethod
    def reopen(cls, path: Path) -> Folder:
        """A folder to continue, with what its files hold. Raises RunFileError."""
        folder = cls(path, accounts.load(path))
        places = {fate.file: f"node {fate.node} GPU {fate.gpu}" for fate in folder.account.gpus}
        for file in sorted(path.glob("*.jsonl")):
            run = read(file)
            key = next((s.board_id for s in run.segments if s.board_id), None) or places.get(file.name, file.name)
            cases = frozenset((record.case_id, record.process) for record in run.records)
            statuses = Counter(record.status for record in run.records)
            folder.known[key] = Done(cases, len(run.segments), statuses["failed"], statuses["skipped"])
            folder._files[key] = file
        return folder

    def open(self, greeting: Greeting, slot: Slot) -> RunWriter:
        """The file of the board that greeted: the one it has, to go on with, or a new one. Raises RunFileError."""
        path = self._files.setdefault(greeting.key, self._named(greeting, slot))
        if not path.exists():
            policy = self.account.policy
            plan = next(plan for plan in self.account.plans if plan.dtype == greeting.dtype)
            return RunWriter.create(path, header(greeting.hello, plan.plan(policy), policy))
        # A run stopped before its first segment has a file that names no board, but the board names the file.
        writer, before, _ = RunWriter.resume(path)
        try:
            self._continue(writer, before, greeting)
        except BaseException:
            writer.close()
            raise
        return writer

    def _named(self, greeting: Greeting, slot: Slot) -> Path:
        hello = greeting.hello
        words = [*device_words(hello), f"node{slot.node:03d}", f"gpu{slot.gpu}", hello.board_id or ""]
        return self.path / f"{slug([word for word in words if word])}.jsonl"

    def file(self, key: str) -> str | None:
        """The name of a board's file; None where it has none."""
        path = self._files.get(key)
        return None if path is None else path.name

    def _continue(self, writer: RunWriter, before: RunFile, greeting: Greeting) -> None:
        same_board(before, greeting.hello)
        if before.segments:
            remark = resumed(before.segments[-1].environment, greeting.hello.environment)
            if remark is not None:
                writer.append(remark)

    def settle(self, fates: list[Fate]) -> Account:
        """Writes down what became of every GPU. Boards measured earlier and not met this time keep their fate.

        One that lost its place before it could answer again is named once, with what its file holds.
        """
        met = {fate.board_id for fate in fates} - {None}
        gone = {
            fate.place: fate for fate in self.account.gpus if fate.board_id is not None and fate.board_id not in met
        }
        merged = [fate if fate.board_id else _again(gone.pop(fate.place, None), fate) for fate in fates]
        self.account = replace(self.account, gpus=(*merged, *gone.values()))
        accounts.save(self.path, self.account)
        return self.account


def _again(before: Fate | None, now: Fate) -> Fate:
    """The fate of a place that did not answer when a run was continued, where a board of it may be known already."""
    if before is None:
        return now
    if before.became == "done" or now.became == "waiting":
        return before
    return replace(before, became=now.became, reason=now.reason)
