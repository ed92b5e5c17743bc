"""`flopwatt fleet run`: the same plan on every GPU of a cluster, a run file each, and an account of all."""

from __future__ import annotations

import math
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from flopwatt.analysis.report import fleet as shown
from flopwatt.commands.request import Request
from flopwatt.commands.run import EXIT_DONE, EXIT_INTERRUPTED, EXIT_NO, EXIT_UNFINISHED, plan_view
from flopwatt.commands.stopping import Interrupted, stopping_signals
from flopwatt.errors import DeviceError, InputError, RunFileError
from flopwatt.fleet import slots as places
from flopwatt.fleet.agent import Said
from flopwatt.fleet.cluster import RayCluster
from flopwatt.fleet.folder import Folder
from flopwatt.fleet.gathering import Gathering
from flopwatt.fleet.slots import Slot
from flopwatt.measurement.messages import RigSpec
from flopwatt.measurement.runner import now
from flopwatt.measurement.session import stamp
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.runs.account import Account, Fate, Mode, SharedPlan
from flopwatt.runs.records import Event, Policy, Record
from flopwatt.runs.suites import DeviceKind
from flopwatt.text import printable

FORMATS: Final[dict[DeviceKind, tuple[str, ...]]] = {"cuda": ("bf16",), "cpu": ("bf16", "fp32")}
"""The formats of choice that devices of a kind may have: a CPU without bf16 instructions takes fp32."""

PER_NODE: Final = 8
"""GPUs of a simulated node, where --gpus gives a plain number."""

_GPUS: Final = re.compile(r"(\d{1,6})(?:x(\d{1,6}))?")


@dataclass(frozen=True, slots=True)
class Words:
    """What the command line says of the fleet itself. gpus: `N` or `NODESxGPUS` simulated ones; nodes: to wait for."""

    address: str | None = None
    nodes: int = 1
    together: bool = False
    device: str = "auto"
    accelerators: Sequence[str] = ()
    simulate: Sequence[str] = ()
    gpus: str | None = None
    shared: bool = False
    plan_only: bool = False


def run(request: Request, words: Words, output: Path | None, console: Console, log: Console) -> int:
    """Measures a new fleet run; the exit code. Raises FlopwattError where it cannot begin."""
    request.check()
    counted = _counted(words)
    for scenario in words.simulate:
        load_scenario(scenario)
    virtual = places.simulated(words.simulate, *counted) if counted else None
    if virtual and words.plan_only:
        return _show_plan(_account(request, words, virtual, counted), console)
    path = output or Path(f"fleet-{stamp()}")
    Folder.check(path)

    def measure(cluster: RayCluster) -> int:
        slots = virtual or _slots(cluster, words)
        account = _account(request, words, slots, counted)
        if words.plan_only:
            return _show_plan(account, console)
        return _gather(cluster, Folder.create(path, account), slots, words.shared, console, log)

    return _on_cluster(words.address, measure, log)


def resume(path: Path, words: Words, console: Console, log: Console) -> int:
    """Measures what a fleet run's boards still lack; the exit code."""
    folder = Folder.reopen(path)
    account = folder.account
    kind = "cpu" if account.gpus and all(gpu.accelerator == "cpu" for gpu in account.gpus) else words.device
    like = replace(words, together=account.mode == "together", device=kind, simulate=account.scenarios)
    virtual = places.simulated(account.scenarios, *account.simulated) if account.simulated else None

    def measure(cluster: RayCluster) -> int:
        return _gather(cluster, folder, virtual or _slots(cluster, like), account.policy.shared, console, log)

    return _on_cluster(words.address, measure, log)


def _on_cluster(address: str | None, measure: Callable[[RayCluster], int], log: Console) -> int:
    """Does it on a cluster, and leaves that in any case; a signal is one line, whenever it arrives."""
    try:
        with stopping_signals():
            cluster = RayCluster(address)
            try:
                return measure(cluster)
            finally:
                cluster.close()
    except (Interrupted, SystemExit) as stop:
        # Ray, from its start on, answers SIGTERM by an exit of that code.
        if isinstance(stop, SystemExit) and stop.code != signal.SIGTERM:
            raise
        told = stop if isinstance(stop, Interrupted) else "SIGTERM"
        log.print(f"stopped by {told}, while nothing was being measured")
        return EXIT_INTERRUPTED


