"""No process outlives the one that started it: an orphan would keep a GPU, or its driver, busy."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent: int) -> None:
    """Asks the kernel to kill this process when its parent, of this process id, dies.

    The parent, to the kernel, is the thread that started this process: one that lives as long as this shall.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # the parent died before the request took effect
