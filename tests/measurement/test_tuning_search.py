"""Which candidates are measured, in which plan, and what the records of that plan decide."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import msgspec
import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from tuned_entries import SMALL, SQUARE, WIDE, problem

from flopwatt.measurement.case import measure_case
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.simulation.scenario import Scenario, Tile
from flopwatt.measurement.tuned.device import device_of
from flopwatt.measurement.tuned.records import Objective, Tried
from flopwatt.measurement.tuning import search as tuning
from flopwatt.measurement.tuning.compiling import Job, Resources, Result
from flopwatt.measurement.tuning.search import Shortlist, Wish, candidates, plan_for, shortlists, wishes
from flopwatt.measurement.tuning.verdict import Verdict, decide
from flopwatt.runs.plan import Choices, build
from flopwatt.runs.records import Environment, Record, Segment
from flopwatt.runs.suites import load_suite
from gemmkernels import triton_tiled
from gemmkernels.backend import Config, Device, load
from gemmkernels.problem import Problem
from gemmkernels.tile_order import group_ms

H100 = Device("cuda", "NVIDIA H100 80GB HBM3", 0, (9, 0), 132, 232_448, 50 * 2**20, 80 * 2**30)
GOOD = Resources(registers=168, stack_bytes=0, shared_bytes=200_000)
SPILLING = Resources(registers=255, stack_bytes=400, shared_bytes=200_000)
TOO_LARGE = Resources(registers=168, stack_bytes=0, shared_bytes=240_000)


def test_a_simulated_gpu_gets_the_shared_memory_of_its_kind():
    environment = SimulatedRig(load_scenario("h100"), idle=False).environment
    device = device_of(environment)
    assert (device.capability, device.sm_count, device.shared_memory_bytes) == ((9, 0), 132, 232_448)
    assert device_of(msgspec.structs.replace(environment, capability=(14, 2))).shared_memory_bytes == 101_376
    assert device_of(Environment(kind="cpu", gpu="a CPU")).shared_memory_bytes == 0


def test_each_problem_and_backend_of_a_plan_is_wished_for_once():
    suite = load_suite("quick", dtype="bf16", device_kind="cuda")
    plan = build([suite], Choices(backends=("triton-tiled", "torch"), regimes=("burst", "sustained"), processes=2))
    found = wishes(plan)
    assert len(found) == len({wish.key for wish in found}) == 24
    assert {wish.use.suite for wish in found if wish.use} == {suite.name}


def _shortlist(monkeypatch: pytest.MonkeyPatch, results: Sequence[Result], most: int = 10) -> Shortlist:
    """The shortlist of one problem whose candidates, in the backend's order, compile to `results`, then well."""
    wish = Wish(problem(), "triton-tiled")
    own = triton_tiled.configs(wish.problem, H100)
    fates = dict(zip(map(tuning.frozen, own), results, strict=False))

    def compile_all(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, tuple[Result, ...]]]:
        for job in reversed(jobs):
            yield job, tuple(fates.get(tuning.frozen(job.config), GOOD) for _ in job.problems)

    monkeypatch.setattr(tuning, "compile_all", compile_all)
    *progress, shortlist = shortlists([wish], H100, most)
    assert progress == list(range(len(own) - 1, -1, -1))
    assert isinstance(shortlist, Shortlist)
    return shortlist


def test_what_fails_spills_or_does_not_fit_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch):
    own = triton_tiled.configs(problem(), H100)
    failed = "RuntimeError: PassManager::run failed"
    shortlist = _shortlist(monkeypatch, [GOOD, failed, SPILLING, TOO_LARGE, failed, GOOD])
    assert shortlist.configs == (own[0], *own[5:])
    total = len(own)
    assert shortlist.tried == Tried(candidates=total, compiled=total - 2, failed=2, spilled=1, over_shared=1)
    assert shortlist.failures == {failed: 2}


def test_at_most_so_many_are_measured_the_default_first(monkeypatch: pytest.MonkeyPatch):
    own = triton_tiled.configs(problem(), H100)
    assert _shortlist(monkeypatch, [], most=3).configs == tuple(own[:3])


def test_a_default_that_spills_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch):
    own = triton_tiled.configs(problem(), H100)
    shortlist = _shortlist(monkeypatch, [SPILLING, SPILLING])
    assert shortlist.configs[:2] == (own[0], own[2])
    assert shortlist.tried.spilled == 2


def test_a_default_that_does_not_compile_is_left_out(monkeypatch: pytest.MonkeyPatch):
    own = triton_tiled.configs(problem(), H100)
    shortlist = _shortlist(monkeypatch, ["RuntimeError: no"])
    assert shortlist.configs[0] == own[1]
    assert shortlist.default == own[0]


LARGE = Problem(16384, 16384, 4096, layout="nt")
THIN = Problem(128, 8192, 8192, layout="nt")
"""Bound by memory on an H100: 125 FLOP a byte, where the datasheet's balance is at 295."""


def apart(config: Config, *names: str) -> dict[str, object]:
    return {name: value for name, value in config.items() if name not in names}


