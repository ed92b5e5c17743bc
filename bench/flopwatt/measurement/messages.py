"""What the command line and the worker say to each other, and the socket they say it over.

Each message is one JSON value behind its length in four bytes. The socket is the only channel: whatever a kernel or a
library prints to the worker's standard output can never be taken for a result.
"""

from __future__ import annotations

import select
import socket
import struct
from typing import Final, TypeAlias, TypeVar

import msgspec

from flopwatt.errors import InputError
from flopwatt.measurement.case import Again, Outcome
from flopwatt.runs.records import Case, Environment, Origin, SensorIdentity
from flopwatt.text import printable

MESSAGE_MAX: Final = 64 * 2**20
_LENGTH: Final = struct.Struct("!I")


class RigSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which machine to measure on: a real device, or the scenario file of a simulated one.

    device: `auto`, `cpu` or `cuda:N`. board: number of a simulated one. idle: whether to spend two seconds on idle
    power. process: which of the run's processes this is; a simulation draws its run-to-run spread from it.
    """

    device: str = "auto"
    scenario: str | None = None
    board: int = 0
    seed: int = 0
    process: int = 0
    shared: bool = False
    idle: bool = True

    def __post_init__(self) -> None:
        """Raises InputError for words that no message can carry: a path may be any bytes, JSON is UTF-8."""
        for word in (self.device, self.scenario or ""):
            if any("\ud800" <= character <= "\udfff" for character in word):
                raise InputError(f"{printable(word)}: not UTF-8: rename the file")


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker is ready: what it found."""

    origin: Origin
    environment: Environment
    board_id: str | None
    sensor: SensorIdentity
    idle_w: float | None
    idle_context_w: float | None


class Refusal(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The worker cannot start: one line for the user. kind: the name of the error type."""

    kind: str
    message: str


class Measure(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Measure this case."""

    case: Case
    seed: int
    soak: bool


class ReadIdle(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Rest, then read idle power: the run's load is over."""


class IdleRead(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Idle watts with a context after the load, None where unreadable."""

    idle_w: float | None


class Identify(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Identify the power sensor, and store what was found."""


class Identified(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What is known of the sensor now, and the seconds it took on the rig's clock. not_stored: why, None if it was."""

    identity: SensorIdentity
    elapsed_s: float
    not_stored: str | None


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What became of the case, and the seconds it took on the rig's clock (virtual ones in a simulation)."""

    outcome: Outcome
    elapsed_s: float


class Broken(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The request raised. fatal: the worker's context may be corrupt and the worker ends. again: as in `Outcome`."""

    message: str
    traceback: str
    fatal: bool
    again: Again | None = None


Request: TypeAlias = Measure | Identify | ReadIdle
Reply: TypeAlias = Hello | Refusal | Done | Identified | IdleRead | Broken
T = TypeVar("T")


class Garbled(Exception):
    """What came from the other process is no message."""


class Channel:
    """One end of the socket between the command line and a worker."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, message: object) -> None:
        """Sends a message whole. Raises OSError when the other end is gone."""
        data = msgspec.json.encode(message)
        self._socket.sendall(_LENGTH.pack(len(data)) + data)

    def receive(self, kind: type[T] | object, timeout_s: float | None = None) -> T:
        """The next message. Raises EOFError when the other end is gone, TimeoutError after `timeout_s` of silence.

        Raises Garbled for bytes that are no message: what a kernel ran amok in a worker may have written here.
        """
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, timeout_s))
        if length > MESSAGE_MAX:
            raise Garbled("a message longer than any worker sends")
        try:
            decoded: T = msgspec.json.decode(self._read(length, timeout_s), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Garbled(str(error)) from None
        return decoded

    def close(self) -> None:
        """Closes this end; the other end reads an end of file."""
        self._socket.close()

    def _read(self, size: int, timeout_s: float | None) -> bytes:
        data = bytearray()
        while len(data) < size:
            if not select.select([self._socket], [], [], timeout_s)[0]:
                raise TimeoutError(f"no answer in {timeout_s:.0f} s")
            try:
                part = self._socket.recv(size - len(data))
            except ConnectionResetError:
                part = b""
            if not part:
                raise EOFError("the other process is gone")
            data += part
        return bytes(data)
