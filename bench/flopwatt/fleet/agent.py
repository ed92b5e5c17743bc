"""What runs on a node: one GPU measured as `flopwatt run` does it, its lines sent off as they come about.

Each message is JSON of at most a record's size: Ray hands such small ones straight to the driver, so that what was sent
outlives this node.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from flopwatt import __version__
from flopwatt.errors import FlopwattError
from flopwatt.measurement.device import default_dtype
from flopwatt.measurement.messages import Hello, Refusal, RigSpec
from flopwatt.measurement.runner import Run, now
from flopwatt.measurement.worker_client import Worker
from flopwatt.runs.account import Mode, SharedPlan
from flopwatt.runs.records import End, Event, Planned, Policy, Record, Segment
from flopwatt.text import anonymous

GATE_TIMEOUT_S: Final = 300.0
"""How long the GPUs of a node wait for each other before those that came begin."""


@dataclass(frozen=True, slots=True)
class Done:
    """What a board's file holds already: cases by (case_id, process), segments, cases that failed or were skipped."""

    cases: frozenset[tuple[str, int]] = frozenset()
    segments: int = 0
    failed: int = 0
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Common:
    """What all tasks of a fleet run share. known: by board, what its file holds already."""

    mode: Mode
    policy: Policy
    plans: tuple[SharedPlan, ...]
    known: Mapping[str, Done] = field(default_factory=dict)

    def plan(self, dtype: str) -> SharedPlan:
        """The plan for a device's format of choice, or the only one there is."""
        return next((plan for plan in self.plans if plan.dtype == dtype), self.plans[0])


@dataclass(frozen=True, slots=True)
class Order:
    """What one task is to measure. gpu: which of those that Ray gives it; retried: what it did before it was lost."""

    spec: RigSpec
    node: int
    gpu: int
    label: str
    retried: Mapping[str, Done] = field(default_factory=dict)


class Greeting(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The measuring process is ready. key: what this board is known by; dtype: its plan's; left: cases to measure."""

    hello: Hello
    flopwatt: str
    key: str
    dtype: str
    left: int


Said: TypeAlias = Greeting | Refusal | Segment | Record | Event | End
_decoder: Final = msgspec.json.Decoder(Said)


def heard(message: bytes) -> Said:
    """A message of `measure`. Raises msgspec.DecodeError for bytes that are none."""
    said: Said = _decoder.decode(message)
    return said


def measure(order: Order, common: Common, gate: Any = None) -> Iterator[bytes]:
    """The task of one GPU: greets, or refuses with the reason, then sends the lines of its run file.

    gate: where the GPUs of a node meet before they begin together; None where each is measured alone.
    """
    beside = _meet(order, common.mode, gate)
    spec = _on_device(order)
    try:
        worker = Worker(spec)
    except FlopwattError as error:
        yield msgspec.json.encode(Refusal(kind=type(error).__name__, message=anonymous(str(error))))
        return
    hello = worker.hello
    key = hello.board_id or order.label
    done = order.retried.get(key) or common.known.get(key) or Done()
    plan = common.plan(default_dtype(hello.environment))
    left = [p for p in plan.cases if (p.case_id, p.process) not in done.cases]
    run = Run(worker, spec, common.policy, segment=done.segments)
    try:
        greeting = Greeting(hello=hello, flopwatt=__version__, key=key, dtype=plan.dtype, left=len(left))
        yield msgspec.json.encode(greeting)
        if left:
            yield from _lines(run, left, beside)
        run.close()
    finally:
        run.kill()


def _lines(run: Run, cases: list[Planned], beside: str) -> Iterator[bytes]:
    for step in run.steps(cases):
        if isinstance(step, Segment | Record | Event | End):
            yield msgspec.json.encode(step)
        if isinstance(step, Segment):
            yield msgspec.json.encode(Event(at=now(), what="fleet", message=beside))


def _on_device(order: Order) -> RigSpec:
    """The rig on the GPU that Ray gave this task; where it gave all of the node's, on the one that was meant."""
    if order.spec.scenario is not None or order.spec.device == "cpu":
        return order.spec
    import ray

    given = ray.get_gpu_ids()
    return msgspec.structs.replace(order.spec, device=f"cuda:{order.gpu if len(given) > 1 else 0}")


def _meet(order: Order, mode: Mode, gate: Any) -> str:
    """Waits for the node's other GPUs where they begin together; in words, beside what this one is measured."""
    if mode == "alone":
        return "alone: no other GPU of its node was measured meanwhile"
    if gate is None:
        return "together with the other GPUs of its node"
    import ray

    came = 0
    with contextlib.suppress(ray.exceptions.RayError):  # the gate's own node may be lost: then each begins by itself
        came = ray.get(gate.arrive.remote(order.node, GATE_TIMEOUT_S), timeout=2 * GATE_TIMEOUT_S)
    return (
        f"together: {came} GPUs of its node began at once" if came else "together: how many began at once is not known"
    )
