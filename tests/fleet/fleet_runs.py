"""A fleet run in this process: its folder, its slots, and what was told of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flopwatt.commands.request import Request
from flopwatt.fleet.folder import Folder
from flopwatt.fleet.gathering import Gathering
from flopwatt.fleet.slots import Slot
from flopwatt.measurement.messages import RigSpec
from flopwatt.runs.account import Account, Fate, Mode, SharedPlan
from flopwatt.runs.records import Policy

SLOTS = [Slot("H100", node, gpu, 2, f"id{node}") for node in range(2) for gpu in range(2)]
"""Two nodes of two GPUs."""

SHAPES = ("4096x4096x4096", "8192x8192x8192")


def account(slots: Sequence[Slot], mode: Mode = "alone", shapes: Sequence[str] = SHAPES) -> Account:
    """An account of GPUs that wait for one process of these shapes."""
    plan = Request(shapes=shapes, processes=1).plan_for("cuda", "bf16")
    return Account(
        created="2026-11-22T09:00:00Z",
        mode=mode,
        policy=Policy(),
        plans=(SharedPlan(dtype="bf16", cases=plan.cases, suites=plan.suites),),
        gpus=tuple(Fate(accelerator=slot.accelerator, node=slot.node, gpu=slot.gpu) for slot in slots),
    )


class Heard:
    """Keeps what was told, and does something at a moment that a test waits for."""

    def __init__(self, then: Callable[[Slot, object], None] | None = None) -> None:
        self.told: list[tuple[Slot, Any]] = []
        self._then = then

    def __call__(self, slot: Slot, said: object) -> None:
        self.told.append((slot, said))
        if self._then is not None:
            self._then(slot, said)

    def of(self, kind: type) -> list[tuple[Slot, Any]]:
        """All that was told of one type, in order."""
        return [(slot, said) for slot, said in self.told if isinstance(said, kind)]


def gather(cluster: Any, folder: Folder, slots: Sequence[Slot], tell: Heard | None = None) -> list[Fate]:
    """Measures the slots into the folder and settles the account; the fate of every slot, and of boards not met."""
    gathering = Gathering(cluster, folder, slots, RigSpec(), tell or Heard())
    try:
        gathering.run()
    finally:
        settled = folder.settle(gathering.fates)
    return list(settled.gpus)


def new_folder(path: Path, slots: Sequence[Slot], **words: Any) -> Folder:
    """An empty folder for these slots."""
    return Folder.create(path, account(slots, **words))
