"""What the tests of kernels share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from interpreting import Interpreted, Interpreter


@pytest.fixture(scope="session")
def interpreter() -> Iterator[Interpreter]:
    """One interpreting process for all kernels: starting it takes seconds."""
    process = Interpreter()
    yield process
    process.close()


@pytest.fixture(scope="module")
def interpreted(request: pytest.FixtureRequest, interpreter: Interpreter) -> Interpreted:
    """Results of the module's cases, `INTERPRETED`, on its `BACKEND`."""
    return Interpreted(interpreter, request.module.BACKEND, request.module.INTERPRETED, {})
