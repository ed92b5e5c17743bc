"""How a person, a scheduler or a lost connection stops a measurement, so that what was measured is kept."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived; the message names it. No Exception: libraries that we call swallow those."""


@contextmanager
def stopping_signals() -> Iterator[None]:
    """Turns SIGINT, SIGTERM (spot instances) and SIGHUP (a lost connection) into Interrupted. A second one kills."""

    def stop(number: int, _: FrameType | None) -> None:
        for name in watched:
            signal.signal(name, signal.SIG_DFL)
        raise Interrupted(signal.Signals(number).name)

    # What was ignored when we started stays ignored: nohup means that a lost connection shall not matter.
    watched = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    ]
    before = {name: signal.signal(name, stop) for name in watched}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
