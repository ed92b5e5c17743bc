"""Tests never see, nor change, what this machine has stored of its sensors and of tuned kernels."""

from __future__ import annotations

import os
import tempfile

_CACHE = tempfile.TemporaryDirectory(prefix="flopwatt-tests-")
# At import, not in a fixture: modules of helpers copy the environment for the processes that they start.
os.environ["XDG_CACHE_HOME"] = _CACHE.name
os.environ["XDG_DATA_HOME"] = _CACHE.name