def _counted(words: Words) -> tuple[int, int] | None:
    """Simulated nodes and GPUs of each; None where the cluster's own GPUs are meant. Raises InputError."""
    if words.device not in ("auto", "cuda", "cpu"):
        raise InputError(f"unknown --device {words.device!r}: give auto, cuda or cpu; --accelerator chooses among GPUs")
    if words.gpus is None:
        return None
    if not words.simulate:
        raise InputError("--gpus counts simulated GPUs: it goes with --simulate")
    match = _GPUS.fullmatch(words.gpus)
    if match is None:
        raise InputError(f"--gpus {words.gpus!r}: write a number of GPUs, or nodes x GPUs such as 4x8")
    count = int(match[1])
    if match[2] is not None:
        return count, int(match[2])
    return (1, count) if count <= PER_NODE else (-(-count // PER_NODE), PER_NODE)


def _slots(cluster: RayCluster, words: Words) -> list[Slot]:
    """The cluster's own GPUs or CPUs, or its GPUs with a simulated board in each."""
    device = "cuda" if words.simulate else words.device
    try:
        found = places.of_cluster(cluster.nodes(words.nodes), device, words.accelerators)
    except InputError:
        if words.simulate:
            raise InputError("the cluster has no such GPU: say how many to simulate with --gpus") from None
        raise
    return places.simulated_on(found, words.simulate) if words.simulate else found


def _account(request: Request, words: Words, slots: Sequence[Slot], counted: tuple[int, int] | None) -> Account:
    kind: DeviceKind = "cpu" if slots[0].accelerator == "cpu" else "cuda"
    plans = {dtype: request.plan_for(kind, dtype) for dtype in FORMATS[kind]}
    processes = max(plan.processes for plan in plans.values())
    mode: Mode = "together" if words.together else "alone"
    return Account(
        created=now(),
        mode=mode,
        policy=Policy(seed=request.seed, processes=processes, budget_s=request.budget_s, shared=words.shared),
        plans=tuple(SharedPlan(dtype=dtype, cases=plan.cases, suites=plan.suites) for dtype, plan in plans.items()),
        scenarios=tuple(words.simulate),
        simulated=counted,
        gpus=tuple(Fate(accelerator=slot.accelerator, node=slot.node, gpu=slot.gpu) for slot in slots),
    )


def _gather(
    cluster: RayCluster, folder: Folder, slots: Sequence[Slot], shared: bool, console: Console, log: Console
) -> int:
    spec = RigSpec(seed=folder.account.policy.seed, shared=shared)
    stopped = None
    log.print(printable(_beginning(folder, slots)))
    with _telling(log, len(slots)) as tell:
        gathering = Gathering(cluster, folder, slots, spec, tell)
        try:
            with stopping_signals():
                gathering.run()
        except (Interrupted, KeyboardInterrupt) as stop:
            stopped = str(stop) or "Ctrl-C"
            gathering.stop(stopped)
        except BaseException:
            gathering.stop("the driver failed")
            with suppress(RunFileError):
                folder.settle(gathering.fates)
            raise
        account = folder.settle(gathering.fates)
    console.print(shown.account_view(account))
    if stopped is None and any(gpu.measured for gpu in account.gpus):
        console.print(shown.folder_view(folder.path))
    console.print(f"{folder.path}", soft_wrap=True, highlight=False)
    if stopped is not None:
        log.print(f"stopped by {stopped}; continue with: flopwatt fleet run --resume {folder.path}")
        return EXIT_INTERRUPTED
    return _exit_code(account)


def _show_plan(account: Account, console: Console) -> int:
    """What each GPU would measure, and how long that takes for all of them."""
    kind: DeviceKind = "cpu" if account.gpus[0].accelerator == "cpu" else "cuda"
    plan = account.plans[0].plan(account.policy)
    on_a_node = Counter(gpu.node for gpu in account.gpus)
    turns = 1 if account.mode == "together" else max(on_a_node.values())
    seconds = min(plan.seconds(kind), account.policy.budget_s or math.inf)
    console.print(plan_view(plan, kind))
    how = _how_many(account.mode, [gpu.node for gpu in account.gpus])
    console.print(f"\neach of {how}: about {turns * seconds / 60:.1f} minutes in all")
    return EXIT_DONE


def _how_many(mode: Mode, nodes: Sequence[int]) -> str:
    """So many GPUs and nodes, and how they take turns. nodes: each GPU's."""
    how = "all at once" if mode == "together" else "one at a time on each node"
    return f"{len(nodes):,} GPU{'s' if len(nodes) > 1 else ''} on {len(set(nodes)):,} node(s), {how}"


def _beginning(folder: Folder, slots: Sequence[Slot]) -> str:
    cases = len(folder.account.plans[0].cases)
    return f"{_how_many(folder.account.mode, [slot.node for slot in slots])}, {cases} cases each → {folder.path}"


def _exit_code(account: Account) -> int:
    """1 where a case failed or all were skipped, 3 where a GPU did not finish. Raises DeviceError where none began."""
    gpus = account.gpus
    if all(gpu.became == "refused" for gpu in gpus):
        raise DeviceError(f"no GPU could be measured: {gpus[0].reason}")
    measured = sum(gpu.measured for gpu in gpus)
    if any(gpu.failed_cases for gpu in gpus) or 0 < measured == sum(gpu.skipped_cases for gpu in gpus):
        return EXIT_NO
    return EXIT_DONE if all(gpu.became == "done" for gpu in gpus) else EXIT_UNFINISHED


@contextmanager
def _telling(log: Console, total: int) -> Iterator[_Told]:
    if not log.is_terminal:
        yield _Told(log, None, total)
        return
    columns = (TextColumn("GPUs"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[last]}"))
    with Progress(*columns, console=log, transient=True) as bar:
        yield _Told(log, bar, total)


class _Told:
    """Says what became of each GPU, and events as they happen; on a terminal also what was measured last."""

    def __init__(self, log: Console, bar: Progress | None, total: int) -> None:
        self._log = log
        self._bar = bar
        self._total = total
        self._done = 0
        self._task = bar.add_task("", total=total, last="") if bar else None

    def __call__(self, slot: Slot, said: Said | Fate) -> None:
        where = f"{slot.accelerator}, node {slot.node}, GPU {slot.gpu}"
        match said:
            case Fate():
                self._done += 1
                counts = f"{said.measured} of {said.planned} cases" if said.planned else ""
                told = ", ".join(filter(None, (said.became, counts, said.reason)))
                self._log.print(printable(f"[{self._done}/{self._total}] {where}: {told}"))
                if self._bar is not None and self._task is not None:
                    self._bar.update(self._task, completed=self._done)
            case Record() if self._bar is not None and self._task is not None:
                self._bar.update(self._task, last=printable(f"{where}: {said.case.label}"))
            case Event() if said.what != "fleet":
                self._log.print(printable(f"  {where}: {said.message}"), style="yellow")
