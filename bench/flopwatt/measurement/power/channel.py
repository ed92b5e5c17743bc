"""What the launching side and the sampler process say to each other: JSON lines over a socket, both ways."""

from __future__ import annotations

import select
import socket
from typing import Final, Literal

import msgspec

from flopwatt.measurement.power.collected import Edge, PowerSample, SlowSample

CHUNK: Final = 1 << 16


class Hello(msgspec.Struct, tag="hello"):
    """The process's first line: the sensor it opened (`none` if it could not) and what of it cannot be read."""

    source: str
    unreadable: dict[str, str]


class Batch(msgspec.Struct, tag="batch"):
    """What a stretch has gathered since its last batch. last: the answer to `stop`."""

    stretch: int
    edges: list[Edge] = []
    power: list[PowerSample] = []
    slow: list[SlowSample] = []
    unreadable: dict[str, str] = {}
    counter_fault: str | None = None
    lost: str | None = None
    last: bool = False
    call_ns: int | None = None


class Command(msgspec.Struct):
    """What the launching side asks for: a new stretch by its number, densely polled or not, or its end."""

    action: Literal["start", "stop"]
    stretch: int
    dense: bool = False


decode_message = msgspec.json.Decoder(Hello | Batch).decode
decode_command = msgspec.json.Decoder(Command).decode


class Channel:
    """JSON lines over a socket, both ways, neither ever blocking. ended: the other side is gone."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.ended = False
        self._inbox = b""
        self.outbox = bytearray()

    def receive(self) -> list[bytes]:
        """The whole lines that have come."""
        while not self.ended:
            try:
                chunk = self.socket.recv(CHUNK)
            except BlockingIOError:
                break
            except OSError:
                chunk = b""
            self.ended = not chunk
            self._inbox += chunk
        *lines, self._inbox = self._inbox.split(b"\n")
        return lines

    def send(self, message: msgspec.Struct) -> None:
        """Sends what the socket takes; `flush` sends the rest."""
        self.outbox += msgspec.json.encode(message) + b"\n"
        self.flush()

    def flush(self) -> None:
        while self.outbox:
            try:
                del self.outbox[: self.socket.send(self.outbox)]
            except BlockingIOError:
                return
            except OSError:
                self.ended = True
                return

    def wait(self, timeout_s: float) -> None:
        """Returns once something has come, or after the timeout."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        poll.poll(timeout_s * 1e3)
