"""Comparing runs: what pairs with what, what never does, ratios, totals, verdicts, exit codes."""

from __future__ import annotations

import math

import pytest
from comparing import case, imported, of, processes, run, segment, use

from flopwatt.analysis.comparing.comparison import Options, compare
from flopwatt.analysis.comparing.matching import Backends
from flopwatt.errors import InputError
from flopwatt.runs.records import Case, Correctness, SensorIdentity, Use
from flopwatt.runs.stats import RUN_TO_RUN, Z975, student_t
from flopwatt.runs.store import RunFile
from gemmkernels.problem import Problem

STEADY = (1.0, 1.004, 0.996)
QUIET = (1.0, 1.001, 0.999)
OTHER_BOARD = segment(board_id="ba9876543210", sensor=SensorIdentity(source="nvml", gain_uncertainty=0.03))


def slower(by: float) -> list[float]:
    return [launch_ms * by for launch_ms in STEADY]


def test_a_ratio_is_new_over_base_and_speedup_its_inverse() -> None:
    result = compare(run("a", *processes(STEADY)), run("b", *processes(slower(1.25))))
    (one,) = result.cases
    found = result.judged(one)
    assert found is not None
    assert found.base == pytest.approx(1e-3, rel=1e-3)
    assert found.ratio == pytest.approx(1.25, rel=1e-3)
    assert one.speedup == pytest.approx(0.8, rel=1e-3)
    assert found.verdict == "slower"
    assert found.systematic == 0.0


def test_every_metric_follows_from_time_and_watts() -> None:
    base = run("a", *processes(STEADY, watts=500.0))
    new = run("b", *processes(slower(0.5), watts=600.0))
    result = compare(base, new)
    found = {
        name: result.judged(result.cases[0], name) for name in ("time", "tflops", "power", "energy", "tflops-per-w")
    }
    ratios = {name: one.ratio for name, one in found.items() if one}
    assert ratios == pytest.approx(
        {"time": 0.5, "tflops": 2.0, "power": 1.2, "energy": 0.6, "tflops-per-w": 1 / 0.6}, rel=2e-3
    )
    verdicts = {name: one.verdict for name, one in found.items() if one}
    assert verdicts == {
        "time": "faster", "tflops": "faster", "power": "worse", "energy": "better", "tflops-per-w": "better",
    }  # fmt: skip
    per_watt = found["tflops-per-w"]
    assert per_watt is not None
    flop = Problem(4096, 4096, 4096).flop
    assert per_watt.base == pytest.approx(flop * 1e-12 / (500 * 1e-3), rel=2e-3)


def test_one_process_a_side_carries_the_run_to_run_spread_twice() -> None:
    result = compare(run("a", of()), run("b", of(launch_ms=1.02)))
    found = result.judged(result.cases[0])
    assert found is not None
    assert found.verdict == "inconclusive"
    assert found.interval.relative_half_width > math.sqrt(2) * Z975 * RUN_TO_RUN
    assert result.exit_code() == 3


def test_the_spread_of_a_boards_repeated_cases_stands_in_for_one_process() -> None:
    repeated = [one for m in range(1, 7) for one in processes((1.0, 1.001, 0.999), case(1024 * m))]
    lone = case(512)
    result = compare(run("a", *repeated, of(lone)), run("b", of(lone, launch_ms=1.03)))
    (one,) = result.cases
    found = one.ratio("time")
    assert found is not None
    assert found.half is not None
    assert found.half < Z975 * RUN_TO_RUN
    assert result.exit_code() == 1


def test_two_boards_carry_both_gains_and_one_board_none() -> None:
    base, new = processes(STEADY), processes(STEADY, watts=300.0)
    same_board = compare(run("a", *base), run("b", *new)).cases[0].energy
    two_boards = compare(run("a", *base), run("b", *new, machine=OTHER_BOARD)).cases[0].energy
    assert same_board is not None
    assert two_boards is not None
    assert same_board.systematic == 0.0
    assert two_boards.systematic == pytest.approx(math.hypot(0.05, 0.03))
    assert two_boards.half == same_board.half


def test_an_unknown_gain_leaves_watts_of_two_boards_without_a_verdict() -> None:
    nameless = segment(board_id=None, sensor=SensorIdentity(source="nvml"))
    base = run("a", *processes(STEADY), machine=nameless)
    new = run("b", *processes(STEADY, watts=300.0), machine=nameless)
    result = compare(base, new, Options(metric="energy"))
    assert result.verdicts(result.cases) == ["inconclusive"]
    assert compare(base, new).verdicts(result.cases) != ["faster"]


def test_the_very_same_records_are_the_same() -> None:
    one = run("a", of())
    result = compare(one, one, Options(metric="energy"))
    assert result.verdicts(result.cases) == ["same"]
    assert result.exit_code() == 0


