"""The loop over a plan: yields a record a case, whatever becomes of the worker. Prints nothing, stores nothing."""

from __future__ import annotations

import time
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from flopwatt.errors import DeviceError, FlopwattError
from flopwatt.measurement.case import Outcome
from flopwatt.measurement.messages import Broken, Hello, RigSpec
from flopwatt.measurement.remarks import idle_remark, remarks
from flopwatt.measurement.worker_client import Worker, WorkerDied, WorkerKilled
from flopwatt.runs.effort import START_S, estimate_s, soak_s
from flopwatt.runs.records import End, EndReason, Event, Planned, Policy, Record, Segment
from flopwatt.text import anonymous

CASE_TIMEOUT_FACTOR: Final = 10.0
CASE_TIMEOUT_EXTRA_S: Final = 120.0
"""A case that takes ten times its estimate and two minutes more hangs: its worker is killed."""

TRIES: Final = 3
"""How often a case is measured that was interrupted, before it is given up."""

COOLS_NS: Final = 10 * 10**9
"""A GPU's chip and heat sink lose their working temperature within tens of seconds; between two cases there is nothing
to do for more than milliseconds."""


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
        self._answered_ns = 0

    def steps(self, cases: Sequence[Planned]) -> Iterator[Step]:
        """The segment, then each case's progress and record, with events in between, and last why it ended."""
        yield self._segment_line()
        for what, message in remarks(self._hello):
            yield Event(at=now(), what=what, message=anonymous(message))
        later_s = sum(map(self._alone_s, cases))
        for index, planned in enumerate(cases):
            later_s -= self._alone_s(planned)
            if not self._fits(planned):
                left = len(cases) - index
                yield from self._end("budget", f"{left} of {len(cases)} cases were not measured")
                return
            yield Progress(planned, index, len(cases), self._estimate_s(planned) + later_s)
            try:
                yield from self._one(planned)
            except FlopwattError as error:
                # Cases without a record stay pending: --resume measures them once a process can start again.
                message = anonymous(f"no measuring process for the remaining {len(cases) - index} cases: {error}")
                yield Event(at=now(), what="worker", message=message, case_id=planned.case_id)
                yield End(at=now(), reason="failed", message=message)
                return
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

    def _one(self, planned: Planned) -> Iterator[Step]:
        """The record of one case, measured again where what stopped it was none of its doing, with events around it."""
        for tries in range(TRIES, 0, -1):
            worker = yield from self._worker_for(planned)
            fresh, started = not worker.used, now()
            outcome, replaced = self._measured(planned, worker)
            # A fresh process has all the memory there is: another will have no more.
            again = outcome.again if tries > 1 and not (outcome.again == "memory" and fresh) else None
            if again is None:
                yield self._record(planned, started, outcome)
            if replaced is not None:
                message = anonymous(f"replaced: {replaced}")
                yield Event(at=now(), what="worker", message=message, case_id=planned.case_id)
            if again is None:
                return
            if again == "memory":
                self.close()
            self._soaked = False
            message = anonymous(f"measured again: {outcome.reason}")
            yield Event(at=now(), what=again, message=message, case_id=planned.case_id)

    def _measured(self, planned: Planned, worker: Worker) -> tuple[Outcome, str | None]:
        """What became of a case, and why its worker had to go, None where it stays."""
        begun = time.monotonic()
        self._soaked &= self._kept_warm()
        soak = not self._soaked and planned.case.regime == "sustained"
        timeout_s = CASE_TIMEOUT_FACTOR * self._estimate_s(planned) + CASE_TIMEOUT_EXTRA_S
        try:
            reply = worker.measure(planned, self._seed(planned), soak, timeout_s)
        except WorkerDied as death:
            self._worker = None
            self._spent_s += time.monotonic() - begun
            return Outcome("failed", planned.case, str(death)), str(death)
        finally:
            self._answered_ns = _uptime_ns()
        if isinstance(reply, Broken):
            self._spent_s += time.monotonic() - begun
            if reply.fatal:
                self.close()
            failed = Outcome("failed", planned.case, reply.message, again=reply.again)
            return failed, reply.message if reply.fatal else None
        self._soaked |= soak and reply.outcome.status == "ok"
        self._loaded |= reply.outcome.status == "ok"
        self._spent_s += reply.elapsed_s
        return reply.outcome, None

    def _kept_warm(self) -> bool:
        """Whether the last case ended just now: a run that was stopped in between, or put to sleep, has cooled."""
        return self._hello.origin == "simulated" or _uptime_ns() - self._answered_ns < COOLS_NS

    def _worker_for(self, planned: Planned) -> Generator[Step, None, Worker]:
        """The worker at hand, or a new one where it died or the plan asks for a fresh process. Raises FlopwattError.

        A start that a signal ended is tried again: what kills one process need not meet the next, and the rest of the
        plan depends on it.
        """
        if planned.process != self._process:
            self.close()
            self._process = planned.process
        if self._worker is None:
            self._soaked = False
            spec = msgspec.structs.replace(self._spec, process=self._process, idle=False)
            try:
                worker = Worker(spec)
            except WorkerKilled as death:
                message = anonymous(f"started again: {death}")
                yield Event(at=now(), what="worker", message=message, case_id=planned.case_id)
                worker = Worker(spec)
            if (gone := _other_device(self._hello, worker.hello)) is not None:
                worker.kill()
                raise DeviceError(gone)
            self._worker = worker
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
            reason=_said(outcome.reason),
            energy_status=outcome.energy_status,
            energy_reason=_said(outcome.energy_reason or (outcome.reason if outcome.status != "ok" else None)),
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


def _other_device(before: Hello, after: Hello) -> str | None:
    """Why a new worker's device cannot go on for the one before it, None where it is the same: PyTorch counts the GPUs
    that are left, so that the number of one that fell off its bus may come to mean another.
    """
    if (before.board_id, before.environment.gpu) == (after.board_id, after.environment.gpu):
        return None
    return (
        f"the {before.environment.gpu} measured so far is gone, and {after.environment.gpu} answers in its place: "
        "see `flopwatt doctor`"
    )


def _uptime_ns() -> int:
    """Nanoseconds since the machine was booted, those asleep included."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def _said(reason: str | None) -> str | None:
    return None if reason is None else anonymous(reason)
