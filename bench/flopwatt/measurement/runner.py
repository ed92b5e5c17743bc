"""The loop over a plan: yields a record a case, whatever becomes of the worker. Prints nothing, stores nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from flopwatt.errors import FlopwattError
from flopwatt.measurement.case import Outcome
from flopwatt.measurement.messages import Broken, RigSpec
from flopwatt.measurement.remarks import idle_remark, remarks
from flopwatt.measurement.worker_client import Worker, WorkerDied
from flopwatt.runs.effort import START_S, estimate_s, soak_s
from flopwatt.runs.records import End, EndReason, Event, Planned, Policy, Record, Segment

CASE_TIMEOUT_FACTOR: Final = 10.0
CASE_TIMEOUT_EXTRA_S: Final = 120.0
"""A case that takes ten times its estimate and two minutes more hangs: its worker is killed."""


def now() -> str:
    """The wall-clock time, UTC, as run files write it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Progress:
    """A case is about to start: its place in the plan, and the seconds that the rest is expected to take."""

    planned: Planned
    done: int
    total: int
    remaining_s: float


Step = Segment | Record | Event | Progress | End


class Run:
    """Measures a plan, one step at a time. A worker that dies costs its case; the next case gets a new one.

    Use as an iterator; `close` ends the worker, at any time.
    """

    def __init__(self, first: Worker, spec: RigSpec, policy: Policy, *, segment: int = 0) -> None:
        self._worker: Worker | None = first
        self._spec = spec
        self._policy = policy
        self._segment = segment
        self._hello = first.hello
        self._process = spec.process
        self._soaked = False
        self._loaded = False
        self._spent_s = 0.0

    def steps(self, cases: Sequence[Planned]) -> Iterator[Step]:
        """The segment, then each case's progress and record, with events in between, and last why it ended."""
        yield self._segment_line()
        for what, message in remarks(self._hello):
            yield Event(at=now(), what=what, message=message)
        later_s = sum(map(self._alone_s, cases))
        for index, planned in enumerate(cases):
            later_s -= self._alone_s(planned)
            if not self._fits(planned):
                left = len(cases) - index
                yield from self._end("budget", f"{left} of {len(cases)} cases were not measured")
                return
            yield Progress(planned, index, len(cases), self._estimate_s(planned) + later_s)
            try:
                worker = self._worker_for(planned)
            except FlopwattError as error:
                # Cases without a record stay pending: --resume measures them once a process can start again.
                message = f"no measuring process for the remaining {len(cases) - index} cases: {error}"
                yield Event(at=now(), what="worker", message=message, case_id=planned.case_id)
                yield End(at=now(), reason="failed", message=message)
                return
            yield from self._one(planned, worker)
        yield from self._end("done")

    def close(self) -> None:
        """Ends the worker in an orderly way."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def kill(self) -> None:
        """Ends the worker at once."""
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def _segment_line(self) -> Segment:
        return Segment(
            segment=self._segment,
            started=now(),
            environment=self._hello.environment,
            board_id=self._hello.board_id,
            sensor=self._hello.sensor,
            idle_w=self._hello.idle_w,
            idle_context_w=self._hello.idle_context_w,
        )

    def _end(self, reason: EndReason, message: str = "") -> Iterator[Step]:
        """The end, with idle power after the load; before it a remark where that is not what it was."""
        idle_w, why_not = self._idle_after()
        before_w = self._hello.idle_context_w
        if idle_w is not None and before_w is not None and (remark := idle_remark(before_w, idle_w)):
            yield Event(at=now(), what="idle", message=remark)
        yield End(at=now(), reason=reason, message=message, idle_after_w=idle_w, idle_after_reason=why_not)

    def _idle_after(self) -> tuple[float | None, str | None]:
        """Idle watts after the load, or why there are none."""
        if self._hello.idle_context_w is None:
            return None, "idle power was not read before the load"
        if not self._loaded:
            return None, "nothing was measured"
        if self._worker is None:
            return None, "the measuring process was gone"
        try:
            reply = self._worker.read_idle()
        except WorkerDied as death:
            self._worker = None
            return None, f"the measuring process died: {death}"
        if isinstance(reply, Broken):
            return None, reply.message
        return reply.idle_w, None if reply.idle_w is not None else "the power sensor answered nothing"

    def _one(self, planned: Planned, worker: Worker) -> Iterator[Step]:
        started, begun = now(), time.monotonic()
        soak = not self._soaked and planned.case.regime == "sustained"
        timeout_s = CASE_TIMEOUT_FACTOR * self._estimate_s(planned) + CASE_TIMEOUT_EXTRA_S
        try:
            reply = worker.measure(planned, self._seed(planned), soak, timeout_s)
        except WorkerDied as death:
            self._worker = None
            self._soaked = False
            self._spent_s += time.monotonic() - begun
            yield self._record(planned, started, Outcome("failed", planned.case, str(death)))
            yield Event(at=now(), what="worker", message=f"replaced: {death}", case_id=planned.case_id)
            return
        if isinstance(reply, Broken):
            self._spent_s += time.monotonic() - begun
            yield self._record(planned, started, Outcome("failed", planned.case, reply.message))
            if reply.fatal:
                self.close()
                yield Event(at=now(), what="worker", message=f"replaced: {reply.message}", case_id=planned.case_id)
            return
        self._soaked |= soak and reply.outcome.status == "ok"
        self._loaded |= reply.outcome.status == "ok"
        self._spent_s += reply.elapsed_s
        yield self._record(planned, started, reply.outcome)

    def _worker_for(self, planned: Planned) -> Worker:
        """The worker at hand, or a new one where it died or the plan asks for a fresh process."""
        if planned.process != self._process:
            self.close()
            self._soaked = False
            self._process = planned.process
        if self._worker is None:
            spec = msgspec.structs.replace(self._spec, process=self._process, idle=False)
            self._worker = Worker(spec)
        return self._worker

    def _record(self, planned: Planned, started: str, outcome: Outcome) -> Record:
        return Record(
            id=uuid.uuid4().hex,
            case_id=planned.case_id,
            segment=self._segment,
            origin=self._hello.origin,
            started=started,
            process=planned.process,
            case=outcome.case,
            uses=planned.uses,
            status=outcome.status,
            reason=outcome.reason,
            energy_status=outcome.energy_status,
            energy_reason=outcome.energy_reason or (outcome.reason if outcome.status != "ok" else None),
            correctness=outcome.correctness,
            settings=outcome.settings,
            input_audit=outcome.input_audit,
            measurement=outcome.measurement,
        )

    def _estimate_s(self, planned: Planned) -> float:
        """Seconds that this case will take if it is next, with its process's start and soak."""
        kind = self._hello.environment.kind
        starts = planned.process != self._process or self._worker is None
        soaks = planned.case.regime == "sustained" and (starts or not self._soaked)
        extra_s = (START_S[kind] if starts else 0.0) + (soak_s(planned.case, kind) if soaks else 0.0)
        return self._alone_s(planned) + extra_s

    def _alone_s(self, planned: Planned) -> float:
        return estimate_s(planned.case, self._hello.environment.kind)

    def _fits(self, planned: Planned) -> bool:
        budget = self._policy.budget_s
        return budget is None or self._spent_s + self._estimate_s(planned) <= budget

    def _seed(self, planned: Planned) -> int:
        """Fixed by the run's seed, the case and the process, so that a resumed run draws what it would have drawn."""
        return (self._policy.seed + int(planned.case_id[:8], 16) + planned.process) & 0x7FFFFFFF