def test_failed_rows_never_yield_a_ratio_and_a_new_failure_is_a_regression() -> None:
    wrong = of(status="failed", reason="wrong", correctness=Correctness(relative_error=0.5, bound=0.01, method="exact"))
    good = run("a", of())
    result = compare(good, run("b", wrong))
    assert result.cases[0].time is None
    assert result.cases[0].energy is None
    assert result.cases[0].new.failure == "failed: wrong"
    assert result.exit_code() == 1
    assert result.exit_code("never") == 0
    assert compare(run("b", wrong), good).exit_code() == 3


def test_a_skipped_case_is_no_regression() -> None:
    result = compare(run("a", of()), run("b", of(status="skipped", reason="no fp8", measurement=None)))
    assert not result.cases[0].newly_failed
    assert result.exit_code() == 3


def test_refused_energy_leaves_the_time_comparable() -> None:
    result = compare(run("a", *processes(STEADY)), run("b", *processes(STEADY, energy_status="refused")))
    assert result.cases[0].time is not None
    assert result.cases[0].energy is None
    assert result.judged(result.cases[0], "tflops-per-w") is None


def test_cases_of_one_side_are_listed() -> None:
    result = compare(run("a", of(), of(case(512), index=1)), run("b", of(), of(case(256), index=1)))
    assert [side.identity.m for side in result.only_base] == [512]
    assert [side.identity.m for side in result.only_new] == [256]
    assert len(result.cases) == 1


@pytest.mark.parametrize(
    ("field", "base", "new"),
    [("inputs", "normal", "zeros"), ("regime", "sustained", "burst"), ("cache", "rotating", "hot")],
)
def test_what_differs_is_not_compared_unasked(field: str, base: str, new: str) -> None:
    left, right = run("a", of(case(**{field: base}))), run("b", of(case(**{field: new})))
    with pytest.raises(InputError) as refused:
        compare(left, right)
    assert f"{field} is {base} in BASE and {new} in NEW" in str(refused.value)
    assert f"--allow-mixed {field}" in str(refused.value)
    (one,) = compare(left, right, Options(mixed=(field,))).cases
    assert (getattr(one.base.identity, field), getattr(one.new.identity, field)) == (base, new)


def test_fp8_scalings_are_not_mixed() -> None:
    sides = [
        run(scaling, of(case(problem=Problem(64, 64, 64, dtype="fp8_e4m3", layout="nt", scaling=scaling))))
        for scaling in ("tensor", "row")
    ]
    with pytest.raises(InputError, match="scaling is tensor in BASE and row in NEW"):
        compare(*sides)
    assert len(compare(*sides, Options(mixed=("scaling",))).cases) == 1


def fp8(backend: str, m: int = 4096, layout: str = "nt", **config: bool) -> Case:
    problem = Problem(m, 4096, 4096, dtype="fp8_e4m3", layout=layout, scaling="tensor")
    return case(problem=problem, backend=backend, config=dict(config) or None)


def test_fast_accumulation_is_never_mixed_with_promoted_unasked() -> None:
    promoted = of(fp8("torch-fp8", fast_accumulation=False), launch_ms=2.0)
    fast = of(fp8("torch-fp8-fast"), launch_ms=1.0, index=1)
    for backends in (Backends(best=True), Backends(base="torch-fp8", new="torch-fp8-fast")):
        with pytest.raises(InputError, match="accumulation is promoted in BASE and fast in NEW"):
            compare(run("a", promoted), run("b", fast), Options(backends=backends))
    both = run("b", fast, of(fp8("triton-persistent", fast_accumulation=False), launch_ms=1.8, index=2))
    (one,) = compare(run("a", promoted), both, Options(backends=Backends(best=True))).cases
    assert one.new.identity.backend == "triton-persistent"
    told = Options(backends=Backends(best=True), mixed=("accumulation",))
    (one,) = compare(run("a", promoted), both, told).cases
    assert one.new.identity.backend == "torch-fp8-fast"


def phases(*names: str) -> tuple[Use, ...]:
    return tuple(use(phase=name, count=2) for name in names)


def bf16_and_fp8() -> tuple[RunFile, RunFile]:
    """The same three GEMMs of a step; fp8 runs two of them as one case, since it lies in memory as `nt` only."""
    square, wide = Problem(4096, 4096, 4096, layout="nt"), Problem(1024, 4096, 4096, layout="tn")
    base = run(
        "a",
        of(case(problem=square), launch_ms=4.0, uses=phases("forward")),
        of(case(problem=Problem(4096, 4096, 4096)), launch_ms=5.0, index=1, uses=phases("input_grad")),
        of(case(problem=wide), launch_ms=1.0, index=2, uses=phases("weight_grad")),
    )
    new = run(
        "b",
        of(fp8("torch-fp8"), launch_ms=2.0, uses=phases("forward", "input_grad")),
        of(fp8("torch-fp8", m=1024), launch_ms=0.5, index=1, uses=phases("weight_grad")),
    )
    return base, new


