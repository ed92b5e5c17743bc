"""The loop over a plan through real processes: kernels that crash or hang cost their own row."""

from __future__ import annotations

from pathlib import Path

import pytest

from flopwatt.errors import SuiteError
from flopwatt.measurement import runner
from flopwatt.measurement.messages import RigSpec
from flopwatt.measurement.runner import Progress, Run
from flopwatt.measurement.simulation.loading import shipped
from flopwatt.measurement.worker_client import Worker
from flopwatt.runs.plan import Choices, Plan, build
from flopwatt.runs.records import End, Event, Policy, Record, Segment
from flopwatt.runs.suites import suite_from_shapes

SHAPES = ("1024x1024x1024", "2048x2048x2048", "4096x4096x4096")


def plan(processes: int = 1) -> Plan:
    return build([suite_from_shapes(SHAPES)], Choices(backends=("torch",), effort="fast", processes=processes))


def scenario(folder: Path, faults: str) -> str:
    path = folder / "faulty.toml"
    path.write_text(f"{shipped()['h100']}\n[faults]\n{faults}\n")
    return str(path)


def steps(spec: RigSpec, policy: Policy | None = None, processes: int = 1) -> list[object]:
    run = Run(Worker(spec), spec, policy or Policy())
    try:
        return list(run.steps(plan(processes).cases))
    finally:
        run.close()


def records(found: list[object]) -> list[Record]:
    return [step for step in found if isinstance(step, Record)]


def test_a_plan_yields_its_segment_its_records_and_its_end() -> None:
    found = steps(RigSpec(scenario="h100"))
    assert isinstance(found[0], Segment)
    assert [type(step) for step in found[1:7]] == [Progress, Record] * 3
    assert isinstance(found[-1], End)
    assert found[-1].reason == "done"
    assert [record.case.problem.m for record in records(found) if record.case.problem] == [4096, 2048, 1024]


def test_a_kernel_that_kills_the_worker_costs_its_own_row(tmp_path: Path) -> None:
    found = steps(RigSpec(scenario=scenario(tmp_path, 'crash_on = "2048x2048x2048"')))
    assert [record.status for record in records(found)] == ["ok", "failed", "ok"]
    assert records(found)[1].reason == "killed by SIGKILL"
    assert any(isinstance(step, Event) and "replaced" in step.message for step in found)


def test_a_kernel_that_hangs_is_killed_by_the_watchdog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "CASE_TIMEOUT_FACTOR", 0.0)
    monkeypatch.setattr(runner, "CASE_TIMEOUT_EXTRA_S", 3.0)
    found = steps(RigSpec(scenario=scenario(tmp_path, 'hang_on = "2048x2048x2048"')))
    assert [record.status for record in records(found)] == ["ok", "failed", "ok"]
    assert records(found)[1].reason == "no answer in 3 s: the kernel hangs; its process was killed"


def test_a_worker_that_refuses_to_start_raises_what_it_says() -> None:
    with pytest.raises(SuiteError, match="b300"):
        Worker(RigSpec(scenario="b300"))


def test_each_process_of_the_plan_is_a_fresh_one(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[RigSpec] = []
    plain = Worker.__init__

    def counted(self: Worker, spec: RigSpec) -> None:
        started.append(spec)
        plain(self, spec)

    monkeypatch.setattr(Worker, "__init__", counted)
    found = steps(RigSpec(scenario="h100"), processes=3)
    assert [spec.process for spec in started] == [0, 1, 2]
    assert sorted(record.process for record in records(found)) == [0] * 3 + [1] * 3 + [2] * 3


def test_the_budget_is_counted_in_the_rigs_own_time() -> None:
    found = steps(RigSpec(scenario="h100"), Policy(budget_s=8.0))
    assert len(records(found)) in (1, 2)
    end = found[-1]
    assert isinstance(end, End)
    assert end.reason == "budget"
    assert "of 3 cases were not measured" in end.message


def ended(faults: str, folder: Path, idle: bool = True) -> tuple[End, list[str]]:
    """How a run on an H100 with these faults ended, and its events about idle power."""
    found = steps(RigSpec(scenario=scenario(folder, faults), idle=idle))
    end = found[-1]
    assert isinstance(end, End)
    return end, [step.message for step in found if isinstance(step, Event) and step.what == "idle"]


def test_idle_power_is_read_again_after_the_load(tmp_path: Path) -> None:
    found = steps(RigSpec(scenario="h100"))
    segment, end = found[0], found[-1]
    assert isinstance(segment, Segment)
    assert isinstance(end, End)
    assert segment.idle_context_w is not None
    assert end.idle_after_w == pytest.approx(segment.idle_context_w, rel=0.02)
    assert end.idle_after_reason is None
    assert not [step for step in found if isinstance(step, Event)]
    end, said = ended("second_process = { share = 0.0, extra_w = 60, from_s = 4.0 }", tmp_path)
    assert end.idle_after_w == pytest.approx(segment.idle_context_w + 60, rel=0.06)
    assert len(said) == 1
    assert said[0].startswith(f"idle power with a context is {end.idle_after_w:.0f} W after the load, it was ")


@pytest.mark.parametrize(
    ("faults", "idle", "reason"),
    [
        ('crash_on = "1024x1024x1024"', True, "the measuring process was gone"),
        ('crash_on = "1024"\nhang_on = "never"', False, "idle power was not read before the load"),
        ("sensor_lost_after_s = 4.0", True, "the power sensor answered nothing"),
    ],
)
def test_idle_power_that_cannot_be_read_after_the_load_has_a_reason(
    tmp_path: Path, faults: str, idle: bool, reason: str
) -> None:
    end, said = ended(faults, tmp_path, idle)
    assert (end.reason, end.idle_after_w, end.idle_after_reason) == ("done", None, reason)
    assert said == []


def test_a_budget_that_allows_nothing_reads_no_idle_power() -> None:
    end = steps(RigSpec(scenario="h100"), Policy(budget_s=0.1))[-1]
    assert isinstance(end, End)
    assert (end.reason, end.idle_after_reason) == ("budget", "nothing was measured")


def test_seeds_do_not_depend_on_what_was_measured_before() -> None:
    first = {r.case_id: r.measurement for r in records(steps(RigSpec(scenario="h100")))}
    assert len(first) == 3
    spec = RigSpec(scenario="h100")
    run = Run(Worker(spec), spec, Policy())
    seeds = {planned.case_id: run._seed(planned) for planned in plan().cases}
    run.close()
    assert len(set(seeds.values())) == 3
