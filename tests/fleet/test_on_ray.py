"""Fleet runs on a real Ray cluster of several nodes, whose GPUs are simulated."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from fleet_runs import Heard, gather, new_folder
from ray_nodes import Nodes, nodes

pytest.importorskip("ray", reason="needs the `fleet` extra")

from flopwatt.fleet.cluster import RayCluster
from flopwatt.fleet.folder import Folder
from flopwatt.fleet.slots import Slot, of_cluster, simulated_on
from flopwatt.runs.account import Fate
from flopwatt.runs.records import Event, Record
from flopwatt.runs.store import read

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]

MANY = tuple(f"{m}x1024x1024" for m in range(1024, 1024 + 60 * 8, 8))
"""So many cases that a task is still at work when something happens to it."""


@contextmanager
def joined(made: Nodes) -> Iterator[RayCluster]:
    cluster = RayCluster(made.address)
    try:
        yield cluster
    finally:
        cluster.close()


def slots_of(cluster: RayCluster, accelerators: Sequence[str] = ()) -> list[Slot]:
    return simulated_on(of_cluster(cluster.nodes(), "cuda", accelerators), ["h100", "a100"])


def became(fates: Sequence[Fate]) -> dict[str, list[str]]:
    return {kind: [fate.became for fate in fates if fate.accelerator == kind] for kind in ("H100", "A100")}


def test_each_gpu_is_measured_where_it_is_and_its_file_comes_home(tmp_path: Path) -> None:
    with nodes(H100=3, A100=2) as made, joined(made) as cluster:
        slots = slots_of(cluster)
        assert sorted((slot.accelerator, slot.gpu, slot.of) for slot in slots) == [
            ("A100", 0, 2), ("A100", 1, 2), ("H100", 0, 3), ("H100", 1, 3), ("H100", 2, 3),
        ]  # fmt: skip
        assert len({slot.where for slot in slots}) == 2
        assert {slot.accelerator for slot in slots_of(cluster, ["a100"])} == {"A100"}
        fates = gather(cluster, new_folder(tmp_path / "alone", slots), slots)
        together = gather(cluster, new_folder(tmp_path / "together", slots, mode="together"), slots)
    for fate in (*fates, *together):
        assert (fate.became, fate.measured, fate.failed_cases) == ("done", 2, 0)
    for fate in fates:
        run = read(tmp_path / "alone" / str(fate.file))
        assert fate.accelerator in run.segments[0].environment.gpu
        assert run.header.origin == "simulated"
        assert fate.board_id == run.segments[0].board_id
        assert any("no other GPU of its node" in event.message for event in run.events)
    assert len({fate.board_id for fate in fates}) == 5
    told = {
        fate.accelerator: [e.message for e in read(tmp_path / "together" / str(fate.file)).events if e.what == "fleet"]
        for fate in together
    }
    assert told == {
        "H100": ["together: 3 GPUs of its node began at once"],
        "A100": ["together: 2 GPUs of its node began at once"],
    }


def test_a_killed_process_costs_no_more_than_the_case_in_flight(tmp_path: Path) -> None:
    with nodes(H100=1, A100=1) as made, joined(made) as cluster:
        slots = slots_of(cluster)

        def kill(slot: Slot, said: object) -> None:
            if isinstance(said, Record) and slot.accelerator == "H100" and len(heard.of(Record)) and not killed:
                killed.append(made.signal_task("H100", signal.SIGKILL))

        killed: list[int] = []
        heard = Heard(kill)
        fates = gather(cluster, new_folder(tmp_path, slots, shapes=MANY), slots, heard)
    assert became(fates) == {"H100": ["done"], "A100": ["done"]}
    (hurt,) = (fate for fate in fates if fate.accelerator == "H100")
    run = read(tmp_path / str(hurt.file))
    assert len(run.records) == len({record.case_id for record in run.records}) == len(MANY)
    assert len(run.segments) == 2
    assert "lost: its process on the node was killed" in [event.message for event in run.events]


def test_a_killed_node_loses_what_was_in_flight_there_and_resuming_brings_the_rest(tmp_path: Path) -> None:
    with nodes(H100=2, A100=1) as made:
        with joined(made) as cluster:
            slots = slots_of(cluster)

            def kill(slot: Slot, said: object) -> None:
                if isinstance(said, Record) and slot.accelerator == "H100" and "H100" in made.nodes:
                    made.kill("H100")

            heard = Heard(kill)
            fates = gather(cluster, new_folder(tmp_path, slots, shapes=MANY), slots, heard)
        assert became(fates) == {"H100": ["lost", "lost"], "A100": ["done"]}
        lost = [fate for fate in fates if fate.accelerator == "H100"]
        assert {fate.reason for fate in lost} <= {"its node died", "its node is gone"}
        arrived = [said for slot, said in heard.of(Record) if slot.accelerator == "H100"]
        kept = read(tmp_path / str(lost[0].file))
        assert [record.id for record in kept.records] == [record.id for record in arrived]
        assert 0 < len(arrived) < len(MANY)
        assert kept.end is not None
        assert kept.end.reason == "failed"
        made.add("H100", 2)
        with joined(made) as cluster:
            fates = gather(cluster, Folder.reopen(tmp_path), slots_of(cluster))
    assert became(fates) == {"H100": ["done", "done"], "A100": ["done"]}
    for fate in fates:
        run = read(tmp_path / str(fate.file))
        assert len(run.records) == len({record.case_id for record in run.records}) == len(MANY)


def test_a_slow_node_holds_up_nobody_else(tmp_path: Path) -> None:
    with nodes(H100=1, A100=3) as made, joined(made) as cluster:
        slots = slots_of(cluster)
        order: list[str] = []
        stopped: list[int] = []

        def slow(slot: Slot, said: object) -> None:
            if isinstance(said, Record) and slot.accelerator == "H100" and not stopped:
                stopped.append(made.signal_task("H100", signal.SIGSTOP))
            if isinstance(said, Fate):
                order.append(slot.accelerator)
                if order.count("A100") == 3 and slot.accelerator == "A100":
                    os.kill(stopped[0], signal.SIGCONT)

        fates = gather(cluster, new_folder(tmp_path, slots, shapes=MANY), slots, Heard(slow))
    assert order == ["A100", "A100", "A100", "H100"]
    assert became(fates) == {"H100": ["done"], "A100": ["done", "done", "done"]}
    assert all(fate.measured == len(MANY) for fate in fates)


def test_lost_events_name_no_host_and_no_address(tmp_path: Path) -> None:
    with nodes(H100=1) as made, joined(made) as cluster:
        slots = of_cluster(cluster.nodes(), "cuda")
        slots = simulated_on(slots, ["h100"])

        def kill(slot: Slot, said: object) -> None:
            if isinstance(said, Record) and made.nodes:
                made.kill("H100")

        heard = Heard(kill)
        (fate,) = gather(cluster, new_folder(tmp_path, slots, shapes=MANY), slots, heard)
        where = [node["NodeManagerAddress"] for node in cluster.nodes()] + [node["NodeID"] for node in cluster.nodes()]
    text = (tmp_path / "account.json").read_text() + (tmp_path / str(fate.file)).read_text()
    assert heard.of(Event)
    assert not [word for word in (*where, os.uname().nodename) if word in text]