def test_two_formats_pair_by_what_the_gemms_are_for() -> None:
    base, new = bf16_and_fp8()
    backends = Backends(base="torch", new="torch-fp8")
    with pytest.raises(InputError, match="--allow-mixed dtype --base-backend torch --new-backend torch-fp8"):
        compare(base, new)
    result = compare(base, new, Options(backends=backends, mixed=("dtype",)))
    layouts = [(one.base.identity.layout, one.new.identity.layout) for one in result.cases]
    assert layouts == [("nt", "nt"), ("nn", "nt"), ("tn", "nt")]
    assert result.only_base == result.only_new == ()
    (total,) = result.suites
    assert total.dtype == "bf16 → fp8_e4m3"
    assert total.time is not None
    assert (total.time.base, total.time.new) == pytest.approx((20e-3, 9e-3), rel=1e-3)


def test_two_formats_compared_the_other_way_round_give_the_inverse() -> None:
    base, new = bf16_and_fp8()
    there = compare(base, new, Options(backends=Backends(best=True), mixed=("dtype",))).suites[0].time
    back = compare(new, base, Options(backends=Backends(best=True), mixed=("dtype",))).suites[0].time
    assert there is not None
    assert back is not None
    assert back.value == pytest.approx(1 / there.value)
    assert back.half == pytest.approx(there.half)


def test_which_of_two_kinds_of_fp8_is_meant_nobody_can_tell() -> None:
    base, new = bf16_and_fp8()
    several = (*new.records, of(fp8("torch-fp8-fast"), index=2, uses=phases("forward", "input_grad")))
    result = compare(base, run("b", *several), Options(backends=Backends(best=True), mixed=("dtype",)))
    assert [one.base.identity.m for one in result.cases] == [1024]
    assert len(result.only_base) == 2


def test_simulated_and_measured_runs_are_not_mixed() -> None:
    left, right = run("a", of()), run("b", of(origin="simulated"))
    with pytest.raises(InputError, match=r"origin is measured in BASE and simulated in NEW.*--allow-mixed origin"):
        compare(left, right)
    assert len(compare(left, right, Options(mixed=("origin",))).cases) == 1


def test_every_field_that_keeps_cases_apart_is_named() -> None:
    left, right = run("a", of()), run("b", of(case(inputs="zeros"), origin="simulated"))
    with pytest.raises(InputError, match="--allow-mixed origin,inputs"):
        compare(left, right)


def test_equal_cases_pair_before_mixed_ones() -> None:
    both = (of(), of(case(inputs="zeros"), index=1))
    result = compare(run("a", *both), run("b", *both), Options(mixed=("inputs",)))
    assert [(one.base.identity.inputs, one.new.identity.inputs) for one in result.cases] == [
        ("normal", "normal"),
        ("zeros", "zeros"),
    ]


def test_which_of_several_mixed_cases_is_meant_is_not_guessed() -> None:
    several = (of(case(inputs="zeros")), of(case(inputs="uniform"), index=1))
    matched, other = case(512), of(case(512), index=2)
    result = compare(run("a", of(), of(matched, index=2)), run("b", *several, other), Options(mixed=("inputs",)))
    assert [one.base.identity.m for one in result.cases] == [512]
    assert len(result.only_new) == 2


def test_leftovers_say_what_would_pair_them() -> None:
    result = compare(run("a", of(), of(case(512), index=1)), run("b", of(), of(case(512, inputs="zeros"), index=1)))
    (difference,) = result.differences
    assert difference.fields == ("inputs",)
    assert difference.values == ((("normal",), ("zeros",)),)
    assert difference.cases == 1


def test_nothing_in_common_is_one_clear_line() -> None:
    with pytest.raises(InputError, match=r"no case is on both sides \(1 in BASE, 1 in NEW\)"):
        compare(run("a", of()), run("b", of(case(512))))
    with pytest.raises(InputError, match="NEW holds no record"):
        compare(run("a", of()), run("b"))


def test_effort_and_configuration_may_differ_and_are_kept() -> None:
    left = run("a", of(case(config={"BLOCK_M": 64})))
    right = run("b", of(case(config={"BLOCK_M": 128}, effort="normal")))
    (one,) = compare(left, right).cases
    assert (one.base.config, one.new.config) == ("BLOCK_M=64", "BLOCK_M=128")
    assert (one.base.effort, one.new.effort) == ("fast", "normal")


def test_of_a_sweep_the_fastest_configuration_counts() -> None:
    sweep = [of(case(config={"BLOCK_M": m}), launch_ms=ms, index=m) for m, ms in ((64, 2.0), (128, 1.0), (256, 4.0))]
    (one,) = compare(run("a", *sweep), run("b", of())).cases
    assert one.base.config == "BLOCK_M=128"
    assert one.time is not None
    assert one.time.base == pytest.approx(1e-3, rel=1e-3)


