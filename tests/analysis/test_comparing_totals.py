"""Totals of suites on both sides: weights, what is left out, and errors that all cases of a process share."""

from __future__ import annotations

import math

import pytest
from comparing import case, of, processes, run, use

from flopwatt.analysis.comparing.comparison import compare
from flopwatt.runs.stats import RUN_TO_RUN, Z975, student_t

A, B = case(1024), case(2048)
STEADY = (1.0, 1.01, 0.99)


def test_cases_weigh_by_count() -> None:
    base = run("a", of(A, launch_ms=1.0, uses=(use(count=3),)), of(B, launch_ms=2.0, uses=(use(),)))
    new = run("b", of(A, launch_ms=2.0, uses=(use(count=3),)), of(B, launch_ms=2.0, uses=(use(),)))
    (total,) = compare(base, new).suites
    assert total.time is not None
    assert total.time.base == pytest.approx(5e-3, rel=1e-3)
    assert total.time.new == pytest.approx(8e-3, rel=1e-3)
    assert total.flop == 3 * A.flop + B.flop
    assert total.speedup == pytest.approx(5 / 8, rel=1e-3)


def test_roles_of_one_case_add_up() -> None:
    uses = (use(count=2), use(count=4, role="up"), use(count=8, role="scores", headline=False))
    (total,) = compare(run("a", of(A, uses=uses)), run("b", of(A, uses=uses))).suites
    assert total.flop == 6 * A.flop


def test_totals_hold_only_what_both_timed_and_count_the_rest() -> None:
    uses = (use(),)
    failed = of(case(512), index=3, uses=uses, status="failed", reason="crashed", measurement=None)
    base = run("a", of(A, uses=uses), of(B, index=1, uses=uses), of(case(512), index=2, uses=uses))
    new = run("b", of(A, uses=uses), of(case(256), index=1, uses=uses), failed)
    (total,) = compare(base, new).suites
    assert (total.cases, total.left_out) == (1, 3)
    assert total.flop == A.flop


def test_shapes_that_are_no_headline_have_no_total() -> None:
    plain = (use(headline=False),)
    result = compare(run("a", of(uses=plain)), run("b", of(launch_ms=2.0, uses=plain)))
    assert result.suites == ()
    assert result.exit_code() == 1


def test_a_process_s_common_gain_does_not_shrink_with_the_number_of_cases() -> None:
    cases = [case(1024 * m) for m in range(1, 17)]
    base = run("a", *(one for each in cases for one in processes(STEADY, each, uses=(use(),))))
    new = run("b", *(one for each in cases for one in processes(STEADY, each, uses=(use(),))))
    (total,) = compare(base, new).suites
    assert total.time is not None
    assert total.time.half == pytest.approx(student_t(4) * 0.01 * math.sqrt(2 / 3), rel=0.02)


def test_one_process_carries_the_spread_once_for_all_its_cases() -> None:
    cases = [case(1024 * m) for m in range(1, 17)]
    base = run("a", *(of(each, index=i, uses=(use(),)) for i, each in enumerate(cases)))
    new = run("b", *(of(each, index=i, uses=(use(),)) for i, each in enumerate(cases)))
    (total,) = compare(base, new).suites
    assert total.time is not None
    assert total.time.half is not None
    assert math.sqrt(2) * Z975 * RUN_TO_RUN <= total.time.half < 1.2 * math.sqrt(2) * Z975 * RUN_TO_RUN


def test_where_no_process_measured_all_errors_point_the_same_way() -> None:
    def side(name: str) -> list[object]:
        return [run(f"{name}1", of(A, uses=(use(),))), run(f"{name}2", of(B, uses=(use(),)))]

    (total,) = compare(side("a"), side("b")).suites  # type: ignore[arg-type]
    assert total.cases == 2
    assert total.time is not None
    assert total.time.half is not None
    assert total.time.half >= math.sqrt(2) * Z975 * RUN_TO_RUN


def test_energy_is_totalled_over_the_cases_that_have_it() -> None:
    silent = {"energy_status": "unsupported", "energy_reason": "no counter"}
    base = run("a", of(A, watts=400.0, uses=(use(),)), of(B, index=1, uses=(use(),)))
    new = run("b", of(A, watts=600.0, uses=(use(),)), of(B, index=1, uses=(use(),), **silent))
    result = compare(base, new)
    (total,) = result.suites
    assert (total.cases, total.without_energy) == (2, 1)
    power, per_watt = result.judged(total, "power"), result.judged(total, "tflops-per-w")
    assert power is not None
    assert per_watt is not None
    assert power.ratio == pytest.approx(1.5, rel=1e-3)
    assert per_watt.base == pytest.approx(A.flop * 1e-12 / 0.4, rel=2e-3)
    assert per_watt.ratio == pytest.approx(1 / 1.5, rel=1e-3)


def test_power_of_a_total_is_joules_over_seconds() -> None:
    base = run("a", of(A, launch_ms=1.0, watts=300.0, uses=(use(),)), of(B, launch_ms=3.0, watts=700.0, uses=(use(),)))
    result = compare(base, base)
    found = result.judged(result.suites[0], "power")
    assert found is not None
    assert found.base == pytest.approx(600.0, rel=1e-3)
    assert (found.ratio, found.verdict) == (1.0, "same")


def test_formats_of_one_suite_are_totalled_apart() -> None:
    uses = [(use(dtype=dtype),) for dtype in ("bf16", "fp16")]
    one = run("a", of(A, uses=uses[0]), of(B, index=1, uses=uses[1]))
    assert [total.key.dtype for total in compare(one, one).suites] == ["bf16", "fp16"]
