"""From the rows of a foreign table to the lines of a run file: chosen by suite, each case once, the rest counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from flopwatt.analysis.formats.foreign import Entry, Found, LeftOut, Machine, resolve_gpu
from flopwatt.errors import InputError
from flopwatt.runs import gpus
from flopwatt.runs.records import Environment, Event, Record, Segment, SensorIdentity, Use, case_id
from flopwatt.runs.suites import load_suite
from flopwatt.text import printable, shortened
from gemmkernels.problem import Problem

REASONS_MOST: Final = 40
"""Distinct reasons that are told apart; a file can hold as many as it has rows."""

OTHER_REASONS: Final = "for other reasons"
DUPLICATE: Final = "the same case again"
NOT_IN_SUITE: Final = "not a GEMM of the suites asked for"

_Key = tuple[int, int, int, int, str, str]


class SuiteFilter:
    """The GEMMs of some suites, found by exact shape, dtype and layout.

    fp8 scales are not compared: a suite plans with one a tensor, a table may not say what it has. Raises SuiteError
    for a suite that does not exist.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = tuple(dict.fromkeys(names))
        self._uses: dict[_Key, tuple[Use, ...]] = {}
        self._wanted: dict[tuple[str, str], set[_Key]] = {}
        self._dtypes: set[str] = set()
        for name in self._names:
            load_suite(name)

    def uses(self, problem: Problem) -> tuple[Use, ...]:
        """What the suites use this problem for; empty where none does."""
        if problem.dtype not in self._dtypes:
            self._add(problem.dtype)
        return self._uses.get(_key(problem), ())

    def coverage(self, found: set[Problem]) -> Iterator[str]:
        """For each suite and dtype that any was found of: how many there are of its distinct GEMMs.

        Those that do not count towards a training step's totals, the batched ones of attention, are not expected.
        """
        keys = {_key(problem) for problem in found}
        for (suite, dtype), wanted in self._wanted.items():
            missing = [f"{m}x{n}x{k} {layout}" for m, n, k, _, _, layout in sorted(wanted - keys)]
            if len(missing) == len(wanted):
                continue
            tail = f"; missing {shortened(', '.join(missing), 160)}" if missing else ""
            yield f"{suite} in {dtype}: {len(wanted) - len(missing)} of {len(wanted)} distinct GEMMs{tail}"

    def _add(self, dtype: str) -> None:
        """Takes in every suite in this dtype. A GEMM whose file fixes its dtype is there whatever was asked for."""
        self._dtypes.add(dtype)
        for name in self._names:
            suite = load_suite(name, dtype=dtype)
            for item in suite.items:
                if item.problem.dtype != dtype:
                    continue
                key = _key(item.problem)
                use = Use(
                    suite=suite.name,
                    dtype=suite.dtype,
                    role=item.role,
                    phase=item.phase,
                    count=item.count,
                    headline=item.headline,
                )
                self._uses[key] = (*self._uses.get(key, ()), use)
                if item.headline or suite.tokens is None:
                    self._wanted.setdefault((suite.name, dtype), set()).add(key)


