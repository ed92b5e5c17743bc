"""What runs on a node, here without one: the messages of a simulated GPU's task, and the gate."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from fleet_runs import SLOTS, account

from flopwatt import __version__
from flopwatt.errors import DeviceBusy
from flopwatt.fleet import agent
from flopwatt.fleet.agent import Common, Done, Greeting, Order, heard, measure
from flopwatt.fleet.gate import Gate
from flopwatt.measurement.messages import Refusal, RigSpec
from flopwatt.measurement.simulation.board import board_id
from flopwatt.measurement.simulation.loading import load_scenario, shipped
from flopwatt.runs.account import Mode
from flopwatt.runs.records import End, Event, Record, Segment

SMALL = 100_000
"""Bytes that Ray hands to the driver within a message, in place of leaving them on the node."""


def common(known: dict[str, Done] | None = None, mode: Mode = "alone") -> Common:
    asked = account(SLOTS, mode)
    return Common(asked.mode, asked.policy, asked.plans, known or {})


def order(board: int = 3, scenario: str = "h100", **fields: dict[str, Done]) -> Order:
    return Order(RigSpec(scenario=scenario, board=board), 0, 1, "node 0 GPU 1", **fields)


def test_a_task_greets_then_sends_small_lines_in_the_order_of_a_run_file() -> None:
    messages = list(measure(order(), common()))
    said = [heard(message) for message in messages]
    assert [type(one) for one in said[:3]] == [Greeting, Segment, Event]
    assert [type(one) for one in said[3:]] == [Record, Record, End]
    greeting = said[0]
    assert isinstance(greeting, Greeting)
    assert greeting.key == greeting.hello.board_id == board_id(load_scenario("h100"), 3)
    assert (greeting.flopwatt, greeting.dtype, greeting.left) == (__version__, "bf16", 2)
    assert isinstance(said[2], Event)
    assert said[2].message == "alone: no other GPU of its node was measured meanwhile"
    assert max(map(len, messages)) < SMALL


def test_a_task_measures_what_its_board_lacks_as_a_further_segment() -> None:
    key = board_id(load_scenario("h100"), 3)
    first = common().plans[0].cases[0]
    half = Done(frozenset({(first.case_id, first.process)}), segments=1)
    for asked, shared in ((order(), common({key: half})), (order(retried={key: half}), common())):
        said = [heard(message) for message in measure(asked, shared)]
        assert [one.segment for one in said if isinstance(one, Segment)] == [1]
        assert len([one for one in said if isinstance(one, Record)]) == 1
    everything = Done(frozenset((p.case_id, p.process) for p in common().plans[0].cases), 1)
    (only,) = (heard(message) for message in measure(order(), common({key: everything})))
    assert isinstance(only, Greeting)
    assert only.left == 0
    assert len(list(measure(order(board=4), common({key: everything})))) > 1, "another board's file is not its own"


def test_a_refusal_is_one_message_with_its_reason(tmp_path: Path) -> None:
    busy = tmp_path / "busy.toml"
    busy.write_text(shipped()["h100"] + "\n[faults.second_process]\nshare = 0.5\n")
    (said,) = (heard(message) for message in measure(order(scenario=str(busy)), common()))
    assert isinstance(said, Refusal)
    assert said.kind == "DeviceBusy"
    assert "1 other process computes on NVIDIA H100" in said.message


def test_the_gate_opens_when_all_of_a_node_have_come_or_are_excused() -> None:
    async def story() -> list[int]:
        gate = Gate({0: 3, 1: 1})
        assert await gate.arrive(1, 10.0) == 1
        waiting = [asyncio.create_task(gate.arrive(0, 10.0)) for _ in range(2)]
        await asyncio.sleep(0.02)
        assert not any(task.done() for task in waiting)
        gate.excuse(0)
        return await asyncio.gather(*waiting)

    assert asyncio.run(story()) == [2, 2]


def test_the_gate_does_not_wait_for_ever() -> None:
    assert asyncio.run(Gate({0: 2}).arrive(0, 0.01)) == 1


@pytest.mark.parametrize(
    ("given", "gpu", "device"), [([0, 1, 2, 3], 2, "cuda:2"), ([2], 2, "cuda:0"), (["GPU-1", "GPU-2"], 1, "cuda:1")]
)
def test_a_real_gpu_is_the_one_meant_of_those_that_ray_gives(
    monkeypatch: pytest.MonkeyPatch, given: list[object], gpu: int, device: str
) -> None:
    """Alone, a task holds all GPUs of its node and takes its own; together, the one it is given is all it sees."""
    ray = ModuleType("ray")
    ray.get_gpu_ids = lambda: given  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ray", ray)
    asked: list[RigSpec] = []

    def refused(spec: RigSpec) -> None:
        asked.append(spec)
        raise DeviceBusy("in use at /home/somebody/job")

    monkeypatch.setattr(agent, "Worker", refused)
    (said,) = (heard(message) for message in measure(Order(RigSpec(), 0, gpu, "x"), common()))
    assert [spec.device for spec in asked] == [device]
    assert isinstance(said, Refusal)
    assert "somebody" not in said.message