def test_processes_that_chose_differently_all_count() -> None:
    chosen = [
        of(case(config={"BLOCK_M": m}), launch_ms=ms, process=p, index=p)
        for p, (m, ms) in enumerate([(64, 2), (128, 1)])
    ]
    (one,) = compare(run("a", *chosen), run("b", of())).cases
    assert one.base.config == "BLOCK_M=128 | BLOCK_M=64"
    assert one.time is not None
    assert one.time.base == pytest.approx(1.5e-3, rel=1e-3)


def test_two_backends_of_one_file() -> None:
    both = run("a", *processes(STEADY), *processes(slower(2.0), case(backend="triton-tiled")))
    result = compare(both, both, Options(backends=Backends(base="torch", new="triton-tiled")))
    (one,) = result.cases
    assert (one.base.identity.backend, one.new.identity.backend) == ("torch", "triton-tiled")
    assert one.time is not None
    assert one.time.value == pytest.approx(2.0, rel=2e-3)
    with pytest.raises(InputError, match="BASE holds no record by 'cutlass'"):
        compare(both, both, Options(backends=Backends(base="cutlass", new="torch")))


def test_other_backends_do_not_pair_unasked() -> None:
    left, right = run("a", of()), run("b", of(case(backend="triton-tiled")))
    with pytest.raises(InputError, match="--base-backend torch --new-backend triton-tiled"):
        compare(left, right)


def test_the_best_backend_of_each_side() -> None:
    left = run("a", of(launch_ms=2.0), of(case(backend="triton-tiled"), launch_ms=1.0, index=1))
    right = run("b", of(launch_ms=0.5), of(case(backend="triton-tiled"), launch_ms=1.0, index=1))
    (one,) = compare(left, right, Options(backends=Backends(best=True))).cases
    assert (one.base.identity.backend, one.new.identity.backend) == ("triton-tiled", "torch")
    assert one.time is not None
    assert one.time.value == pytest.approx(0.5, rel=2e-3)


def test_several_files_of_a_side_are_its_processes() -> None:
    base = [run(name, of(launch_ms=ms)) for name, ms in zip("abc", STEADY, strict=True)]
    result = compare(base, run("d", *processes(slower(1.03))))
    assert len(result.cases[0].base.by_unit("time_s")) == 3
    found = result.cases[0].time
    assert found is not None
    assert found.degrees == 4
    assert found.half == pytest.approx(student_t(4) * 0.004 * math.sqrt(2 / 3), rel=0.03)


def test_imported_times_compare_and_say_nothing_of_watts() -> None:
    result = compare(run("a", imported(case(), 2e-3)), run("b", imported(case(), 1e-3)))
    (one,) = result.cases
    assert result.verdicts(result.cases) == ["faster"]
    assert one.energy is None
    assert one.time is not None
    assert one.time.half == pytest.approx(math.sqrt(2) * Z975 * RUN_TO_RUN)


@pytest.mark.parametrize(
    "words",
    [
        {"metric": "joy"},
        {"threshold": 0.0},
        {"threshold": 1.5},
        {"mixed": ("layout",)},
        {"backends": Backends(base="torch")},
        {"backends": Backends(best=True, base="torch", new="torch")},
    ],
)
def test_wrong_words_are_refused(words: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Options(**words)  # type: ignore[arg-type]


def test_one_case_among_many_gates_only_beyond_chance() -> None:
    others = [case(512 * m, problem=Problem(512 * m, 4096, 4096)) for m in range(1, 21)]
    plain = [one for each in others for one in processes(STEADY, each, uses=())]
    base = run("a", *plain)

    def after(by: float) -> int:
        changed = processes(slower(by), others[0], uses=())
        result = compare(base, run("b", *changed, *plain[3:]))
        assert result.verdicts(result.cases).count("slower") == 1
        assert result.exit_code("case") == 1
        return result.exit_code("any")

    assert after(1.015) != 1
    assert after(1.05) == 1


def test_the_suites_total_gates() -> None:
    cases = [case(1024 * m) for m in (1, 2)]
    base = run("a", *processes(QUIET, cases[0], uses=(use(),)), *processes(QUIET, cases[1], uses=(use(count=99),)))
    new = run(
        "b",
        *processes([launch_ms * 1.3 for launch_ms in QUIET], cases[0], uses=(use(),)),
        *processes(QUIET, cases[1], uses=(use(count=99),)),
    )
    result = compare(base, new)
    assert result.verdicts(result.suites) == ["same"]
    assert result.exit_code("suite") == 0
    assert result.exit_code("any") == 1
    assert result.exit_code("never") == 0