def test_for_time_the_candidates_are_the_backends_own():
    for backend in ("triton-tiled", "triton-persistent"):
        wish = Wish(THIN, backend)
        assert candidates(wish, H100, "time", 10) == load(backend).configs(THIN, H100)


def test_for_energy_the_best_two_tiles_are_also_tried_in_the_next_best_order():
    own = triton_tiled.configs(LARGE, H100)
    found = candidates(Wish(LARGE, "triton-tiled"), H100, "energy", 10)
    assert found[:8] == own[:8]
    assert found[10:] == own[8:]
    varied = found[8:10]
    tiles = [(config["BLOCK_M"], config["BLOCK_N"]) for config in varied]
    assert len(set(tiles)) == 2, "two tiles, not one in two depths"
    for variant in varied:
        tile = (int(variant["BLOCK_M"]), int(variant["BLOCK_N"]))
        assert variant["GROUP_M"] == group_ms(LARGE, H100, *tile)[1]
        assert apart(variant, "GROUP_M") in [apart(config, "GROUP_M") for config in own[:8]]


def test_for_energy_fewer_sms_are_tried_where_memory_is_the_limit():
    found = candidates(Wish(THIN, "triton-persistent"), H100, "energy", 20)
    default = found[0]
    programs = min(132, -(-128 // int(default["BLOCK_M"])) * -(-8192 // int(default["BLOCK_N"])))
    fewer = [config["NUM_SMS"] for config in found if apart(config, "NUM_SMS") == apart(default, "NUM_SMS")]
    assert fewer == [132, round(programs * 7 / 8), round(programs * 3 / 4)]
    compute_bound = candidates(Wish(LARGE, "triton-persistent"), H100, "energy", 20)
    assert {config["NUM_SMS"] for config in compute_bound} == {132}
    unknown = dataclasses.replace(H100, name="a GPU without a datasheet")
    assert {config["NUM_SMS"] for config in candidates(Wish(THIN, "triton-persistent"), unknown, "energy", 20)} == {132}


@pytest.mark.parametrize("backend", ["triton-tiled", "triton-persistent", "gluon-persistent", "triton-splitk"])
@pytest.mark.parametrize("about", [LARGE, THIN, Problem(512, 512, 16384, layout="nt")], ids=lambda p: p.shape)
@pytest.mark.parametrize("most", [2, 5, 10])
def test_variants_are_distinct_take_half_the_places_and_leave_the_default_first(
    backend: str, about: Problem, most: int
):
    own = load(backend).configs(about, H100)
    found = candidates(Wish(about, backend), H100, "energy", most)
    assert found[0] == own[0]
    assert len({tuning.frozen(config) for config in found}) == len(found)
    assert [config for config in found if config in own] == list(own)
    assert sum(config not in own for config in found[:most]) <= most // 2
    if backend == "triton-splitk":
        assert found == list(own), "few tiles have no order to speak of"


def test_an_energy_shortlist_holds_what_time_does_not(monkeypatch: pytest.MonkeyPatch):
    def compile_all(jobs: Sequence[Job], processes: int) -> Iterator[tuple[Job, tuple[Result, ...]]]:
        for job in jobs:
            yield job, tuple(GOOD for _ in job.problems)

    monkeypatch.setattr(tuning, "compile_all", compile_all)
    *_, by_time = shortlists([Wish(LARGE, "triton-tiled")], H100, 6)
    *_, by_energy = shortlists([Wish(LARGE, "triton-tiled")], H100, 6, "energy")
    assert isinstance(by_time, Shortlist)
    assert isinstance(by_energy, Shortlist)
    assert by_energy.configs[:4] == by_time.configs[:4]
    assert not set(map(tuning.frozen, by_energy.configs[4:])) & set(map(tuning.frozen, by_time.configs))
    assert by_energy.tried.candidates == by_time.tried.candidates + 2
    assert by_energy.default == by_time.default


def listed(about: Problem, configs: Sequence[Config], default: Config | None = None) -> Shortlist:
    tried = Tried(candidates=len(configs), compiled=len(configs))
    return Shortlist(Wish(about, "triton-tiled"), tuple(configs), tried, default or configs[0], {})


@pytest.mark.parametrize(("objective", "regime"), [("time", "burst"), ("energy", "sustained")])
def test_the_plan_names_each_configuration_and_counts_in_no_total(objective: Objective, regime: str):
    planned = plan_for([listed(problem(), (WIDE, SQUARE)), listed(problem(8192), (SQUARE,))], objective)
    assert [(p.case.problem.m, p.case.config) for p in planned if p.case.problem] == [
        (4096, WIDE),
        (4096, SQUARE),
        (8192, SQUARE),
    ]
    assert {(p.case.regime, p.case.effort, p.case.backend) for p in planned} == {(regime, "fast", "triton-tiled")}
    assert len({p.case_id for p in planned}) == 3
    assert not any(use.headline for p in planned for use in p.uses)


def scenario(wide: float = 1.0, square: float = 0.8, small: float = 0.5) -> Scenario:
    """The shipped H100 whose tiles reach these fractions of what its kernels reach."""
    base = load_scenario("h100")
    tiles = (
        Tile(m=128, n=256, efficiency=wide),
        Tile(m=128, n=128, efficiency=square),
        Tile(m=64, n=64, efficiency=small),
    )
    return msgspec.structs.replace(base, gpu=msgspec.structs.replace(base.gpu, tiles=tiles))


def decided(
    simulated: Scenario, shortlist: Shortlist, objective: Objective = "energy", drop: int = 0, **changes: object
) -> Verdict:
    """The verdict on a shortlist that was measured on a simulated GPU, the last `drop` cases left out."""
    rig = SimulatedRig(simulated, idle=False)
    records = []
    for planned in plan_for([shortlist], objective):
        outcome = measure_case(rig, planned.case, seed=1)
        record = Record(
            id="0",
            case_id=planned.case_id,
            segment=0,
            origin="simulated",
            started="2026-11-22T10:00:00Z",
            case=outcome.case,
            status=outcome.status,
            energy_status=outcome.energy_status,
            energy_reason=outcome.energy_reason,
            measurement=outcome.measurement,
        )
        records.append(msgspec.structs.replace(record, **changes))
    environment = msgspec.structs.replace(rig.environment, versions={"triton": "3.7.1", "numpy": "2"})
    segment = Segment(segment=0, started="x", environment=environment, board_id=rig.board_id, sensor=rig.sensor)
    (verdict,) = decide([shortlist], records[: len(records) - drop], segment, "run", objective)
    return verdict


@pytest.mark.parametrize("objective", ["time", "energy"])
def test_the_best_wins_with_its_evidence(objective: Objective):
    verdict = decided(scenario(square=1.0, wide=0.8), listed(problem(), (WIDE, SQUARE, SMALL)), objective)
    entry = verdict.entry
    assert entry is not None
    assert entry.config == SQUARE
    assert (entry.objective, entry.bucket, entry.backend) == (objective, "4096x4096x4096", "triton-tiled")
    assert entry.versions == {"triton": "3.7.1", "driver": "simulated"}
    evidence = entry.evidence
    assert (evidence.origin, evidence.run_id, evidence.power_limit_w) == ("simulated", "run", 700.0)
    assert evidence.board_id
    assert evidence.default is not None
    assert evidence.default.config == WIDE
    assert evidence.tied == ()
    assert (evidence.tried.measured, evidence.tried.wrong) == (3, 0)
    won, was = evidence.winner, evidence.default
    if objective == "time":
        # Bursts run at the highest clock, so that only the tile's efficiency tells; two tiles more or less in a wave.
        assert won.energy_j is None
        assert was.time_s.value / won.time_s.value == pytest.approx(1.0 / 0.8, rel=0.08)
    else:
        assert won.energy_j is not None
        assert was.energy_j is not None
        assert won.energy_j.low is not None
        assert won.energy_j.high is not None
        assert won.energy_j.low < won.energy_j.value < won.energy_j.high < was.energy_j.value


def test_where_the_default_is_as_good_it_stays_and_the_others_are_named():
    alike = WIDE | {"num_stages": 4}
    verdict = decided(scenario(), listed(problem(), (alike, WIDE, SMALL), default=WIDE))
    assert verdict.entry is not None
    assert verdict.entry.config == WIDE
    assert verdict.entry.evidence.tied == (alike,)
    assert verdict.entry.evidence.default is not None
    assert verdict.entry.evidence.default.config == WIDE


def test_a_default_that_was_not_measured_cannot_stay():
    verdict = decided(scenario(), listed(problem(), (SQUARE, SMALL), default=WIDE))
    assert verdict.entry is not None
    assert verdict.entry.config == SQUARE
    assert verdict.entry.evidence.default is None


def test_an_unfinished_problem_has_no_entry():
    verdict = decided(scenario(), listed(problem(), (WIDE, SQUARE, SMALL)), drop=1)
    assert (verdict.entry, verdict.reason) == (None, "2 of 3 candidates were measured")


def test_nothing_compiled_is_no_entry():
    empty = dataclasses.replace(listed(problem(), (WIDE,)), configs=())
    verdict = decided(scenario(), empty)
    assert (verdict.entry, verdict.reason) == (None, "no candidate compiled without spilling, within shared memory")


def test_without_joules_there_is_nothing_to_tune_energy_by():
    shortlist = listed(problem(), (WIDE, SQUARE))
    verdict = decided(scenario(), shortlist, energy_status="unsupported", energy_reason="power: no sensor")
    assert (verdict.entry, verdict.reason) == (None, "power: no sensor")
    assert verdict.tried.wrong == 2


def test_wrong_results_are_not_candidates():
    verdict = decided(scenario(), listed(problem(), (WIDE, SQUARE)), status="failed", reason="wrong result: 0.3")
    assert (verdict.entry, verdict.reason) == (None, "wrong result: 0.3")
