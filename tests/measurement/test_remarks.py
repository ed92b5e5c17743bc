"""What a run says of its machine before the first figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from flopwatt.measurement.device import monitoring_agents
from flopwatt.measurement.messages import Hello
from flopwatt.measurement.remarks import idle_remark, remarks
from flopwatt.runs.records import Environment, SensorIdentity


def said(idle_w: float | None = 73.0, usual_w: float | None = 72.0, **environment: object) -> dict[str, str]:
    hello = Hello(
        origin="measured",
        environment=Environment(kind="cuda", gpu="NVIDIA H100 80GB HBM3", **environment),  # type: ignore[arg-type]
        board_id="0" * 12,
        sensor=SensorIdentity(source="nvml", idle_w=usual_w),
        idle_w=idle_w,
        idle_context_w=None,
    )
    return dict(remarks(hello))


def test_a_quiet_machine_is_not_remarked_on() -> None:
    assert said() == {}
    assert said(power_limit_mw=700_000, power_limit_default_mw=700_000, mig=False, shared_with=0) == {}


@pytest.mark.parametrize(
    ("environment", "what", "words"),
    [
        ({"shared_with": 2}, "shared", "2 other process(es)"),
        ({"mig": True}, "mig", "the whole GPU"),
        ({"unreadable": {"other_processes": "NOT_SUPPORTED"}}, "other_processes", "cannot be seen (NOT_SUPPORTED)"),
        ({"monitoring": ("nv-hostengine",)}, "monitoring", "nv-hostengine runs beside this"),
        ({"power_limit_mw": 400_000, "power_limit_default_mw": 700_000}, "power_limit", "400 W, 700 W by default"),
    ],
)
def test_what_changes_figures_is_said(environment: dict[str, object], what: str, words: str) -> None:
    found = said(**environment)
    assert list(found) == [what]
    assert words in found[what]


@pytest.mark.parametrize(
    ("low", "high", "remarked"), [(-0.05, -0.04, True), (-0.004, 0.001, False), (None, None, False)]
)
def test_a_sampler_that_slows_the_load_is_said(low: float | None, high: float | None, remarked: bool) -> None:
    sensor = SensorIdentity(source="nvml", sampling_effect=-0.045, sampling_effect_low=low, sampling_effect_high=high)
    environment = Environment(kind="cuda", gpu="NVIDIA H100 80GB HBM3")
    hello = Hello(
        origin="measured", environment=environment, board_id=None, sensor=sensor, idle_w=None, idle_context_w=None
    )
    found = dict(remarks(hello))
    assert ("sampling" in found) is remarked
    assert not remarked or "changed throughput by -4.5%" in found["sampling"]


@pytest.mark.parametrize(("idle_w", "remarked"), [(100.0, True), (86.0, False), (60.0, False), (None, False)])
def test_idle_power_far_above_the_boards_own_is_said(idle_w: float | None, remarked: bool) -> None:
    assert ("idle" in said(idle_w=idle_w)) is remarked
    assert "idle" not in said(idle_w=idle_w, usual_w=None)


@pytest.mark.parametrize(
    ("before_w", "after_w", "cause"),
    [
        (95.0, 100.0, None),
        (95.0, 104.9, None),
        (200.0, 215.0, None),
        (95.0, 140.0, "a process has joined"),
        (120.0, 95.0, "when the run began"),
    ],
)
def test_idle_power_left_otherwise_than_found_is_said(before_w: float, after_w: float, cause: str | None) -> None:
    remark = idle_remark(before_w, after_w)
    assert (remark is None) is (cause is None)
    if remark is not None and cause is not None:
        assert f"{after_w:.0f} W after the load, it was {before_w:.0f} W before" in remark
        assert cause in remark


def test_agents_are_found_by_the_names_of_processes(tmp_path: Path) -> None:
    for pid, name in {"17": "nv-hostengine", "23": "python", "99": "dcgm-exporter"}.items():
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "comm").write_text(f"{name}\n")
    (tmp_path / "self").mkdir()
    assert monitoring_agents(tmp_path) == ("dcgm-exporter", "nv-hostengine")
