"""The command line's end of a measuring process: starts it, asks it, and says how it died. Prints nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Final

import flopwatt
from flopwatt import errors
from flopwatt.errors import FlopwattError, WorkerError
from flopwatt.measurement.endings import ended_by
from flopwatt.measurement.messages import (
    Broken,
    Channel,
    Done,
    Garbled,
    Hello,
    Identified,
    Identify,
    IdleRead,
    Measure,
    ReadIdle,
    Refusal,
    Reply,
    Request,
    RigSpec,
)
from flopwatt.runs.records import Planned
from flopwatt.text import anonymous, plain, shortened

START_TIMEOUT_S: Final = 180.0
"""Importing torch and making a CUDA context take seconds, on a cold network disk a minute or two."""

IDENTIFY_TIMEOUT_S: Final = 300.0
"""Identification is at most two minutes of load, after a kernel is compiled."""

IDLE_TIMEOUT_S: Final = 60.0
"""Idle power takes three seconds to read."""

STDERR_TAIL: Final = 400

OBITUARY_S: Final = 5.0
"""How long a worker that closed its socket may take to end. One stuck in its driver never does."""


class WorkerDied(Exception):
    """The worker ended without an answer; the message says how."""


class WorkerKilled(WorkerError):
    """A signal ended the worker while it started."""


class Worker:
    """A measuring process and the channel to it. Starting one raises the FlopwattError that it refused with, or a
    WorkerError where there is no process: no memory for it, or it died.

    used: it has prepared a case, and may hold memory that the case did not give back.
    """

    def __init__(self, spec: RigSpec) -> None:
        self.used = False
        self._stderr = _scratch()
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        with theirs:
            try:
                self._process = _launch(theirs, self._stderr)
            except OSError as error:
                self._channel.close()
                self._stderr.close()
                raise WorkerError(
                    f"the measuring process cannot be started ({plain(error)}): end other processes, or raise the "
                    "limits of this one"
                ) from None
        try:
            self.hello = self._greet(spec)
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def measure(self, planned: Planned, seed: int, soak: bool, timeout_s: float) -> Done | Broken:
        """Has the worker measure a case. Raises WorkerDied when it ends, or is killed after `timeout_s` of silence."""
        reply = self._ask(Measure(case=planned.case, seed=seed, soak=soak), timeout_s)
        if not isinstance(reply, Done | Broken):
            raise WorkerDied(f"the worker answered {type(reply).__name__} to a case")
        self.used |= isinstance(reply, Broken) or reply.outcome.status != "skipped"
        return reply

    def identify(self) -> Identified | Broken:
        """Has the worker identify its power sensor, which loads the GPU for under two minutes. Raises WorkerDied."""
        reply = self._ask(Identify(), IDENTIFY_TIMEOUT_S)
        if not isinstance(reply, Identified | Broken):
            raise WorkerDied(f"the worker answered {type(reply).__name__} to an identification")
        return reply

    def read_idle(self) -> IdleRead | Broken:
        """Has the worker rest and read idle power. Raises WorkerDied."""
        reply = self._ask(ReadIdle(), IDLE_TIMEOUT_S)
        if not isinstance(reply, IdleRead | Broken):
            raise WorkerDied(f"the worker answered {type(reply).__name__} to a request for idle power")
        return reply

    def _ask(self, request: Request, timeout_s: float) -> Reply:
        """The worker's answer. Raises WorkerDied when it ends, or is killed after `timeout_s` of silence."""
        try:
            self._channel.send(request)
            reply: Reply = self._channel.receive(Reply, timeout_s)
        except TimeoutError:
            self.kill()
            raise WorkerDied(f"no answer in {timeout_s:.0f} s: the kernel hangs; its process was killed") from None
        except Garbled as error:
            self.kill()
            raise WorkerDied(
                f"its process sent bytes that are no answer ({shortened(str(error))}) and was killed"
            ) from None
        except (EOFError, OSError):
            how = self._obituary()
            self.kill()
            raise WorkerDied(how) from None
        return reply

    def close(self) -> None:
        """Lets the worker end by itself, and waits for it."""
        self._channel.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._stderr.close()

    def kill(self) -> None:
        """Ends the worker and whatever it started, at once. One stuck in its driver is left to the driver."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(OBITUARY_S)
        self._channel.close()
        self._stderr.close()

    def _greet(self, spec: RigSpec) -> Hello:
        try:
            self._channel.send(spec)
            reply: Reply = self._channel.receive(Reply, START_TIMEOUT_S)
        except TimeoutError:
            raise WorkerError(
                f"the measuring process did not start in {START_TIMEOUT_S:.0f} s: see `flopwatt doctor`"
            ) from None
        except Garbled as error:
            raise WorkerError(
                f"the measuring process answered nonsense ({shortened(str(error))}): start again"
            ) from None
        except (EOFError, OSError):  # the latter where it died before it was asked
            how = self._obituary()
            died = WorkerKilled if (self._process.returncode or 0) < 0 else WorkerError
            raise died(f"the measuring process did not start ({how}): see `flopwatt doctor`") from None
        if isinstance(reply, Refusal):
            kind = getattr(errors, reply.kind, FlopwattError)
            raise kind(reply.message)
        if not isinstance(reply, Hello):
            raise WorkerError(f"the measuring process answered {type(reply).__name__} to a greeting")
        return reply

    def _obituary(self) -> str:
        try:
            code = self._process.wait(OBITUARY_S)
        except subprocess.TimeoutExpired:
            return "closed its socket but would not end"
        how = ended_by(code)
        self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, self._stderr.tell() - STDERR_TAIL))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        return f"{how}: {anonymous(lines[-1].strip())}" if lines else how


def _launch(theirs: socket.socket, words: IO[bytes]) -> subprocess.Popen[bytes]:
    """The process, with its end of the socket and a file for what it prints. Raises OSError."""
    return subprocess.Popen(
        # -P: what lies in the working directory is data, not modules to import
        [sys.executable, "-P", "-m", "flopwatt.measurement.worker", str(theirs.fileno()), str(os.getpid())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=words,
        stderr=words,
        env=_environment(),
        start_new_session=True,
    )


def _scratch() -> IO[bytes]:
    """Where a worker's words go, as long as it lives: a nameless file, in memory where no folder takes one."""
    try:
        return tempfile.TemporaryFile()
    except OSError:  # as in a container whose root is read-only
        return os.fdopen(os.memfd_create("worker"), "w+b")


def _environment() -> dict[str, str]:
    """This process's environment, with the sources it runs from, so that a bare checkout's worker finds them too."""
    sources = [str(Path(flopwatt.__file__).parents[1]), *sys.path]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(path for path in sources if path))}
