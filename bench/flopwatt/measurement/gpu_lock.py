"""One measuring process a GPU: a lock that every user of the machine sees and that ends with the process.

An address in Linux's abstract socket namespace: no file, so no folder that cannot be written, no permissions, and
nothing that a crash or `kill -9` could leave behind. Such addresses belong to a network namespace: containers on the
host's network share the lock, those with a network of their own do not see it. There NVML's list of processes is what
refuses a second run, where the driver shows it across containers.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

from flopwatt.errors import DeviceBusy

PREFIX: Final = "\0flopwatt-gpu-"
"""Of the lock's address; the leading zero byte makes it an abstract one."""


class GpuLock:
    """Holds a GPU, by its board id, for this process, until `close` or the process's end."""

    def __init__(self, board: str, name: str) -> None:
        """Takes the lock. Raises DeviceBusy where another flopwatt has it; `name` is what the message calls the GPU."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.bind(PREFIX + board)
        except OSError as error:
            self._socket.close()
            if error.errno == errno.EADDRINUSE:
                raise DeviceBusy(
                    f"another flopwatt measures on {name}: wait for it, "
                    "or measure beside it with --shared, which marks the rows"
                ) from None
            # Sandboxes that forbid such sockets: NVML still shows who else computes.

    def close(self) -> None:
        """Lets the GPU go."""
        self._socket.close()
