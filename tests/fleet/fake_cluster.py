"""A cluster without Ray: each task runs here, message by message, and is lost where a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from flopwatt import __version__
from flopwatt.fleet.agent import Common, Done, Greeting, Order
from flopwatt.fleet.cluster import Ended, Lost
from flopwatt.fleet.slots import Slot
from flopwatt.measurement.messages import Hello, Refusal
from flopwatt.runs.records import End, Environment, Planned, Record, Segment, SensorIdentity

H100 = Environment(kind="cuda", gpu="NVIDIA H100 80GB HBM3", sm_count=132, memory_bytes=85_000_000_000)

Script = Callable[[Order, Common, int], Iterator[Any]]
"""What the task of an order says at its nth start; a `Lost` ends it."""


class FakeCluster:
    """Tasks in the order of their start. script: what they say; nothing is ready once `silent` names the slot."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._common: Common | None = None
        self._streams: dict[int, Iterator[Any]] = {}
        self._slots: dict[int, Slot] = {}
        self._starts: dict[Slot, int] = {}
        self.submitted: list[tuple[Slot, bool]] = []
        self.cancelled: list[Slot] = []
        self.most_at_once: dict[int, int] = {}
        self.silent: set[Slot] = set()

    def share(self, common: Common, slots: Iterable[Slot]) -> None:
        self._common = common

    def submit(self, slot: Slot, order: Order, alone: bool) -> int:
        assert self._common is not None
        number = len(self.submitted)
        self.submitted.append((slot, alone))
        self._starts[slot] = self._starts.get(slot, 0) + 1
        self._streams[number] = self._script(order, self._common, self._starts[slot])
        self._slots[number] = slot
        there = sum(self._slots[other].node == slot.node for other in self._streams)
        self.most_at_once[slot.node] = max(there, self.most_at_once.get(slot.node, 0))
        return number

    def ready(self, streams: list[int], timeout_s: float) -> int | None:
        return next((stream for stream in streams if self._slots[stream] not in self.silent), None)

    def take(self, stream: int) -> bytes | Ended | Lost:
        said = next(self._streams[stream], None)
        if said is None or isinstance(said, Lost):
            del self._streams[stream]
            return said or Ended()
        return msgspec.json.encode(said)

    def cancel(self, streams: Iterable[int]) -> None:
        for stream in list(streams):
            self._streams.pop(stream, None)
            self.cancelled.append(self._slots[stream])


def greeting(order: Order, common: Common, board: str | None = None, **fields: Any) -> Greeting:
    """The greeting of a board, by default one for each place."""
    board = board or f"{order.node:06x}{order.gpu:06x}"
    done = known(order, common, board)
    sensor = SensorIdentity(source="nvml", gain_uncertainty=0.05)
    hello = Hello(
        origin="measured", environment=H100, board_id=board, sensor=sensor, idle_w=70.0, idle_context_w=90.0
    )  # fmt: skip
    left = len([p for p in common.plans[0].cases if (p.case_id, p.process) not in done.cases])
    return Greeting(**{"hello": hello, "flopwatt": __version__, "key": board, "dtype": "bf16", "left": left, **fields})


def known(order: Order, common: Common, board: str) -> Done:
    """What the board's file is said to hold."""
    return order.retried.get(board) or common.known.get(board) or Done()


def segment(number: int = 0, board: str | None = None) -> Segment:
    return Segment(segment=number, started="2026-11-22T09:00:00Z", environment=H100, board_id=board)


def record(planned: Planned, number: int = 0, status: str = "ok") -> Record:
    return Record(
        id=f"{planned.case_id}{number}", case_id=planned.case_id, segment=number, origin="measured",
        started="2026-11-22T09:00:00Z", process=planned.process, case=planned.case, uses=planned.uses,
        status=status, reason=None if status == "ok" else "made up",
    )  # fmt: skip


def well(
    order: Order, common: Common, start: int, lost_after: int | None = None, board: str | None = None
) -> Iterator[Any]:
    """A board that measures what it lacks; lost after so many records where that is given."""
    hello = greeting(order, common, board)
    done = known(order, common, hello.key)
    yield hello
    yield segment(done.segments, hello.key)
    left = [p for p in common.plans[0].cases if (p.case_id, p.process) not in done.cases]
    for count, planned in enumerate(left):
        if count == lost_after:
            yield Lost("its process on the node was killed", gone=False)
        yield record(planned, done.segments)
    yield End(at="2026-11-22T09:01:00Z", reason="done")


def refusing(order: Order, common: Common, start: int) -> Iterator[Any]:
    yield Refusal(kind="DeviceBusy", message="1 other process computes on it")
