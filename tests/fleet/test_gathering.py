"""The driver's loop, on a cluster that says what a test wants."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from fake_cluster import FakeCluster, greeting, known, record, refusing, segment, well
from fleet_runs import SLOTS, Heard, account, gather, new_folder

from flopwatt.errors import InputError, RunFileError
from flopwatt.fleet import gathering
from flopwatt.fleet.agent import Common, Order
from flopwatt.fleet.cluster import Lost
from flopwatt.fleet.folder import Folder
from flopwatt.fleet.gathering import Gathering
from flopwatt.fleet.slots import Slot
from flopwatt.measurement.messages import RigSpec
from flopwatt.runs import account as accounts
from flopwatt.runs.account import Fate
from flopwatt.runs.records import End, Record
from flopwatt.runs.store import read


def test_every_gpu_gets_a_file_named_by_type_node_and_board_and_no_host(tmp_path: Path) -> None:
    fates = gather(FakeCluster(well), new_folder(tmp_path, SLOTS), SLOTS)
    assert [fate.became for fate in fates] == ["done"] * 4
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [
        "h100-80gb-hbm3-node000-gpu0-000000000000.jsonl",
        "h100-80gb-hbm3-node000-gpu1-000000000001.jsonl",
        "h100-80gb-hbm3-node001-gpu0-000001000000.jsonl",
        "h100-80gb-hbm3-node001-gpu1-000001000001.jsonl",
    ]
    run = read(tmp_path / str(fates[3].file))
    assert len(run.records) == 2
    assert run.end is not None
    assert run.end.reason == "done"
    assert accounts.load(tmp_path).gpus == tuple(fates)


def test_alone_no_two_gpus_of_a_node_are_measured_at_once(tmp_path: Path) -> None:
    cluster = FakeCluster(well)
    gather(cluster, new_folder(tmp_path, SLOTS), SLOTS)
    assert cluster.most_at_once == {0: 1, 1: 1}
    assert all(alone for _, alone in cluster.submitted)


def test_together_all_gpus_begin_at_once(tmp_path: Path) -> None:
    cluster = FakeCluster(well)
    gather(cluster, new_folder(tmp_path, SLOTS, mode="together"), SLOTS)
    assert cluster.most_at_once == {0: 2, 1: 2}
    assert not any(alone for _, alone in cluster.submitted)


def test_records_are_on_disk_as_they_arrive(tmp_path: Path) -> None:
    counts = []

    def look(slot: Slot, said: object) -> None:
        if isinstance(said, Record):
            counts.append(sum(len(read(path).records) for path in tmp_path.glob("*.jsonl")))

    gather(FakeCluster(well), new_folder(tmp_path, SLOTS), SLOTS, Heard(look))
    assert counts == list(range(1, 9))


def test_a_lost_process_is_started_again_and_costs_nothing_that_was_measured(tmp_path: Path) -> None:
    def script(order: Order, common: Common, start: int) -> Iterator[Any]:
        return well(order, common, start, lost_after=1 if start == 1 and order.gpu == 0 else None)

    fates = gather(FakeCluster(script), new_folder(tmp_path, SLOTS), SLOTS)
    assert [(fate.became, fate.measured) for fate in fates] == [("done", 2)] * 4
    run = read(tmp_path / str(fates[0].file))
    assert [r.segment for r in run.records] == [0, 1], "measured again was the case in flight alone"
    assert [event.message for event in run.events] == ["lost: its process on the node was killed"]


def test_a_process_lost_every_time_is_given_up_and_named(tmp_path: Path) -> None:
    def script(order: Order, common: Common, start: int) -> Iterator[Any]:
        return well(order, common, start, lost_after=0)

    cluster = FakeCluster(script)
    fates = gather(cluster, new_folder(tmp_path, SLOTS[:1]), SLOTS[:1])
    assert len(cluster.submitted) == gathering.TRIES
    assert (fates[0].became, fates[0].reason) == ("lost", "its process on the node was killed")
    run = read(tmp_path / str(fates[0].file))
    assert run.end is not None
    assert (run.end.reason, run.end.message) == (
        "failed",
        "lost: its process on the node was killed",
    )


def test_a_board_of_a_dead_node_is_not_tried_elsewhere_but_a_simulated_one_is(tmp_path: Path) -> None:
    def script(order: Order, common: Common, start: int) -> Iterator[Any]:
        yield greeting(order, common)
        yield segment(0, "0" * 12)
        if start == 1:
            yield Lost("its node died", gone=True)
        yield record(common.plans[0].cases[0])
        yield End(at="2026-11-22T09:01:00Z", reason="budget", message="1 of 2 cases were not measured")

    real = FakeCluster(script)
    fates = gather(real, new_folder(tmp_path / "real", SLOTS[:1]), SLOTS[:1])
    assert [fate.became for fate in fates] == ["lost"]
    assert len(real.submitted) == 1
    anywhere = [Slot("h100", 0, scenario="h100")]
    fates = gather(FakeCluster(script), new_folder(tmp_path / "simulated", anywhere), anywhere)
    assert [(fate.became, fate.measured, fate.planned) for fate in fates] == [("budget", 1, 2)]


def test_another_board_in_the_place_of_a_lost_one_gets_a_file_of_its_own(tmp_path: Path) -> None:
    def script(order: Order, common: Common, start: int) -> Iterator[Any]:
        return well(
            order, common, start, lost_after=1 if start == 1 else None, board="a" * 12 if start == 1 else "b" * 12
        )

    fates = gather(FakeCluster(script), new_folder(tmp_path, SLOTS[:1]), SLOTS[:1])
    (first,) = tmp_path.glob("*-aaaaaaaaaaaa.jsonl")
    (second,) = tmp_path.glob("*-bbbbbbbbbbbb.jsonl")
    ended = read(first).end
    assert ended is not None
    assert ended.message == "lost; another board answered in its place"
    assert [len(read(path).records) for path in (first, second)] == [1, 2]
    assert (fates[0].board_id, fates[0].measured, fates[0].file) == ("b" * 12, 2, second.name)


def test_one_board_that_answers_twice_is_measured_once(tmp_path: Path) -> None:
    def script(order: Order, common: Common, start: int) -> Iterator[Any]:
        return well(order, common, start, board="c" * 12)

    cluster = FakeCluster(script)
    fates = gather(cluster, new_folder(tmp_path, SLOTS[:2], mode="together"), SLOTS[:2])
    assert [(fate.became, fate.reason) for fate in fates] == [
        ("done", ""),
        ("refused", "the same board answered as node 0, GPU 0"),
    ]
    assert cluster.cancelled == [SLOTS[1]]
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_a_refusal_and_another_version_are_told_and_the_next_gpu_has_its_turn(tmp_path: Path) -> None:
    def script(order: Order, common: Common, start: int) -> Iterator[Any]:
        if (order.node, order.gpu) == (0, 0):
            return refusing(order, common, start)
        if (order.node, order.gpu) == (1, 0):
            return iter([greeting(order, common, flopwatt="0.0.1")])
        return well(order, common, start)

    fates = gather(FakeCluster(script), new_folder(tmp_path, SLOTS), SLOTS)
    assert [fate.became for fate in fates] == ["refused", "done", "refused", "done"]
    assert fates[0].reason == "1 other process computes on it"
    assert "flopwatt 0.0.1 is installed there" in fates[2].reason


def test_gpus_that_never_come_free_are_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "PATIENCE_S", 0.0)
    cluster = FakeCluster(well)
    cluster.silent = {SLOTS[0]}
    fates = gather(cluster, new_folder(tmp_path, SLOTS), SLOTS)
    assert [fate.became for fate in fates] == ["refused", "done", "done", "done"]
    assert fates[0].reason.startswith("no GPU was free there")


def test_resuming_measures_what_each_board_lacks_wherever_it_now_is(tmp_path: Path) -> None:
    def dying(order: Order, common: Common, start: int) -> Iterator[Any]:
        yield greeting(order, common)
        yield segment(0, f"{order.node:06x}{order.gpu:06x}")
        yield record(common.plans[0].cases[0], status="failed" if order.gpu else "ok")
        yield Lost("its node died", gone=True)

    gather(FakeCluster(dying), new_folder(tmp_path, SLOTS), SLOTS)

    def moved(order: Order, common: Common, start: int) -> Iterator[Any]:
        return well(order, common, start, board=f"{1 - order.node:06x}{order.gpu:06x}")

    fates = gather(FakeCluster(moved), Folder.reopen(tmp_path), SLOTS)
    assert [(fate.became, fate.measured, fate.failed_cases) for fate in fates] == [
        ("done", 2, 0), ("done", 2, 1), ("done", 2, 0), ("done", 2, 1),
    ]  # fmt: skip
    assert len(list(tmp_path.glob("*.jsonl"))) == 4
    assert fates[0].file == "h100-80gb-hbm3-node001-gpu0-000001000000.jsonl"
    third = gather(FakeCluster(well), Folder.reopen(tmp_path), SLOTS)
    assert [(fate.became, fate.measured, bool(fate.file)) for fate in third] == [("done", 2, True)] * 4
    assert len(read(tmp_path / str(fates[0].file)).segments) == 2, "nothing was left: no third segment"


def test_a_run_stopped_before_a_files_first_segment_goes_on_in_that_file(tmp_path: Path) -> None:
    def silent(order: Order, common: Common, start: int) -> Iterator[Any]:
        yield greeting(order, common)
        yield Lost("its node died", gone=True)

    gather(FakeCluster(silent), new_folder(tmp_path, SLOTS), SLOTS)
    assert all(not read(path).segments for path in tmp_path.glob("*.jsonl"))
    fates = gather(FakeCluster(well), Folder.reopen(tmp_path), SLOTS)
    assert [(fate.became, fate.measured) for fate in fates] == [("done", 2)] * 4
    assert len(list(tmp_path.glob("*.jsonl"))) == 4


def test_boards_that_a_resumed_run_does_not_meet_keep_their_fate(tmp_path: Path) -> None:
    def half(order: Order, common: Common, start: int) -> Iterator[Any]:
        return well(order, common, start, lost_after=0 if order.node else None)

    gather(FakeCluster(half), new_folder(tmp_path, SLOTS), SLOTS)
    fates = gather(FakeCluster(well), Folder.reopen(tmp_path), SLOTS[:2])
    assert [(fate.node, fate.gpu, fate.became, fate.measured) for fate in fates] == [
        (0, 0, "done", 2), (0, 1, "done", 2), (1, 0, "lost", 0), (1, 1, "lost", 0),
    ]  # fmt: skip
    assert accounts.load(tmp_path).gpus == tuple(fates)


def test_a_continued_run_that_is_stopped_at_once_names_every_gpu_once(tmp_path: Path) -> None:
    def half(order: Order, common: Common, start: int) -> Iterator[Any]:
        return well(order, common, start, lost_after=int(start == 1) if order.node else None)

    gather(FakeCluster(half), new_folder(tmp_path, SLOTS), SLOTS)
    refused = gather(FakeCluster(refusing), Folder.reopen(tmp_path), SLOTS)
    assert [(fate.place, fate.became, fate.measured, bool(fate.board_id)) for fate in refused] == [
        ("H100, node 0, GPU 0", "done", 2, True), ("H100, node 0, GPU 1", "done", 2, True),
        ("H100, node 1, GPU 0", "refused", 1, True), ("H100, node 1, GPU 1", "refused", 1, True),
    ]  # fmt: skip
    folder = Folder.reopen(tmp_path)
    settled = folder.settle(Gathering(FakeCluster(well), folder, SLOTS, RigSpec(), Heard()).fates)
    assert list(settled.gpus) == refused, "none of them had its turn: their fates are what they were"


def test_cases_that_were_skipped_are_counted_over_a_resumed_run_too(tmp_path: Path) -> None:
    def script(order: Order, common: Common, start: int) -> Iterator[Any]:
        hello = greeting(order, common)
        done = known(order, common, hello.key)
        yield hello
        yield segment(done.segments, hello.key)
        left = [p for p in common.plans[0].cases if (p.case_id, p.process) not in done.cases]
        yield record(left[0], done.segments, status="skipped")
        yield End(at="2026-11-22T09:01:00Z", reason="budget")

    slots = SLOTS[:1]
    (first,) = gather(FakeCluster(script), new_folder(tmp_path, slots), slots)
    assert (first.became, first.measured, first.skipped_cases) == ("budget", 1, 1)
    (second,) = gather(FakeCluster(script), Folder.reopen(tmp_path), slots)
    assert (second.measured, second.skipped_cases, second.failed_cases) == (2, 2, 0)


def test_stopped_every_gpu_is_accounted_for_and_every_file_says_so(tmp_path: Path) -> None:
    folder = new_folder(tmp_path, SLOTS)
    heard = Heard()

    def stop(slot: Slot, said: object) -> None:
        if len(heard.of(Record)) == 3:
            raise KeyboardInterrupt

    heard._then = stop
    loop = Gathering(FakeCluster(well), folder, SLOTS, RigSpec(), heard)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    loop.stop("Ctrl-C")
    assert [(fate.became, fate.measured) for fate in loop.fates] == [
        ("interrupted", 2), ("waiting", 0), ("interrupted", 1), ("waiting", 0),
    ]  # fmt: skip
    for fate in loop.fates[::2]:
        ended = read(tmp_path / str(fate.file)).end
        assert ended is not None
        assert (ended.reason, ended.message) == ("interrupted", "Ctrl-C")


def test_a_folder_in_use_and_one_that_is_no_fleet_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").touch()
    with pytest.raises(InputError, match=r"is not empty: choose another -o$"):
        Folder.create(tmp_path, account(SLOTS))
    with pytest.raises(InputError, match=r"old\.jsonl: not a directory"):
        Folder.check(tmp_path / "old.jsonl")
    with pytest.raises(InputError, match=r"new: nothing can be written in .*old\.jsonl"):
        Folder.check(tmp_path / "old.jsonl" / "new")
    with pytest.raises(RunFileError, match=r"no account\.json in it"):
        Folder.reopen(tmp_path)
    (tmp_path / accounts.FILE).touch()
    with pytest.raises(InputError, match=f"or continue it with --resume {tmp_path}"):
        Folder.check(tmp_path)
    for text, why in (
        ('{"schema": 99, "created": 1, "plans": "unlike ours"}', "schema 99 is newer"),
        ("[]", "not a fleet's account"),
        ('{"created": "x", "mode": "alone", "policy": {}, "plans": []}', "not a fleet's account"),
        ('{"gpus": ' + "[" * 100_000, "not a fleet's account"),
        ("\udcff", "not a fleet's account"),
    ):
        (tmp_path / accounts.FILE).write_text(text, errors="surrogateescape")
        with pytest.raises(RunFileError, match=why):
            Folder.reopen(tmp_path)


def test_fates_are_told_in_words() -> None:
    fate = Fate(accelerator="H100", node=3, gpu=5)
    assert fate.place == "H100, node 3, GPU 5"
