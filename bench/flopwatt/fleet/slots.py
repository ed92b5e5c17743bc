"""The places of a fleet where a board is measured: real GPUs and CPUs of a cluster's nodes, or simulated ones."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from flopwatt.errors import InputError
from flopwatt.measurement.simulation.loading import load_scenario

TYPE_PREFIX: Final = "accelerator_type:"
"""Ray's name for the resource by which a node tells what kind of GPU it has."""

GPUS_MOST: Final = 100_000


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one board is measured.

    accelerator: Ray's word for the kind of GPU (`H100`), `cpu`, or a scenario's name. node, gpu: numbers, from 0; of:
    how many GPUs that node has. where: Ray's id of the node, None where any will do. cpus: of the node, for a CPU.
    scenario, board: of a simulated one.
    """

    accelerator: str
    node: int
    gpu: int = 0
    of: int = 1
    where: str | None = None
    cpus: float = 0.0
    scenario: str | None = None
    board: int = 0

    @property
    def label(self) -> str:
        """What a board without an id of its own is known by."""
        return f"node {self.node} GPU {self.gpu}"


def of_cluster(nodes: Sequence[Mapping[str, Any]], device: str, accelerators: Sequence[str] = ()) -> list[Slot]:
    """The GPUs of a cluster's living nodes, or their CPUs. nodes: as `ray.nodes()` tells them. device: auto, cuda, cpu.

    `auto` is the GPUs, and the CPUs only where no node has any. Raises InputError where nothing is left to measure.
    """
    alive = sorted((n for n in nodes if n["Alive"]), key=lambda n: (n.get("NodeManagerAddress", ""), n["NodeID"]))
    gpus = [slot for number, node in enumerate(alive) for slot in _gpus(number, node)]
    if device == "cpu" or (device == "auto" and not gpus and not accelerators):
        return [_cpu(number, node) for number, node in enumerate(alive) if node["Resources"].get("CPU")]
    wanted = {name.lower() for name in accelerators}
    found = [slot for slot in gpus if not wanted or slot.accelerator.lower() in wanted]
    if not found:
        kinds = ", ".join(sorted({slot.accelerator for slot in gpus})) or "no GPU"
        raise InputError(
            f"nothing to measure: the cluster has {kinds}"
            + (f", and --accelerator asks for {', '.join(accelerators)}" if wanted else "")
            + ": give --device cpu for its CPUs, or --simulate"
        )
    return found


def _gpus(number: int, node: Mapping[str, Any]) -> Iterator[Slot]:
    resources = node["Resources"]
    count = int(resources.get("GPU", 0))
    types = [name.removeprefix(TYPE_PREFIX) for name in resources if name.startswith(TYPE_PREFIX)]
    for gpu in range(count):
        yield Slot(types[0] if types else "gpu", number, gpu, count, node["NodeID"])


def _cpu(number: int, node: Mapping[str, Any]) -> Slot:
    return Slot("cpu", number, where=node["NodeID"], cpus=node["Resources"]["CPU"])


def simulated(scenarios: Sequence[str], nodes: int, per_node: int) -> list[Slot]:
    """That many simulated nodes of each scenario, which any node of the cluster computes. Raises InputError."""
    if not 0 < nodes * per_node <= GPUS_MOST or min(nodes, per_node) < 1:
        raise InputError(f"--gpus: {nodes * per_node:,} of them: give 1 to {GPUS_MOST:,} GPUs, such as 16 or 4x8")
    return [
        Slot(name, kind * nodes + node, gpu, per_node, None, 1.0, scenario, node * per_node + gpu)
        for kind, (scenario, name) in enumerate((scenario, load_scenario(scenario).name) for scenario in scenarios)
        for node in range(nodes)
        for gpu in range(per_node)
    ]


def simulated_on(slots: Sequence[Slot], scenarios: Sequence[str]) -> list[Slot]:
    """The cluster's GPUs with a simulated board in each: of the scenario whose GPU is of that type.

    One scenario alone goes everywhere. Raises InputError for a type that none of several is of.
    """
    names = {scenario: load_scenario(scenario).gpu.name.lower() for scenario in scenarios}
    counts: dict[str, int] = defaultdict(int)
    found = []
    for slot in slots:
        fitting = [one for one, name in names.items() if slot.accelerator.lower() in name]
        if not fitting and len(names) > 1:
            raise InputError(f"no scenario of a {slot.accelerator}: give one more --simulate, or a single one for all")
        scenario = (fitting or list(names))[0]
        found.append(replace(slot, scenario=scenario, board=counts[scenario]))
        counts[scenario] += 1
    return found