class Collector:
    """Turns entries into segments and records while counting; `lines` is read once, its counts afterwards.

    run_id: 32 hexadecimal digits, of which record ids keep the first 24. gpu: keep only rows of this one; None takes
    the table's, which must then be a single one. suites: keep only their GEMMs.
    """

    def __init__(self, run_id: str, created: str, gpu: str | None, suites: SuiteFilter | None) -> None:
        self._run_id, self._created, self._gpu, self._suites = run_id, created, gpu, suites
        self._asked = gpu is not None
        self._segments: dict[Machine, int] = {}
        self._seen: set[bytes] = set()
        self._problems: set[Problem] = set()
        self.rows = 0
        self.records = 0
        self.left_out: Counter[str] = Counter()
        self.energy: Counter[str] = Counter()

    @property
    def gpu(self) -> str | None:
        """The GPU whose rows are kept."""
        return self._gpu

    def lines(self, found: Iterable[Found]) -> Iterator[Segment | Record | Event]:
        """The run file's lines after its header. Raises InputError for several GPUs, or where nothing is left."""
        for entry in found:
            if isinstance(entry, LeftOut):
                self.rows += 1
                self._leave_out(entry.reason)
                continue
            self.rows += entry.rows
            uses = self._chosen(entry)
            if uses is None:
                continue
            identity = case_id(entry.case)
            if not self._is_new(identity, entry.process):
                self._leave_out(DUPLICATE, entry.rows)
                continue
            if entry.machine not in self._segments:
                self._segments[entry.machine] = len(self._segments)
                yield _segment(entry.machine, self._segments[entry.machine], self._created)
            yield self._record(entry, uses, identity)
        if not self.records:
            why = "; ".join(self.reasons()) or "it has no rows"
            raise InputError(f"nothing to import: {shortened(why, 600)}")
        for message in (*self.reasons(), *self.coverage()):
            yield Event(at=self._created, what="import", message=message)

    def reasons(self) -> list[str]:
        """What was left out and why, most first, one line a reason."""
        return [
            f"{count} row{'s' if count > 1 else ''} left out: {printable(reason)}"
            for reason, count in self.left_out.most_common()
        ]

    def coverage(self) -> list[str]:
        """How much of each suite asked for was found."""
        return list(self._suites.coverage(self._problems)) if self._suites else []

    def _chosen(self, entry: Entry) -> tuple[Use, ...] | None:
        """The entry's uses; None where it is not to be imported, which is counted."""
        if not self._of_gpu(entry):
            return None
        uses = entry.uses
        if self._suites is not None:
            assert entry.case.problem is not None
            uses = self._suites.uses(entry.case.problem)
            if not uses:
                self._leave_out(NOT_IN_SUITE, entry.rows)
                return None
            self._problems.add(entry.case.problem)
        return uses

    def _of_gpu(self, entry: Entry) -> bool:
        gpu = entry.machine.gpu
        if gpu == self._gpu or (self._gpu is not None and resolve_gpu(gpu) == resolve_gpu(self._gpu)):
            return True
        if self._asked:
            self._leave_out("of another GPU", entry.rows)
            return False
        if self._gpu is not None:
            raise InputError(
                f"rows of {printable(self._gpu)} and of {printable(gpu)} in one table: choose one with --gpu"
            )
        self._gpu = gpu
        return True

    def _record(self, entry: Entry, uses: tuple[Use, ...], identity: str) -> Record:
        record = Record(
            id=f"{self._run_id[:24]}{self.records:08x}",
            case_id=identity,
            segment=self._segments[entry.machine],
            origin="imported",
            started=self._created,
            process=entry.process,
            case=entry.case,
            uses=uses,
            status=entry.status,
            reason=entry.reason,
            energy_status=entry.energy_status,
            energy_reason=entry.energy_reason,
            settings=dict(entry.settings),
            measurement=entry.measurement,
        )
        self.records += 1
        if entry.status == "ok":
            energy = entry.energy_status
            _count(self.energy, f"{energy}: {entry.energy_reason}" if entry.energy_reason else energy)
        return record

    def _is_new(self, identity: str, process: int) -> bool:
        """Whether this case of this process is met for the first time: a run file holds each once."""
        key = bytes.fromhex(identity) + process.to_bytes(6, "big")
        if key in self._seen:
            return False
        self._seen.add(key)
        return True

    def _leave_out(self, reason: str, rows: int = 1) -> None:
        _count(self.left_out, reason, rows)


def _count(reasons: Counter[str], reason: str, rows: int = 1) -> None:
    known = reason in reasons or len(reasons) < REASONS_MOST
    reasons[reason if known else OTHER_REASONS] += rows


def _segment(machine: Machine, number: int, created: str) -> Segment:
    spec = gpus.find(machine.gpu)
    sensor = None
    if machine.gain_uncertainty is not None:
        sensor = SensorIdentity(
            source="imported", method="as the table says", gain_uncertainty=machine.gain_uncertainty
        )
    return Segment(
        segment=number,
        started=created,
        environment=Environment(
            kind="cuda", gpu=machine.gpu, spec=spec.name if spec else None, versions=dict(machine.versions)
        ),
        board_id=machine.board_id,
        sensor=sensor,
        idle_w=machine.idle_w,
    )


def _key(problem: Problem) -> _Key:
    return problem.m, problem.n, problem.k, problem.batch, problem.dtype, problem.layout
