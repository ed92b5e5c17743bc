"""`flopwatt tune`: compile the candidates, measure a shortlist in an ordinary run, keep what it decides."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from flopwatt.commands.request import Request
from flopwatt.commands.run import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NO, EXIT_UNFINISHED, carry_out, start
from flopwatt.commands.words import one_of
from flopwatt.errors import DeviceError, InputError
from flopwatt.measurement.device import default_dtype
from flopwatt.measurement.messages import RigSpec
from flopwatt.measurement.runner import Run, now
from flopwatt.measurement.session import default_name, header
from flopwatt.measurement.tuned import store as tuning_store
from flopwatt.measurement.tuned.device import device_of
from flopwatt.measurement.tuned.records import OBJECTIVES, Entry, Objective
from flopwatt.measurement.tuning.search import (
    REGIMES,
    Shortlist,
    Wish,
    plan_for,
    refusal,
    shortlists,
    tunable,
    wishes,
)
from flopwatt.measurement.tuning.verdict import Verdict, decide
from flopwatt.runs.plan import Plan
from flopwatt.runs.records import Environment, Event, Policy
from flopwatt.runs.store import RunFile, RunWriter, read
from flopwatt.text import printable
from gemmkernels.backend import Config, Device
from gemmkernels.problem import LAYOUTS

CANDIDATES_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Tuning:
    """What to tune, as asked for. layouts: in place of each problem's own. store: None is the user's own file."""

    request: Request
    spec: RigSpec
    objective: str = "time"
    candidates: int = 10
    layouts: Sequence[str] = ()
    store: Path | None = None

    def check(self) -> Objective:
        """The objective. Raises an error for the first word that is wrong, whatever device there is."""
        self.request.check()
        if not 2 <= self.candidates <= CANDIDATES_MAX:
            raise InputError(f"--candidates {self.candidates}: give 2 to {CANDIDATES_MAX}")
        for layout in self.layouts:
            one_of("layout", layout, LAYOUTS)
        one_of("objective", self.objective, OBJECTIVES)
        return next(objective for objective in OBJECTIVES if objective == self.objective)

    def wishes(self, environment: Environment, device: Device, log: Console) -> list[Wish]:
        """What can be tuned on this device; what cannot be is logged with the reason. Raises InputError for nothing."""
        compiled = tunable()
        for name in self.request.backends:
            if name not in compiled:
                raise InputError(f"backend {name!r} has nothing to tune here: choose one of {', '.join(compiled)}")
        request = dataclasses.replace(self.request, backends=self.request.backends or compiled, processes=1)
        asked = in_layouts(wishes(request.plan(environment, default_dtype(environment))), self.layouts)
        refused = [(wish, reason) for wish in asked if (reason := refusal(wish, device))]
        for (name, reason), count in Counter((wish.backend, reason) for wish, reason in refused).items():
            log.print(printable(f"{name}: {count} problem(s) left out: {reason}"))
        left_out = {wish.key for wish, _ in refused}
        found = [wish for wish in asked if wish.key not in left_out]
        if not found:
            raise InputError(f"nothing to tune on {environment.gpu}: see `flopwatt backends` for what runs there")
        return found


def in_layouts(asked: Sequence[Wish], layouts: Sequence[str]) -> list[Wish]:
    """The wishes with each of these layouts in place of their own, each distinct one once."""
    if not layouts:
        return list(asked)
    changed = [
        dataclasses.replace(wish, problem=dataclasses.replace(wish.problem, layout=layout))
        for wish in asked
        for layout in layouts
    ]
    return list({wish.key: wish for wish in changed}.values())


def tune(tuning: Tuning, console: Console, log: Console) -> int:
    """Tunes and stores; the exit code. console: results. log: progress and remarks."""
    objective = tuning.check()
    store = tuning.store or tuning_store.user_path()
    tuning_store.load(store)  # a damaged one is said before an hour is spent, not after
    worker = start(tuning.spec, log)
    try:
        environment = worker.hello.environment
        if environment.kind != "cuda":
            raise DeviceError("tuning measures GPU kernels: there is no GPU here; --compile-only needs none")
        device = device_of(environment)
        wished = tuning.wishes(environment, device, log)
        tuning_store.make_folder(store)
        lists = _compile(wished, device, tuning.candidates, objective, log)
        planned = plan_for(lists, objective)
        plan = Plan(tuple(planned), (), 1)
        policy = Policy(seed=tuning.request.seed, budget_s=tuning.request.budget_s, shared=tuning.spec.shared)
        evidence = store.parent / f"tuning-{default_name(worker.hello, plan)}"
        writer = RunWriter.create(evidence, header(worker.hello, plan, policy))
    except BaseException:
        worker.kill()
        raise
    with writer:
        for shortlist in lists:
            writer.append(Event(at=now(), what="tuning", message=compiling(shortlist)))
        stopped = carry_out(Run(worker, tuning.spec, policy), writer, planned, log)
    return _conclude(read(writer.path), lists, objective, store, stopped, console, log)


def _compile(asked: Sequence[Wish], device: Device, most: int, objective: Objective, log: Console) -> list[Shortlist]:
    found: list[Shortlist] = []
    with log.status("compiling") if log.is_terminal else nullcontext() as status:
        for step in shortlists(asked, device, most, objective):
            if isinstance(step, Shortlist):
                found.append(step)
                log.print(printable(compiling(step)), highlight=False)
            elif status is not None:
                status.update(f"compiling: {step} candidates left")
    return found


def _conclude(
    run_file: RunFile,
    lists: Sequence[Shortlist],
    objective: Objective,
    store: Path,
    stopped: str | None,
    console: Console,
    log: Console,
) -> int:
    """Stores what the run decided, shows it, and says by the exit code how it went."""
    verdicts: list[Verdict] = []
    if run_file.segments:
        verdicts = list(decide(lists, run_file.records, run_file.segments[0], run_file.header.id, objective))
    entries = [verdict.entry for verdict in verdicts if verdict.entry]
    console.print(table(verdicts, objective))
    console.print(f"{run_file.path}", soft_wrap=True, highlight=False)
    if entries:
        tuning_store.add(store, entries)
        console.print(f"{store}", soft_wrap=True, highlight=False)
    if stopped is not None:
        log.print(f"stopped by {stopped}: {len(entries)} of {len(lists)} are tuned")
        return EXIT_INTERRUPTED
    if run_file.end is not None and run_file.end.reason != "done":
        return EXIT_UNFINISHED
    return EXIT_DONE if len(entries) == len(lists) else EXIT_NO


def compiling(shortlist: Shortlist) -> str:
    """What became of one problem's candidates in the compiler, in one line."""
    wish, tried = shortlist.wish, shortlist.tried
    words = [f"{tried.compiled} of {tried.candidates} candidates compiled"]
    words += [f"{tried.spilled} spill" if tried.spilled else ""]
    words += [f"{tried.over_shared} over shared memory" if tried.over_shared else ""]
    words += [f"{count} × {reason}" for reason, count in shortlist.failures.items()]
    problem = wish.problem
    said = ", ".join(word for word in words if word)
    return (
        f"{problem.shape} {problem.dtype} {problem.layout} {wish.backend}: {said}; {len(shortlist.configs)} to measure"
    )


