"""The sampler process as the launching side sees it: it polls a sensor on a clock of its own.

So no interpreter lock couples reading to launching. Each side holds one end of a socket; JSON lines go both ways. The
end of the socket is the end of the process, however the launching side went.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from typing import Final

from flopwatt.errors import DeviceError
from flopwatt.measurement.endings import ended_by
from flopwatt.measurement.power.channel import Batch, Channel, Command, Hello, decode_message
from flopwatt.measurement.power.collected import Collected
from flopwatt.measurement.power.sampler import Samples
from flopwatt.text import plain

MODULE: Final = "flopwatt.measurement.power.serving"

READY_S: Final = 30.0
"""Bound on the start: NVML alone takes seconds where the driver is not kept loaded."""

ANSWER_S: Final = 5.0
"""Bound on `stop`: a driver call that hangs must not hang the run."""

END_S: Final = 2.0


class NullSampler:
    """Stands in where there is no sensor: it samples nothing and says why. unreadable: quantity → why."""

    source = "none"

    def __init__(self, unreadable: dict[str, str]) -> None:
        self.unreadable = unreadable

    def start(self, *, dense: bool = False) -> None:
        """Nothing begins."""

    def peek(self) -> Samples:
        return Samples(source=self.source, unreadable=self.unreadable)

    def stop(self) -> Samples:
        return self.peek()

    def close(self) -> None:
        """Nothing is held."""


class ProcessSampler:
    """A sampler in a process of its own. If that dies, samples say so in `lost`, and the next `start` replaces it.

    target: the sensor, as in `open_sampler`. source, unreadable: as the sensor answered when it was opened.
    """

    def __init__(self, target: str) -> None:
        """Starts the process and waits until its sensor is open. Raises DeviceError where it cannot be."""
        self._target = target
        self._stretch = 0
        self._running = False
        self._launch()
        self._collected = Collected(self.source)

    @property
    def pid(self) -> int:
        """The process that polls now."""
        return self._process.pid

    def start(self, *, dense: bool = False) -> None:
        self._stretch += 1
        self._collected = Collected(self.source, dense=dense)
        self._running = True
        self._channel.receive()  # what is left of an earlier stretch, or word of the process's end
        if self._channel.ended:
            self.close()
            try:
                self._launch()
            except DeviceError as error:
                self._lose(f"the sampler process cannot be replaced: {error}")
                return
        self._channel.send(Command("start", self._stretch, dense))

    def peek(self) -> Samples:
        self._take()
        return self._collected.samples()

    def stop(self) -> Samples:
        if self._running:
            self._channel.send(Command("stop", self._stretch))
        deadline = time.monotonic() + ANSWER_S
        while self._running:
            self._take()
            left = deadline - time.monotonic()
            if left <= 0 and self._running:
                self._lose(f"the sampler process did not answer within {ANSWER_S:.0f} s: is the driver hanging?")
            elif self._running:
                self._channel.wait(left)
        return self._collected.samples()

    def close(self) -> None:
        self._channel.socket.close()
        self._channel.ended = True
        for insist in (self._process.terminate, self._process.kill, lambda: None):
            try:
                self._process.wait(timeout=END_S)
                return
            except subprocess.TimeoutExpired:
                insist()

    def _launch(self) -> None:
        ours, theirs = socket.socketpair()
        # What is importable here is importable there, in a bare checkout too.
        path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), self._target],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "PYTHONPATH": path},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    process_group=0,  # Ctrl-C is for the command line, which then closes the socket
                )
            except OSError as error:
                ours.close()
                raise DeviceError(f"the sampler process cannot be started ({plain(error)})") from None
        self._channel = Channel(ours)
        hello = self._hello()
        if hello.source == "none":
            self.close()
            raise DeviceError(hello.unreadable["power"])
        self.source, self.unreadable = hello.source, hello.unreadable

    def _hello(self) -> Hello:
        deadline = time.monotonic() + READY_S
        while (left := deadline - time.monotonic()) > 0 and not self._channel.ended:
            self._channel.wait(left)
            for message in map(decode_message, self._channel.receive()):
                if isinstance(message, Hello):
                    return message
        ended = self._channel.ended
        why = self._ending() if ended else f"was not ready within {READY_S:.0f} s: is the driver hanging?"
        self.close()
        raise DeviceError(f"the sampler process {why}")

    def _take(self) -> None:
        """Adds what the process has sent of this stretch."""
        for message in map(decode_message, self._channel.receive()):
            if isinstance(message, Batch) and message.stretch == self._stretch:
                self._add(message)
        if self._channel.ended and self._running:
            self._lose(f"the sampler process {self._ending()}")

    def _add(self, batch: Batch) -> None:
        collected = self._collected
        for edge in batch.edges:
            collected.edges.append(edge)
        for power in batch.power:
            collected.power.append(power)
        for slow in batch.slow:
            collected.slow.append(slow)
        collected.unreadable = batch.unreadable
        collected.counter_fault = batch.counter_fault
        collected.lost = batch.lost
        collected.call_ns = batch.call_ns
        self._running = not batch.last

    def _lose(self, why: str) -> None:
        self._collected.lost = self._collected.lost or why
        self._running = False

    def _ending(self) -> str:
        try:
            status = self._process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:
            return "closed its socket"
        return f"ended: {ended_by(status)}"


def open_sampler(target: str) -> ProcessSampler | NullSampler:
    """A sampler in a process of its own, or a NullSampler that gives the reason under `power`.

    target: `nvml` for the first GPU, `nvml:SELECTOR` as in `Nvml.find` (pass CUDA's own UUID), `rapl`,
    `rapl:DIRECTORY` for another powercap tree than the kernel's, or `cpu` for RAPL by powercap or else by perf.
    """
    try:
        return ProcessSampler(target)
    except DeviceError as error:
        return NullSampler({"power": str(error)})
