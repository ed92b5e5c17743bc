"""The driver's loop: starts each GPU's task when its turn has come, and writes what they send as it arrives."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from msgspec.structs import replace

from flopwatt import __version__
from flopwatt.errors import RunFileError
from flopwatt.fleet.agent import Common, Done, Greeting, Order, Said, heard
from flopwatt.fleet.cluster import Ended, Lost
from flopwatt.fleet.folder import Folder
from flopwatt.fleet.slots import Slot
from flopwatt.measurement.messages import Refusal, RigSpec
from flopwatt.measurement.runner import now
from flopwatt.runs.account import Became, Fate
from flopwatt.runs.records import End, Event, Record, Segment
from flopwatt.runs.store import RunWriter

TRIES: Final = 3
"""How often a GPU's task is started whose process was lost."""

TURN_S: Final = 2.0
"""How long the loop waits for a message before it looks at the clock."""

PATIENCE_S: Final = 600.0
"""A silence of all tasks after which those that never began are given up: somebody else holds their GPUs."""


class Cluster(Protocol):
    """What the loop needs of a cluster; `RayCluster` is one."""

    def share(self, common: Common, slots: Iterable[Slot]) -> None: ...
    def submit(self, slot: Slot, order: Order, alone: bool) -> Any: ...
    def ready(self, streams: list[Any], timeout_s: float) -> Any: ...
    def take(self, stream: Any) -> bytes | Ended | Lost: ...
    def cancel(self, streams: Iterable[Any]) -> None: ...


@dataclass(slots=True)
class Task:
    """One GPU's, from its start to its end; its writer stays open while it may be started again."""

    slot: Slot
    tries: int = 0
    key: str = ""
    board_id: str | None = None
    planned: int = 0
    writer: RunWriter | None = None
    file: str | None = None
    done: set[tuple[str, int]] = field(default_factory=set)
    segments: int = 0
    failed: int = 0
    skipped: int = 0
    end: End | None = None

    def fate(self, became: Became, reason: str = "") -> Fate:
        """What became of it."""
        return Fate(
            accelerator=self.slot.accelerator,
            node=self.slot.node,
            gpu=self.slot.gpu,
            became=became,
            reason=reason,
            board_id=self.board_id,
            file=self.file,
            measured=len(self.done),
            planned=self.planned,
            failed_cases=self.failed,
            skipped_cases=self.skipped,
        )


Told = Callable[[Slot, Said | Fate], None]


