"""How a process ended, in words."""

from __future__ import annotations

import signal


def ended_by(code: int) -> str:
    """What `subprocess` says of an end, in words: `killed by SIGSEGV`, `exit code 3`."""
    return f"killed by {signal_name(-code)}" if code < 0 else f"exit code {code}"


def signal_name(number: int) -> str:
    """What a signal is called: SIGSEGV, or its number where it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
