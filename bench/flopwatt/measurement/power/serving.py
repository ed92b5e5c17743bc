"""What runs in the sampler process: opens a sensor and polls it, stretch by stretch, as the launching side commands.

`python -m flopwatt.measurement.power.serving FD TARGET` speaks over the inherited socket FD; see channel.py.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from bisect import bisect_right
from pathlib import Path
from typing import Final

from flopwatt.errors import DeviceError
from flopwatt.measurement.clock import MonotonicClock
from flopwatt.measurement.orphans import die_with_parent
from flopwatt.measurement.power.channel import Batch, Channel, Hello, decode_command
from flopwatt.measurement.power.collected import Entry, Thinned
from flopwatt.measurement.power.dense import DensePoller
from flopwatt.measurement.power.polling import NEVER, Poller
from flopwatt.measurement.power.sensor import PowerSensor, SensorLost
from flopwatt.runs.effort import MS

BATCH_NS: Final = 100 * MS
ORPHAN_CHECK_S: Final = 0.5


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
