"""What the tests of kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from interpreting import Interpreter


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """One interpreting process for all kernels: starting it takes seconds."""
    process = Interpreter()
    yield process
    process.close()