def table(verdicts: Sequence[Verdict], objective: Objective) -> Table:
    """For each problem the winner, what it saves over the default, and what could not be told from it."""
    title = f"tuned for {objective} ({REGIMES[objective]})"
    shown = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    quantity = "joules" if objective == "energy" else "time"
    for name in ("M×N×K", "dtype", "layout", "backend", "measured", quantity, "default", "saved", "configuration", ""):
        shown.add_column(name, justify="right" if name in ("measured", quantity, "default", "saved") else "left")
    for verdict in verdicts:
        problem, tried = verdict.shortlist.wish.problem, verdict.tried
        first = (problem.shape, problem.dtype, problem.layout, verdict.shortlist.wish.backend, str(tried.measured))
        if verdict.entry is None:
            shown.add_row(*first, "", "", "", "", printable(verdict.reason or ""))
        else:
            shown.add_row(*first, *_figures(verdict.entry))
    return shown


def _figures(entry: Entry) -> Iterator[str]:
    evidence = entry.evidence
    energy = entry.objective == "energy"
    won, was = (
        (found.energy_j if energy else found.time_s) if found else None for found in (evidence.winner, evidence.default)
    )
    assert won is not None
    scale, unit = (1.0, "J") if energy else (1e3, "ms")
    yield f"{won.value * scale:.4g} {unit}"
    yield f"{was.value * scale:.4g} {unit}" if was else "–"
    yield f"{(1 - won.value / was.value) * 100:.1f} %" if was else "–"
    yield config_text(entry.config)
    stayed = evidence.default is not None and entry.config == evidence.default.config
    yield ", ".join(
        words
        for words in ("the default" if stayed else "", f"{len(evidence.tied)} as good" if evidence.tied else "")
        if words
    )


def config_text(config: Config) -> str:
    """A configuration in short: `128x256x64, 8 warps, 3 stages, GROUP_M 8`."""
    rest = dict(config)
    words = []
    tile = [rest.pop(name) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K") if name in rest]
    if tile:
        words.append("x".join(map(str, tile)))
    words += [f"{rest.pop(f'num_{name}')} {name}" for name in ("warps", "stages") if f"num_{name}" in rest]
    return ", ".join(words + [f"{name} {value}" for name, value in rest.items()])
