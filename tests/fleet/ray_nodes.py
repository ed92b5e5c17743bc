"""A Ray cluster of several nodes on 127.0.0.1, whose GPUs are declared and not there, and ways to hurt it."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# At import: Ray reads them when it is imported.
os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "f" * 64,
    }
)

STORE_B = 80 * 2**20


class Nodes:
    """A head without GPUs, and a node for each entry of `gpus`: accelerator type → how many GPUs."""

    def __init__(self, gpus: dict[str, int]) -> None:
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "num_gpus": 0, "include_dashboard": False, "object_store_memory": STORE_B}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: dict[str, Any] = {}
        for accelerator, count in gpus.items():
            self.add(accelerator, count)

    @property
    def address(self) -> str:
        return str(self.cluster.address)

    def add(self, accelerator: str, count: int) -> None:
        self.nodes[accelerator] = self.cluster.add_node(
            num_cpus=1, num_gpus=count, object_store_memory=STORE_B, resources={f"accelerator_type:{accelerator}": 1}
        )

    def kill(self, accelerator: str) -> None:
        """The node dies at once, with all that runs there."""
        self.cluster.remove_node(self.nodes.pop(accelerator), allow_graceful=False)

    def task(self, accelerator: str) -> int:
        """The process on that node which runs a GPU's task."""
        raylet = self.nodes[accelerator].all_processes["raylet"][0].process.pid
        for _ in range(200):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    words = (folder / "cmdline").read_bytes()
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                if parent == raylet and words.startswith(b"ray::measure"):
                    return int(folder.name)
            time.sleep(0.05)
        raise AssertionError(f"no task runs on the {accelerator} node")

    def signal_task(self, accelerator: str, number: signal.Signals) -> int:
        pid = self.task(accelerator)
        os.kill(pid, number)
        return pid

    def close(self) -> None:
        self.cluster.shutdown()


@contextmanager
def nodes(**gpus: int) -> Iterator[Nodes]:
    """A cluster that is gone afterwards. Ray leaves sockets and files to the garbage collector."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = Nodes(gpus)
        try:
            yield made
        finally:
            made.close()
