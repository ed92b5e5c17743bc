from __future__ import annotations

import multiprocessing
import signal

import msgspec
import numpy as np
import pytest
from plain_scenario import plain

from flopwatt.errors import DeviceBusy
from flopwatt.measurement.rig import CaseSkipped
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.runs.records import Case, SequenceItem
from gemmkernels.problem import Problem

S = 1_000_000_000


def case(m=4096, n=4096, k=4096, **fields):
    names = ("dtype", "layout", "batch")
    problem = Problem(m, n, k, **{name: fields.pop(name) for name in names if name in fields})
    return Case(problem=problem, **{"backend": "torch", **fields})


def sustained(rig, what, seconds=5):
    """(launch times as marks, samples) of one load."""
    timer = rig.prepare(what, 0).timer
    rig.sampler.start()
    timer.begin(10)
    until = rig.clock.now_ns() + seconds * S
    while rig.clock.now_ns() < until:
        timer.pump()
    return timer.end().load, rig.sampler.stop()


def test_the_rig_says_what_it_is():
    rig = SimulatedRig(load_scenario("h100"), seed=3)
    environment = rig.environment
    assert rig.origin == "simulated"
    assert (environment.kind, environment.gpu, environment.capability) == ("cuda", "NVIDIA H100 80GB HBM3", (9, 0))
    assert environment.power_limit_mw == 700_000
    assert environment.versions == {"simulation": "h100"}
    assert environment.spec is not None
    assert environment.shared_with == 0
    assert (rig.sensor.source, rig.sensor.method) == ("simulated", "not identified")
    assert rig.sensor.update_period_s is None
    assert len(rig.board_id) == 12
    assert rig.board_id == SimulatedRig(load_scenario("h100"), seed=4).board_id
    assert rig.board_id != SimulatedRig(load_scenario("h100"), board=1).board_id
    assert rig.board_id != SimulatedRig(load_scenario("a100")).board_id


def test_the_same_seed_gives_the_same_run_and_another_seed_or_process_another():
    def run(**seeds):
        return sustained(SimulatedRig(load_scenario("a100"), **seeds), case())

    assert run(seed=1) == run(seed=1)
    load = run(seed=1)[0]
    for other in ({"seed": 2}, {"seed": 1, "process": 1}, {"seed": 1, "board": 1}):
        assert run(**other)[0].t_ns[-1] != load.t_ns[-1]


def test_processes_spread_as_the_scenario_says():
    scenario = load_scenario("h100")
    times = []
    for process in range(40):
        load, _ = sustained(SimulatedRig(scenario, process=process), case(), seconds=2)
        times.append((load.t_ns[-1] - load.t_ns[0]) / load.launches[-1])
    assert np.std(times) / np.mean(times) == pytest.approx(0.005, rel=0.35)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (case(dtype="fp8_e4m3", layout="nt"), "fp8_e4m3 needs compute capability 8.9 or newer"),
        (case(backend="numpy", dtype="fp32"), "numpy computes on the CPU"),
        (case(200_000, 200_000, 100_000), "needs 149.0 GiB: NVIDIA A100-SXM4-80GB has 79.3"),
        (
            Case(sequence=(SequenceItem(problem=Problem(8, 8, 8, dtype="fp8_e5m2"), role="x"),), backend="torch"),
            "fp8_e5m2 needs",
        ),
    ],
)
def test_what_an_a100_cannot_do_is_skipped_with_its_reason(what, reason):
    with pytest.raises(CaseSkipped, match=reason):
        SimulatedRig(load_scenario("a100")).prepare(what, 0)


def test_an_h100_does_fp8_as_nt_only():
    rig = SimulatedRig(load_scenario("h100"))
    fp8, bf16 = case(8192, 8192, 8192, dtype="fp8_e4m3", layout="nt"), case(8192, 8192, 8192)
    assert 1.6 < rig.gpu.steady(bf16).time_s / rig.gpu.steady(fp8).time_s < 2.0
    rig.prepare(fp8, 0)
    with pytest.raises(CaseSkipped, match="layout nt only"):
        rig.prepare(case(dtype="fp8_e4m3"), 0)
    with pytest.raises(CaseSkipped, match="no peak for fp32"):
        SimulatedRig(plain(gpu={"peak_flop_per_s": {"bf16": 1e14}})).prepare(case(dtype="fp32"), 0)


def test_a_launch_of_hours_is_skipped():
    slow = plain(gpu={"peak_flop_per_s": {"bf16": 1e6}})
    with pytest.raises(CaseSkipped, match="one launch would take 178957 s in scenario 'plain'"):
        SimulatedRig(slow).prepare(case(), 0)


def test_prepared_cases_hold_their_configuration_and_claim_no_correctness():
    rig = SimulatedRig(load_scenario("h100"))
    prepared = rig.prepare(case(1024, 1024, 1024, config={"BLOCK_M": 128}), 0)
    assert prepared.config == {"BLOCK_M": 128}
    assert (prepared.correct, prepared.correctness) == (None, None)
    assert prepared.operand_sets * 3 * 2 * 1024**2 > 2 * 52_428_800
    assert prepared.timer.name == "simulated"
    assert rig.prepare(case(cache="hot"), 0).operand_sets == 1


def test_idle_power_is_watched_without_and_with_a_context():
    rig = SimulatedRig(load_scenario("h100"))
    board = rig.gpu.board
    assert rig.idle_w == pytest.approx(board.gain * 73 + board.offset_w, rel=0.01)
    # The context's watts arrive one reporting delay late.
    assert board.gain * 85 + board.offset_w < rig.idle_context_w <= (board.gain * 95 + board.offset_w) * 1.01
    without = SimulatedRig(load_scenario("h100"), idle=False)
    assert (without.idle_w, without.idle_context_w) == (None, None)
    without.clock.sleep_ns(S)
    assert without.gpu.true_power_w(without.clock.now_ns() / S) == pytest.approx(95, rel=0.01)


def test_a_second_process_makes_the_gpu_busy_unless_it_is_shared():
    busy = plain(faults={"second_process": {"share": 0.5}})
    with pytest.raises(DeviceBusy, match="measure beside it with --shared"):
        SimulatedRig(busy)
    assert SimulatedRig(busy, shared=True).environment.shared_with == 1
    late = SimulatedRig(plain(faults={"second_process": {"share": 0.5, "from_s": 5.0}}))
    assert late.environment.shared_with == 0


def test_a_run_factor_is_the_cases_whatever_configuration_it_got():
    gpu = SimulatedRig(load_scenario("h100")).gpu
    assert gpu.run_factors(case()) == gpu.run_factors(case(config={"BLOCK_M": 64}))
    assert gpu.run_factors(case()) != gpu.run_factors(case(inputs="zeros"))


def prepare_in_child(encoded):
    from flopwatt.measurement.simulation.scenario import Scenario

    SimulatedRig(msgspec.json.decode(encoded, type=Scenario)).prepare(case(), 0)


@pytest.mark.parametrize(("fault", "outcome"), [("crash_on", -signal.SIGKILL), ("hang_on", None)])
def test_a_worker_crashes_or_hangs_at_the_case_that_is_named(fault, outcome):
    context = multiprocessing.get_context("spawn")
    for text, expected in (("4096x4096x4096 bf16", outcome), ("no such case", 0)):
        encoded = msgspec.json.encode(plain(faults={fault: text}))
        child = context.Process(target=prepare_in_child, args=(encoded,))
        child.start()
        child.join(timeout=20 if expected is not None else 4)
        try:
            assert child.exitcode == expected
        finally:
            child.kill()
            child.join()
