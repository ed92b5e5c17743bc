"""The sampler process: polls a sensor on a clock of its own, so that no interpreter lock couples reading to launching.

The launching side holds one end of a socket, the process the other; JSON lines go both ways. The end of the socket
is the end of the process, however the launching side went.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from bisect import bisect_right
from pathlib import Path
from typing import Final

from flopwatt.errors import DeviceError
from flopwatt.measurement.clock import MonotonicClock
from flopwatt.measurement.orphans import die_with_parent
from flopwatt.measurement.power.channel import Batch, Channel, Command, Hello, decode_command, decode_message
from flopwatt.measurement.power.collected import MS, Collected, Entry, Thinned
from flopwatt.measurement.power.dense import DensePoller
from flopwatt.measurement.power.polling import NEVER, Poller
from flopwatt.measurement.power.sampler import Samples
from flopwatt.measurement.power.sensor import PowerSensor, SensorLost

MODULE: Final = "flopwatt.measurement.power.process"

READY_S: Final = 30.0
"""Bound on the start: NVML alone takes seconds where the driver is not kept loaded."""

ANSWER_S: Final = 5.0
"""Bound on `stop`: a driver call that hangs must not hang the run."""

END_S: Final = 2.0
BATCH_NS: Final = 100 * MS
ORPHAN_CHECK_S: Final = 0.5


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
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), self._target],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,  # Ctrl-C is for the command line, which then closes the socket
            )
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
        return f"was ended by signal {-status}" if status < 0 else f"ended with exit status {status}"


def open_sampler(target: str) -> ProcessSampler | NullSampler:
    """A sampler in a process of its own, or a NullSampler that gives the reason under `power`.

    target: `nvml` for the first GPU, `nvml:SELECTOR` as in `Nvml.find` (pass CUDA's own UUID), `rapl`,
    `rapl:DIRECTORY` for another powercap tree than the kernel's, or `cpu` for RAPL by powercap or else by perf.
    """
    try:
        return ProcessSampler(target)
    except DeviceError as error:
        return NullSampler({"power": str(error)})


class _Stretch:
    """One stretch inside the process: its poller, and what of it has been sent."""

    def __init__(self, number: int, sensor: PowerSensor, dense: bool) -> None:
        self.number = number
        self.due_ns = 0
        clock = MonotonicClock()
        self._poller: Poller | DensePoller = (
            DensePoller(sensor, clock)
            if dense
            else Poller(sensor, clock, counter_tick_ns=getattr(sensor, "tick_ns", None))
        )
        self._sent_ns = 0
        self._lost_sent = False

    def step(self, now_ns: int) -> Batch | None:
        """Takes the readings that are due; a batch where it is time for one."""
        if now_ns >= self.due_ns:
            self.due_ns = self._poller.poll()
        lost_now = self._poller.collected.lost is not None and not self._lost_sent
        return self._batch() if lost_now or now_ns - self._sent_ns >= BATCH_NS else None

    def last(self) -> Batch:
        """The end of the stretch."""
        self._poller.finish()
        return self._batch(last=True)

    def _batch(self, *, last: bool = False) -> Batch:
        collected, since = self._poller.collected, self._sent_ns
        self._sent_ns = time.monotonic_ns()
        self._lost_sent = collected.lost is not None
        return Batch(
            self.number,
            _after(collected.edges, since),
            _after(collected.power, since),
            _after(collected.slow, since),
            collected.unreadable,
            collected.counter_fault,
            collected.lost,
            last,
            collected.call_ns,
        )


def _after(thinned: Thinned[Entry], t_ns: int) -> list[Entry]:
    """The entries not sent yet: time orders them, and every entry is kept before the clock moves past it."""
    return thinned.entries[bisect_right(thinned.entries, t_ns, key=lambda entry: entry.t_ns) :]


def _serve(channel: Channel, sensor: PowerSensor) -> None:
    """Obeys commands until the launching side is gone."""
    parent = os.getppid()
    stretch: _Stretch | None = None
    while not channel.ended and os.getppid() == parent:
        due_ns = stretch.due_ns if stretch else NEVER
        wait_s = min(max(due_ns - time.monotonic_ns(), 0) * 1e-9, ORPHAN_CHECK_S)
        readable, _, _ = select.select([channel.socket], [channel.socket] if channel.outbox else [], [], wait_s)
        channel.flush()
        for command in map(decode_command, channel.receive() if readable else ()):
            if command.action == "start":
                stretch = _Stretch(command.stretch, sensor, command.dense)
            elif stretch and stretch.number == command.stretch:
                channel.send(stretch.last())
                stretch = None
        if stretch and (batch := stretch.step(time.monotonic_ns())):
            channel.send(batch)


def _open_sensor(target: str) -> PowerSensor:
    kind, _, selector = target.partition(":")
    if kind == "nvml":
        from flopwatt.measurement.power.nvml import open_nvml

        return open_nvml(selector or None)
    if kind == "rapl":
        from flopwatt.measurement.power.rapl import POWERCAP, open_rapl

        return open_rapl(Path(selector) if selector else POWERCAP)
    if kind == "cpu":
        return _open_cpu_sensor()
    raise DeviceError(f"no power sensor is called {kind!r}: nvml, rapl or cpu")


def _open_cpu_sensor() -> PowerSensor:
    """RAPL's counters through powercap, else through perf: the same counters under other permissions."""
    from flopwatt.measurement.power.perf import open_perf
    from flopwatt.measurement.power.rapl import open_rapl

    try:
        return open_rapl()
    except DeviceError as no_powercap:
        try:
            return open_perf()
        except DeviceError as no_perf:
            raise DeviceError(f"{no_powercap}; {no_perf}") from None


def _hello(sensor: PowerSensor) -> Hello:
    """Asks for everything once, so that what cannot be read is known from the start."""
    sensor.read_counter()
    sensor.read_power()
    sensor.read_slow()
    return Hello(sensor.source, sensor.unreadable)


def main(arguments: list[str]) -> None:
    """The process: `arguments` are its socket's file descriptor and the target."""
    die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel = Channel(socket.socket(fileno=int(arguments[0])))
    try:
        sensor = _open_sensor(arguments[1])
        channel.send(_hello(sensor))
    except (DeviceError, SensorLost) as error:
        channel.send(Hello("none", {"power": str(error)}))
        return
    _serve(channel, sensor)
    sensor.close()


if __name__ == "__main__":
    main(sys.argv[1:])
