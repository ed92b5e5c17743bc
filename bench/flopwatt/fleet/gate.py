"""Where the GPUs of a node wait for each other, so that all begin at once and each holds a GPU of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping


class Gate:
    """A Ray actor. expected: how many GPUs of each node are to come."""

    def __init__(self, expected: Mapping[int, int]) -> None:
        self._missing = dict(expected)
        self._came = dict.fromkeys(expected, 0)
        self._open = {node: asyncio.Event() for node in expected}

    async def arrive(self, node: int, timeout_s: float) -> int:
        """Waits until nobody of the node is missing, or for so long; how many came."""
        self._came[node] += 1
        self.excuse(node)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._open[node].wait(), timeout_s)
        return self._came[node]

    def excuse(self, node: int) -> None:
        """One GPU of the node will not come any more."""
        self._missing[node] -= 1
        if self._missing[node] <= 0:
            self._open[node].set()
