"""Where boards are measured: read from what Ray tells of its nodes."""

from __future__ import annotations

from typing import Any

import pytest

from flopwatt.errors import InputError
from flopwatt.fleet.slots import Slot, of_cluster, simulated, simulated_on


def node(name: str, alive: bool = True, **resources: float) -> dict[str, Any]:
    return {
        "NodeID": name, "NodeManagerAddress": f"10.0.0.{name}", "Alive": alive,
        "Resources": {key.replace("__", ":"): value for key, value in resources.items()},
    }  # fmt: skip


NODES = [
    node("3", CPU=8.0, GPU=2.0, accelerator_type__H100=1.0),
    node("1", CPU=4.0),
    node("2", CPU=8.0, GPU=1.0, accelerator_type__A100=1.0),
    node("4", alive=False, CPU=8.0, GPU=8.0, accelerator_type__H100=1.0),
]


def test_gpus_of_living_nodes_in_the_order_of_their_addresses() -> None:
    assert of_cluster(NODES, "auto") == [
        Slot("A100", 1, 0, 1, "2"), Slot("H100", 2, 0, 2, "3"), Slot("H100", 2, 1, 2, "3"),
    ]  # fmt: skip
    assert {slot.node for slot in of_cluster(NODES, "cuda", ["h100"])} == {2}
    assert of_cluster([node("1", GPU=1.0)], "auto")[0].accelerator == "gpu"


def test_cpus_where_asked_for_or_where_there_is_no_gpu() -> None:
    assert [(slot.accelerator, slot.where, slot.cpus) for slot in of_cluster(NODES, "cpu")] == [
        ("cpu", "1", 4.0), ("cpu", "2", 8.0), ("cpu", "3", 8.0),
    ]  # fmt: skip
    assert [slot.accelerator for slot in of_cluster(NODES[1:2], "auto")] == ["cpu"]


def test_nothing_to_measure_is_one_clear_line() -> None:
    with pytest.raises(InputError, match="the cluster has A100, H100, and --accelerator asks for B200"):
        of_cluster(NODES, "auto", ["B200"])
    with pytest.raises(InputError, match="the cluster has no GPU: give --device cpu"):
        of_cluster(NODES[1:2], "cuda")


def test_simulated_fleets_have_boards_of_each_scenario() -> None:
    slots = simulated(["h100", "a100"], 2, 3)
    assert len(slots) == 12
    assert [slot.board for slot in slots if slot.scenario == "a100"] == list(range(6))
    assert {slot.node for slot in slots if slot.accelerator == "a100"} == {2, 3}
    assert {slot.where for slot in slots} == {None}
    for nodes, per_node in ((0, 8), (4, 0), (1000, 1000)):
        with pytest.raises(InputError, match="give 1 to 100,000 GPUs"):
            simulated(["h100"], nodes, per_node)


def test_a_simulated_board_in_each_gpu_is_of_that_type() -> None:
    placed = simulated_on(of_cluster(NODES, "cuda"), ["a100", "h100"])
    assert [(slot.accelerator, slot.scenario, slot.board) for slot in placed] == [
        ("A100", "a100", 0), ("H100", "h100", 0), ("H100", "h100", 1),
    ]  # fmt: skip
    assert {slot.scenario for slot in simulated_on(of_cluster(NODES, "cuda"), ["a100"])} == {"a100"}
    with pytest.raises(InputError, match="no scenario of a B200"):
        simulated_on([Slot("B200", 0)], ["a100", "h100"])
