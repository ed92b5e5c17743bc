"""`flopwatt run`: plan, measure, store, show."""

from __future__ import annotations

import re
import signal
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from flopwatt import __version__
from flopwatt.analysis.report import terminal
from flopwatt.commands.request import Request, check_output
from flopwatt.errors import RunFileError
from flopwatt.measurement.device import default_dtype
from flopwatt.measurement.messages import Hello, RigSpec
from flopwatt.measurement.runner import Progress, Run, now
from flopwatt.measurement.worker_client import Worker
from flopwatt.runs.plan import Plan
from flopwatt.runs.records import SCHEMA_VERSION, End, Event, Planned, Policy, Record, RunHeader, Segment
from flopwatt.runs.store import RunFile, RunWriter, read
from flopwatt.runs.tidy import record_row
from flopwatt.text import printable

EXIT_DONE: Final = 0
EXIT_NO: Final = 1
EXIT_UNFINISHED: Final = 3
EXIT_INTERRUPTED: Final = 130


@dataclass(frozen=True, slots=True)
class Target:
    """Where to measure and what to do with it, beyond the request itself."""

    spec: RigSpec
    output: Path | None = None
    plan_only: bool = False
    shared: bool = False


class Interrupted(Exception):
    """SIGINT, SIGTERM or SIGHUP arrived; the message names it."""


def run(request: Request, target: Target, console: Console, log: Console) -> int:
    """Measures a new run; the exit code. console: results. log: progress and remarks."""
    request.check()
    if target.output is not None:
        check_output(target.output)
    worker = _start(target.spec, log)
    try:
        environment = worker.hello.environment
        plan = request.plan(environment, default_dtype(environment))
        if target.plan_only:
            worker.close()
            console.print(plan_view(plan, environment.kind))
            return EXIT_DONE
        path = target.output or Path(default_name(worker.hello, plan))
        policy = Policy(seed=request.seed, processes=plan.processes, budget_s=request.budget_s, shared=target.shared)
        writer = RunWriter.create(path, header(worker.hello, plan, policy))
    except BaseException:
        worker.kill()
        raise
    with writer:
        return _measure(worker, target.spec, policy, writer, plan.cases, 0, console, log)


def resume(target: Target, path: Path, budget_s: float | None, console: Console, log: Console) -> int:
    """Measures what a run file's plan still lacks, on the same board; the exit code."""
    spec = target.spec
    if target.plan_only:
        return _show_pending(read(path), console)
    writer, before, removed = RunWriter.resume(path)
    with writer:
        if removed:
            log.print(f"{path}: cut off a torn last line of {removed} bytes")
        policy = before.header.policy
        if budget_s is not None:
            policy = msgspec.structs.replace(policy, budget_s=budget_s)
        pending = _pending(before)
        if not pending:
            log.print(f"{path}: nothing left to measure")
            return _finish(path, console)
        spec = _spec_like(before, spec, pending[0].process)
        worker = _start(spec, log)
        try:
            _same_board(before, worker.hello)
            changed = _changed(before, worker.hello)
        except BaseException:
            worker.kill()
            raise
        if changed:
            message = f"resumed with another {changed}: compare the two segments before trusting their sum"
            writer.append(Event(at=now(), what="environment", message=message))
        return _measure(worker, spec, policy, writer, pending, len(before.segments), console, log)


def _pending(run_file: RunFile) -> list[Planned]:
    """What the plan still lacks."""
    done = {(record.case_id, record.process) for record in run_file.records}
    return [p for p in run_file.header.plan if (p.case_id, p.process) not in done]


def _show_pending(run_file: RunFile, console: Console) -> int:
    pending = _pending(run_file)
    kind = run_file.segments[-1].environment.kind if run_file.segments else "cuda"
    rest = Plan(tuple(pending), run_file.header.suites, len({p.process for p in pending}))
    console.print(plan_view(rest, kind))
    return EXIT_DONE


def default_name(hello: Hello, plan: Plan) -> str:
    """A file name that says what and when: `h100-80gb-hbm3-quick-20261122-093000.jsonl`."""
    gpu = hello.environment.gpu if hello.environment.kind == "cuda" else "cpu"
    words = [gpu.removeprefix("NVIDIA "), *(suite.name for suite in plan.suites)]
    if hello.origin != "measured":
        words.insert(0, hello.origin)
    slug = re.sub(r"[^a-z0-9.]+", "-", "-".join(dict.fromkeys(words)).lower()).strip("-")[:80]
    stamp = re.sub(r"[-:]", "", now()).replace("T", "-").rstrip("Z")
    return f"{slug}-{stamp}.jsonl"


def plan_view(plan: Plan, device_kind: str) -> Table:
    """The cases of a plan and the minutes they are expected to take."""
    minutes = plan.seconds(device_kind) / 60
    title = f"{len(plan.cases)} cases, about {minutes:.1f} minutes, {plan.processes} process(es)"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("role", "phase", "case", "effort", "inputs"):
        table.add_column(name)
    for planned in plan.cases:
        if planned.process:
            continue
        use = planned.uses[0]
        table.add_row(use.role, use.phase or "", planned.case.label, planned.case.effort, planned.case.inputs)
    return table


def _start(spec: RigSpec, log: Console) -> Worker:
    with log.status("starting the measuring process") if log.is_terminal else _nothing():
        return Worker(spec)


def header(hello: Hello, plan: Plan, policy: Policy) -> RunHeader:
    """The first line of a new run file."""
    return RunHeader(
        schema=SCHEMA_VERSION,
        id=uuid.uuid4().hex,
        created=now(),
        origin=hello.origin,
        flopwatt=__version__,
        plan=plan.cases,
        suites=plan.suites,
        policy=policy,
    )