class Gathering:
    """Measures every slot and gathers their run files in a folder.

    spec: of the rig, without device, scenario and board; tell: hears of every line and every fate.
    """

    def __init__(self, cluster: Cluster, folder: Folder, slots: Sequence[Slot], spec: RigSpec, tell: Told) -> None:
        self._cluster = cluster
        self._folder = folder
        self._spec = spec
        self._tell = tell
        self._alone = folder.account.mode == "alone"
        self._waiting: dict[int, deque[Task]] = {}
        for slot in slots:
            self._waiting.setdefault(slot.node, deque()).append(Task(slot))
        self._active: dict[Any, Task] = {}
        self._boards: dict[str, Slot] = {}
        self._fates: dict[Slot, Fate] = {slot: Task(slot).fate("waiting") for slot in slots}

    @property
    def fates(self) -> list[Fate]:
        """What became of every slot so far, in their order."""
        return list(self._fates.values())

    def run(self) -> None:
        """Measures until every slot's fate is known. Raises RunFileError where a file can be written no longer."""
        account = self._folder.account
        self._cluster.share(Common(account.mode, account.policy, account.plans, self._folder.known), list(self._fates))
        heard_s = time.monotonic()
        for node in list(self._waiting):
            self._start_next(node)
        while self._active:
            stream = self._cluster.ready(list(self._active), TURN_S)
            if stream is not None:
                heard_s = time.monotonic()
                self._hear(stream, self._cluster.take(stream))
            elif time.monotonic() - heard_s > PATIENCE_S:
                self._give_up()

    def stop(self, reason: str) -> None:
        """Ends all tasks and their files at once."""
        self._cluster.cancel(self._active)
        for task in self._active.values():
            self._close(task, "interrupted", reason)
        self._active.clear()
        for waiting in self._waiting.values():
            for task in waiting:
                self._close(task, "interrupted" if task.key else "waiting", reason if task.key else "")

    def _start_next(self, node: int) -> None:
        waiting = self._waiting[node]
        while waiting:
            self._start(waiting.popleft())
            if self._alone:
                return

    def _start(self, task: Task) -> None:
        slot = task.slot
        device = "cpu" if slot.accelerator == "cpu" else "auto"
        spec = replace(self._spec, device=device, scenario=slot.scenario, board=slot.board)
        retried = {task.key: Done(frozenset(task.done), task.segments)} if task.key else {}
        order = Order(spec, slot.node, slot.gpu, slot.label, retried)
        task.tries += 1
        task.end = None
        self._active[self._cluster.submit(slot, order, self._alone)] = task

    def _hear(self, stream: Any, message: bytes | Ended | Lost) -> None:
        task = self._active.pop(stream)
        match message:
            case Ended():
                self._ended(task)
            case Lost():
                self._lost(task, message)
            case bytes():
                self._active[stream] = task  # last in line now, so that no talkative task keeps others from being heard
                self._said(stream, task, heard(message))

    def _said(self, stream: Any, task: Task, said: Said) -> None:
        match said:
            case Greeting():
                self._greeted(stream, task, said)
            case Refusal():
                task.end = End(at=now(), reason="failed", message=said.message)
                task.key = ""
            case Record():
                task.done.add((said.case_id, said.process))
                task.failed += said.status == "failed"
                task.skipped += said.status == "skipped"
            case Segment():
                task.segments += 1
            case End():
                task.end = said
        if task.writer is not None and isinstance(said, Segment | Record | Event | End):
            moved = task.writer.append(said)
            if moved is not None:
                self._tell(task.slot, Event(at=now(), what="file", message=moved))
        self._tell(task.slot, said)

    def _greeted(self, stream: Any, task: Task, greeting: Greeting) -> None:
        task.board_id = greeting.hello.board_id
        if greeting.flopwatt != __version__:
            self._refuse(stream, task, f"flopwatt {greeting.flopwatt} is installed there, {__version__} here: use one")
            return
        other = self._boards.setdefault(greeting.key, task.slot)
        if other is not task.slot:
            self._refuse(stream, task, f"the same board answered as node {other.node}, GPU {other.gpu}")
            return
        if task.writer is not None and task.key != greeting.key:
            # Ray gave the new task another GPU: what the lost one measured stays in its own file.
            task.writer.append(End(at=now(), reason="failed", message="lost; another board answered in its place"))
            self._drop(task)
        if task.key != greeting.key:
            before = self._folder.known.get(greeting.key, Done())
            task.key, task.done = greeting.key, set(before.cases)
            task.segments, task.failed, task.skipped = before.segments, before.failed, before.skipped
        task.planned = len(task.done) + greeting.left
        if task.writer is None and greeting.left:
            task.writer = self._folder.open(greeting, task.slot)
        task.file = self._folder.file(greeting.key)

    def _refuse(self, stream: Any, task: Task, reason: str) -> None:
        self._cluster.cancel([stream])
        self._active.pop(stream, None)
        self._settle(task, "refused", reason)

    def _ended(self, task: Task) -> None:
        if not task.key:
            self._settle(task, "refused", task.end.message if task.end else "its task ended without a word")
        elif task.end is None:
            finished = task.planned == len(task.done)
            self._settle(task, "done" if finished else "lost", "" if finished else "its task ended in the middle")
        else:
            self._settle(task, task.end.reason, task.end.message)

    def _lost(self, task: Task, lost: Lost) -> None:
        if task.writer is not None:
            task.writer.append(Event(at=now(), what="fleet", message=f"lost: {lost.reason}"))
        # A simulated board of no place can be computed on another node; a real one is where it is.
        if task.tries < TRIES and not (lost.gone and task.slot.where is not None):
            self._start(task)
            return
        if task.writer is not None:
            task.writer.append(End(at=now(), reason="failed", message=f"lost: {lost.reason}"))
        self._settle(task, "lost", lost.reason)

    def _settle(self, task: Task, became: Became, reason: str) -> None:
        self._drop(task)
        fate = task.fate(became, reason)
        self._fates[task.slot] = fate
        self._tell(task.slot, fate)
        self._start_next(task.slot.node)

    def _close(self, task: Task, became: Became, reason: str) -> None:
        if task.writer is not None and task.end is None:
            with suppress(RunFileError):  # a file without an end says itself that it was cut off
                task.writer.append(End(at=now(), reason="interrupted", message=reason))
        self._drop(task)
        self._fates[task.slot] = task.fate(became, reason)

    def _drop(self, task: Task) -> None:
        if task.writer is not None:
            task.writer.close()
            task.writer = None

    def _give_up(self) -> None:
        """Nothing moves: the tasks that never began are waiting for GPUs that somebody else holds."""
        unbegun = [stream for stream, task in self._active.items() if not task.key]
        self._cluster.cancel(unbegun)
        for stream in unbegun:
            task = self._active.pop(stream)
            self._settle(task, "refused", f"no GPU was free there for {PATIENCE_S / 60:.0f} minutes")
