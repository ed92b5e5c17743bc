"""Candidate kernels compiled ahead, in parallel, in processes that touch no GPU and may die of a compiler's fault.

Triton keeps what they compile in its cache, where the measuring process finds it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, cast

from flopwatt.measurement.endings import ended_by
from flopwatt.measurement.orphans import die_with_parent
from flopwatt.text import without_paths
from gemmkernels.backend import Config, Device, Launch, load
from gemmkernels.problem import Problem

if TYPE_CHECKING:
    from gemmkernels.triton_call import CallsOf

TIMEOUT_S: Final = 300.0
"""One configuration compiles in 0.3 to 2 s, for a dozen problems at a time."""

SPILL_BYTES: Final = 32
"""Stack that is not yet called spilling: eight registers a thread, put aside outside the main loop as far as seen."""

MULTIPLIERS: Final = ("HMMA", "IMMA", "HGMMA", "QGMMA", "IGMMA", "UTCHMMA", "UTCQMMA", "UTCIMMA")
"""Opcodes of the tensor cores of sm_80, sm_90 and sm_100, by how they begin."""

COPIES: Final = ("LDGSTS", "UTMALDG", "UTMASTG")
"""Opcodes that copy between global and shared memory: asynchronously in pieces, and by TMA."""


@dataclass(frozen=True, slots=True)
class Job:
    """One configuration of one backend to compile for several problems. opcodes: also read the machine code, 0.5 s."""

    backend: str
    config: Config
    device: Device
    problems: tuple[Problem, ...]
    opcodes: bool = False


@dataclass(frozen=True, slots=True)
class Resources:
    """What the kernels of one GEMM take, the largest of each: registers and stack a thread, shared memory a block.

    multipliers, copies: opcodes with their modifiers, where they were asked for; FFMA where no tensor core is used.
    """

    registers: int
    stack_bytes: int
    shared_bytes: int
    multipliers: tuple[str, ...] = ()
    copies: tuple[str, ...] = ()

    @property
    def spills(self) -> bool:
        """Whether registers are kept in memory to a degree that costs time."""
        return self.stack_bytes > SPILL_BYTES


Result: TypeAlias = Resources | str
"""What a configuration takes for one problem, or in one line why it did not compile."""


class _Compilable(Protocol):
    """A backend whose kernels Triton compiles."""

    calls: CallsOf

    def prepare(self, problem: Problem, config: Config, device: Device) -> Launch: ...


def is_compiled(backend: str) -> bool:
    """Whether this backend's kernels are compiled by Triton. Raises ImportError where its package is missing."""
    return hasattr(load(backend), "calls")


def compile_all(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, tuple[Result, ...]]]:
    """Compiles each job, in no order, and yields it with a result for each of its problems.

    A process that dies, or is silent for `TIMEOUT_S`, costs its problem: its job is tried again problem by problem.
    """
    waiting = deque(jobs)
    pool = [_Compiler() for _ in range(min(processes, len(jobs)))]
    try:
        while waiting or any(compiler.job for compiler in pool):
            for compiler in pool:
                if compiler.job is None and waiting:
                    compiler.start(waiting.popleft())
            for compiler in _answering(pool):
                job, results = compiler.finish()
                if results is not None:
                    yield job, results
                elif len(job.problems) == 1:
                    yield job, (compiler.obituary,)
                else:
                    waiting.extend(
                        Job(job.backend, job.config, job.device, (problem,), job.opcodes) for problem in job.problems
                    )
    finally:
        for compiler in pool:
            compiler.close()


@dataclass(slots=True)
class _Compiler:
    """One compiling process, started when it first gets a job and again after it died."""

    job: Job | None = None
    obituary: str = ""
    _process: BaseProcess | None = None
    _connection: Connection | None = None
    _begun: float = field(default=0.0)

    @property
    def connection(self) -> Connection:
        assert self._connection is not None
        return self._connection

    @property
    def late(self) -> bool:
        return self.job is not None and time.monotonic() - self._begun > TIMEOUT_S

    def start(self, job: Job) -> None:
        if self._process is None:
            # A fresh interpreter: a forked one would inherit threads and, after a simulation, open files.
            context = multiprocessing.get_context("spawn")
            self._connection, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs, os.getpid()), daemon=True)
            self._process.start()
            theirs.close()
        self.job, self._begun = job, time.monotonic()
        with contextlib.suppress(OSError):  # it died: reading will tell
            self.connection.send(job)

    def finish(self) -> tuple[Job, tuple[Result, ...] | None]:
        """The job and its results, or None for them where the process died over it or was too slow."""
        job, self.job = self.job, None
        assert job is not None
        if self.connection.poll():
            try:
                return job, self.connection.recv()
            except (EOFError, OSError):
                assert self._process is not None
                self._process.join(5)
                self.obituary = f"the compiler died: {ended_by(self._process.exitcode or 0)}"
        else:
            self.obituary = f"not compiled in {TIMEOUT_S:.0f} s"
        self.close()
        return job, None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self.connection.close()
            self._process = self._connection = None


def _answering(pool: Sequence[_Compiler]) -> list[_Compiler]:
    """Those that answered, died or are late; waits until there is one."""
    busy = [compiler for compiler in pool if compiler.job]
    while True:
        ready = wait([compiler.connection for compiler in busy], timeout=1.0)
        found = [compiler for compiler in busy if compiler.connection in ready or compiler.late]
        if found:
            return found


# In the compiling process


def _serve(connection: Connection, parent: int) -> None:
    """Answers jobs until the other end closes. What the compiler prints goes nowhere: its exceptions say enough."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command line's to handle
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    while True:
        try:
            job: Job = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(tuple(_compiled(job, problem) for problem in job.problems))


def _compiled(job: Job, problem: Problem) -> Result:
    from gemmkernels.compile_ahead import absent_operands, compile_call

    major, minor = job.device.capability or (0, 0)
    backend = cast(_Compilable, load(job.backend))
    try:
        calls = backend.calls(problem, absent_operands(problem), job.config, job.device)
        kernels = [compile_call(call, 10 * major + minor) for call in calls]
        opcodes = frozenset[str]().union(*(kernel.opcodes() for kernel in kernels)) if job.opcodes else ()
    except Exception as error:  # the compiler raises whatever it likes; a candidate that fails is data
        return _one_line(error)
    tensor = [opcode for opcode in opcodes if opcode.startswith(MULTIPLIERS)]
    return Resources(
        registers=max(kernel.registers for kernel in kernels),
        stack_bytes=max(kernel.stack_bytes for kernel in kernels),
        shared_bytes=max(kernel.shared_bytes for kernel in kernels),
        multipliers=tuple(sorted(tensor or (opcode for opcode in opcodes if opcode.startswith("FFMA")))),
        copies=tuple(sorted(opcode for opcode in opcodes if opcode.startswith(COPIES))),
    )


def _one_line(error: Exception) -> str:
    """Its type, and the first line of its message, or the last where the first says only at which place."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    said = without_paths(lines[-1] if lines[0].endswith(":") else lines[0])
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