def _spec_like(before: RunFile, spec: RigSpec, process: int) -> RigSpec:
    """The rig to resume on. A simulated run resumes on its scenario, a measured one never does."""
    simulated = before.header.origin == "simulated"
    if simulated != (spec.scenario is not None):
        remedy = "add --simulate with its scenario" if simulated else "leave --simulate out"
        raise RunFileError(f"{before.path} is a {before.header.origin} run: {remedy}")
    return RigSpec(
        device=spec.device,
        scenario=spec.scenario,
        seed=before.header.policy.seed,
        process=process,
        shared=spec.shared,
    )


def _same_board(before: RunFile, hello: Hello) -> None:
    boards = {(s.board_id, s.environment.gpu) for s in before.segments}
    if boards and (hello.board_id, hello.environment.gpu) not in boards:
        raise RunFileError(
            f"{before.path} was measured on another board ({before.segments[-1].environment.gpu}): "
            "resume it there, or start a new run here"
        )


def _changed(before: RunFile, hello: Hello) -> str:
    """What differs between the last segment's machine and this one, of that which changes figures."""
    if not before.segments:
        return ""
    old, new = before.segments[-1].environment, hello.environment
    names = [name for name in ("driver", "power_limit_mw", "vbios") if getattr(old, name) != getattr(new, name)]
    packages = sorted(old.versions.keys() | new.versions.keys())
    names += [name for name in packages if old.versions.get(name) != new.versions.get(name)]
    return ", ".join(name.removesuffix("_mw").replace("_", " ") for name in names)


def _measure(
    worker: Worker,
    spec: RigSpec,
    policy: Policy,
    writer: RunWriter,
    cases: Sequence[Planned],
    segment: int,
    console: Console,
    log: Console,
) -> int:
    stopped = carry_out(Run(worker, spec, policy, segment=segment), writer, cases, log)
    if stopped is not None:
        log.print(f"stopped by {stopped}; continue with: flopwatt run --resume {writer.path}")
        return EXIT_INTERRUPTED
    return _finish(writer.path, console)


def carry_out(measuring: Run, writer: RunWriter, cases: Sequence[Planned], log: Console) -> str | None:
    """Measures the cases into the run file and ends the worker. What stopped it early, None where nothing did."""
    try:
        with _signals(), _reporter(log, len(cases)) as report:
            for step in measuring.steps(cases):
                if isinstance(step, Segment | Record | Event | End):
                    writer.append(step)
                report(step)
    except (Interrupted, KeyboardInterrupt) as stop:
        measuring.kill()
        writer.append(End(at=now(), reason="interrupted", message=str(stop) or "SIGINT"))
        return str(stop) or "Ctrl-C"
    except BaseException:
        measuring.kill()
        raise
    measuring.close()
    return None


def _finish(path: Path, console: Console) -> int:
    """Shows the file as it lies on disk, and says by the exit code how it went."""
    run_file = read(path)
    console.print(terminal.run_view(run_file))
    console.print(f"{path}", soft_wrap=True, highlight=False)
    statuses = {record.status for record in run_file.records}
    if "failed" in statuses or statuses == {"skipped"}:
        return EXIT_NO
    return EXIT_DONE if run_file.end is None or run_file.end.reason == "done" else EXIT_UNFINISHED


@contextmanager
def _signals() -> Iterator[None]:
    """Turns SIGINT, SIGTERM (spot instances) and SIGHUP (a lost connection) into Interrupted. A second one kills."""

    def stop(number: int, _: FrameType | None) -> None:
        for name in watched:
            signal.signal(name, signal.SIG_DFL)
        raise Interrupted(signal.Signals(number).name)

    # What was ignored when we started stays ignored: nohup means that a lost connection shall not matter.
    watched = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {name: signal.signal(name, stop) for name in watched}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


@contextmanager
def _nothing() -> Iterator[None]:
    yield


@contextmanager
def _reporter(log: Console, total: int) -> Iterator[_Report]:
    if not log.is_terminal:
        yield _Report(log, None, total)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    with Bar(*columns, console=log, transient=True) as bar:
        yield _Report(log, bar, total)


class _Report:
    """Says what is being measured and what came of it: a bar on a terminal, else one line a case."""

    def __init__(self, log: Console, bar: Bar | None, total: int) -> None:
        self._log = log
        self._bar = bar
        self._total = total
        self._done = 0
        self._segment: Segment | None = None
        self._task = bar.add_task("", total=total, left="") if bar else None

    def __call__(self, step: object) -> None:
        match step:
            case Segment():
                self._segment = step
            case Progress():
                self._next(step)
            case Record():
                self._result(step)
            case Event():
                self._log.print(printable(f"  {step.message}"), style="yellow", highlight=False, markup=False)

    def _next(self, step: Progress) -> None:
        self._done = step.done
        if self._bar is not None and self._task is not None:
            left = f"{step.remaining_s / 60:.1f} min left"
            self._bar.update(self._task, description=step.planned.case.label, completed=step.done, left=left)

    def _result(self, record: Record) -> None:
        if self._bar is not None and record.status == "ok":
            return
        self._log.print(
            printable(f"[{self._done + 1}/{self._total}] {record.case.label}: {_brief(record, self._segment)}"),
            highlight=False,
            markup=False,
        )


def _brief(record: Record, segment: Segment | None) -> str:
    if record.status != "ok":
        return f"{record.status}: {record.reason}"
    row = record_row("", record, segment)
    watts = "" if row["power_w"] is None else f", {row['power_w']:.0f} W, {row['tflops_per_w']:.3g} TFLOPS/W"
    return f"{row['time_s'] * 1e3:.4g} ms, {row['tflops']:.3g} TFLOPS{watts}"
