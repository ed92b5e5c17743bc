"""Tests never see, nor change, what this machine has stored of sensors and tuned kernels, nor how it started them."""

from __future__ import annotations

import os
import signal
import tempfile

_CACHE = tempfile.TemporaryDirectory(prefix="flopwatt-tests-")
# At import, not in a fixture: modules of helpers copy the environment for the processes that they start.
os.environ["XDG_CACHE_HOME"] = _CACHE.name
os.environ["XDG_DATA_HOME"] = _CACHE.name

# Tests started by nohup or in a script's background ignore some signals, and the programs they start would too: unlike
# one that is ignored, a signal that is handled, by doing nothing here, has its usual effect there.
for _number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)
