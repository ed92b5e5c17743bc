"""`flopwatt run`: plan, measure, store, show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from flopwatt.analysis.report import terminal
from flopwatt.commands.request import Request
from flopwatt.commands.stopping import Interrupted, stopping_signals
from flopwatt.commands.writing import check_output
from flopwatt.errors import RunFileError, WritingStopped
from flopwatt.measurement.device import default_dtype
from flopwatt.measurement.messages import RigSpec
from flopwatt.measurement.runner import Progress, Run, now
from flopwatt.measurement.session import default_name, header, pending, resumed, same_board, spec_like
from flopwatt.measurement.worker_client import Worker
from flopwatt.runs.plan import Plan
from flopwatt.runs.records import End, Event, Planned, Policy, Record, Segment
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


def run(request: Request, target: Target, console: Console, log: Console) -> int:
    """Measures a new run; the exit code. console: results. log: progress and remarks."""
    request.check()
    if target.output is not None:
        check_output(target.output)
    worker = start(target.spec, log)
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
        left = pending(before)
        if not left:
            log.print(f"{path}: nothing left to measure")
            return _finish(path, console)
        spec = spec_like(before, spec, left[0].process)
        worker = start(spec, log)
        try:
            same_board(before, worker.hello)
            if before.segments and (remark := resumed(before.segments[-1].environment, worker.hello.environment)):
                writer.append(remark)
        except BaseException:
            worker.kill()
            raise
        return _measure(worker, spec, policy, writer, left, len(before.segments), console, log)


def _show_pending(run_file: RunFile, console: Console) -> int:
    left = pending(run_file)
    kind = run_file.segments[-1].environment.kind if run_file.segments else "cuda"
    rest = Plan(tuple(left), run_file.header.suites, len({p.process for p in left}))
    console.print(plan_view(rest, kind))
    return EXIT_DONE


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
        role, phase = (planned.uses[0].role, planned.uses[0].phase or "") if planned.uses else ("", "")
        words = (role, phase, planned.case.label, planned.case.effort, planned.case.inputs)
        table.add_row(*(Text(printable(word)) for word in words))
    return table


def start(spec: RigSpec, log: Console) -> Worker:
    """A new measuring process, waited for with a word on a terminal. Raises the FlopwattError that it refuses with."""
    with log.status("starting the measuring process") if log.is_terminal else nullcontext():
        return Worker(spec)


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
    try:
        stopped = carry_out(Run(worker, spec, policy, segment=segment), writer, cases, log)
    except WritingStopped as stop:
        with suppress(RunFileError):
            if any(record.status == "failed" for record in read(writer.path).records):
                stop.exit_code = EXIT_NO
        raise
    if stopped is not None:
        log.print(f"stopped by {stopped}; continue with: flopwatt run --resume {writer.path}")
        return EXIT_INTERRUPTED
    return _finish(writer.path, console)


def carry_out(measuring: Run, writer: RunWriter, cases: Sequence[Planned], log: Console) -> str | None:
    """Measures the cases into the run file and ends the worker. What stopped it early, None where nothing did."""
    try:
        with stopping_signals(), _reporter(log, len(cases)) as report:
            for step in measuring.steps(cases):
                remark = None
                if isinstance(step, Segment | Record | Event | End):
                    remark = writer.append(step)
                report(step)
                if remark is not None:
                    log.print(printable(remark))
    except (Interrupted, KeyboardInterrupt) as stop:
        measuring.kill()
        with suppress(RunFileError):  # a file without an end says itself that it was cut off
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
