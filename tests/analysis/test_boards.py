"""Boards of one type side by side: figures, spread, outliers and their causes."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import msgspec
import numpy as np
import pytest
from comparing import case, of, run, use
from scipy import stats as reference
from synthetic import H100, measurement, segment

from flopwatt.analysis.boards.figures import figures
from flopwatt.analysis.boards.outliers import SCORE
from flopwatt.analysis.boards.reading import Board, Cases, board_of
from flopwatt.analysis.boards.spread import Kind, kinds, spread
from flopwatt.runs.records import Environment
from flopwatt.runs.stats import chi_square
from flopwatt.runs.store import RunFile

A100 = Environment(kind="cuda", gpu="NVIDIA A100-SXM4-80GB", sm_count=108, memory_bytes=85_000_000_000)


def board_run(
    name: str,
    launches_ms: Sequence[float] = (1.0,),
    watts: float = 500.0,
    environment: Environment = H100,
    limit_w: float = 700.0,
    **words: object,
) -> RunFile:
    """One board: a GEMM of 4096 and one of twice its FLOPs, in a process for each launch time."""
    machine = msgspec.structs.replace(
        segment(),
        environment=msgspec.structs.replace(environment, power_limit_mw=round(limit_w * 1e3)),
        board_id=f"{name:0>12}",
    )
    records = []
    for process, ms in enumerate(launches_ms):
        for m, times in ((4096, 1), (8192, 3)):
            raw = measurement(launch_ms=ms * m / 4096, watts=watts, **words)
            uses = (use(count=times),)
            records.append(of(case(m), process=process, index=len(records), uses=uses, measurement=raw))
    return run(name, *records, machine=machine)


def of_boards(*runs: RunFile) -> list[Kind]:
    cases = Cases()
    return kinds([board for one in runs if (board := board_of(one, cases)) is not None], cases)


def test_a_board_is_the_count_weighted_total_of_its_gemms() -> None:
    (kind,) = of_boards(board_run("a", [1.0, 2.0]))
    flop = 2 * 4096**3
    total_flop, total_s = flop * 1 + 2 * flop * 3, 1e-3 * 1 + 2e-3 * 3
    fast, slow = total_flop / total_s * 1e-12, total_flop / total_s / 2 * 1e-12
    assert kind.spreads["tflops"].mean.value == pytest.approx((fast + slow) / 2, rel=2e-3)
    assert kind.spreads["power_w"].mean.value == pytest.approx(500, rel=1e-3)
    assert kind.spreads["tflops_per_w"].mean.value == pytest.approx((fast + slow) / 2 / 500, rel=3e-3)
    assert kind.name == "H100-SXM5-80GB"
    assert kind.gain == 0.05


def test_the_mean_and_the_spread_have_boards_as_the_sample() -> None:
    ms = [1.0, 1.01, 0.99, 1.02, 0.98]
    (kind,) = of_boards(*(board_run(f"{n}", [value]) for n, value in enumerate(ms)))
    speeds = 1 / np.array(ms)
    spread = kind.spreads["tflops"]
    seen = speeds.std(ddof=1) / speeds.mean()
    assert spread.deviation.value == pytest.approx(seen, rel=0.02)
    low, high = (seen * math.sqrt(4 / reference.chi2.ppf(p, 4)) for p in (0.975, 0.025))
    assert spread.deviation.low == pytest.approx(low, rel=0.02)
    assert spread.deviation.high == pytest.approx(high, rel=0.02)
    half = reference.t.ppf(0.975, 4) * seen / math.sqrt(5)
    assert spread.mean.relative_half_width == pytest.approx(half, rel=0.02)
    assert spread.least == pytest.approx(spread.mean.value * (1 / 1.02) / speeds.mean(), rel=2e-3)
    assert (spread.assumed, spread.within) == (True, 0.01)
    assert spread.between == pytest.approx(math.sqrt(seen**2 - 0.01**2), rel=0.04)


def test_what_runs_of_one_board_scatter_by_is_taken_off() -> None:
    (kind,) = of_boards(
        *(board_run(f"{n}", [middle * 0.98, middle * 1.02]) for n, middle in enumerate([1, 1.01, 0.99]))
    )
    spread = kind.spreads["tflops"]
    assert not spread.assumed
    assert spread.within == pytest.approx(0.02 * math.sqrt(2), rel=0.02)
    assert spread.deviation.value == pytest.approx(0.01, rel=0.05)
    assert spread.between == 0, "runs of one board explain all of it"


def test_types_and_origins_are_kept_apart() -> None:
    found = of_boards(board_run("a"), board_run("b", environment=A100), board_run("c"))
    assert [(kind.name, len(kind.boards)) for kind in found] == [("H100-SXM5-80GB", 2), ("A100-SXM4-80GB", 1)]
    assert found[1].spreads["tflops"].mean.low is None, "one board says nothing of others"
    assert math.isnan(found[1].spreads["tflops"].between)
    assert found[1].outliers == ()


def test_a_board_that_lacks_gemms_is_named_and_left_out() -> None:
    whole = [board_run(f"{n}") for n in range(3)]
    part = board_run("9", [0.5])
    short = RunFile(part.path, part.header, part.segments, part.records[:1])
    (kind,) = of_boards(*whole, short)
    assert [board.board_id for board in kind.incomplete] == ["000000000009"]
    assert len(kind.spreads["tflops"].figures.values) == 3
    assert kind.spreads["tflops"].deviation.value == pytest.approx(0, abs=1e-9)


def test_boards_without_watts_have_speeds_alone() -> None:
    refused = board_run("a")
    records = tuple(msgspec.structs.replace(r, energy_status="refused", energy_reason="x") for r in refused.records)
    (kind,) = of_boards(RunFile(refused.path, refused.header, refused.segments, records))
    assert set(kind.spreads) == {"tflops"}


def odd_one(odd: RunFile) -> tuple[dict[str, float], tuple[str, ...]]:
    """What is said of one board among six that are alike within half a percent."""
    others = [board_run(f"{n}", [1 + 0.002 * n]) for n in range(6)]
    (kind,) = of_boards(*others, odd)
    (outlier,) = kind.outliers
    assert outlier.board.board_id == "000000000odd"
    return outlier.off, outlier.causes


def test_a_low_power_limit_is_named() -> None:
    off, causes = odd_one(board_run("odd", [1.25], watts=400, limit_w=500))
    assert off["tflops"] == pytest.approx(1.005 / 1.25 - 1, abs=0.01)
    assert off["power_w"] == pytest.approx(-0.2, abs=0.01)
    assert causes == ("low power limit: 500 W, the others 700 W",)


def test_throttling_by_heat_is_named() -> None:
    off, causes = odd_one(board_run("odd", [1.25], reasons=0x20))
    assert "tflops" in off
    assert causes == ("throttled: heat held its clock down for 100 % of the time",)


def hotter(one: RunFile, temp_c: int, mhz: int = 1500) -> RunFile:
    """The run with another temperature and clock in its readings."""
    records = []
    for record in one.records:
        power = msgspec.structs.replace(
            record.measurement.power,
            temp_c=(temp_c,) * len(record.measurement.power.t_ns),
            clock_mhz=(mhz,) * len(record.measurement.power.t_ns),
        )
        raw = msgspec.structs.replace(record.measurement, power=power)
        records.append(msgspec.structs.replace(record, measurement=raw))
    return RunFile(one.path, one.header, one.segments, tuple(records))


def test_a_hot_board_and_a_slow_one_are_told_apart() -> None:
    assert odd_one(hotter(board_run("odd", [1.0]), 78))[1] == ("hot: 78 °C, the others 60 °C",)
    off, causes = odd_one(hotter(board_run("odd", [1.25]), 60, mhz=1200))
    assert off["tflops"] < -0.15
    assert causes == ("slow board: 1200 MHz, the others 1500 MHz, with neither heat nor limit to blame",)
    assert odd_one(board_run("odd", [1.25]))[1] == ("slow board: neither clock, heat nor limit explains it",)


def test_watts_alone_may_be_the_sensors_gain() -> None:
    off, causes = odd_one(board_run("odd", [1.005], watts=560))
    assert set(off) == {"power_w", "tflops_per_w"}
    assert causes == ("its watts differ alone: the board, or the gain of its sensor",)


def test_boards_that_scatter_as_runs_do_are_no_outliers() -> None:
    rng = np.random.default_rng(1)
    found = sum(
        len(of_boards(*(board_run(f"{n}", [1 + 0.01 * rng.standard_normal()]) for n in range(12)))[0].outliers)
        for _ in range(10)
    )
    assert found <= 1, f"of 120 boards of one kind, {found} beyond {SCORE} deviations"


def test_intervals_over_six_boards_hold_the_truth_nineteen_times_in_twenty() -> None:
    (kind,) = of_boards(*(board_run(f"{n}") for n in range(6)))
    six, truth, between = kind.spreads["tflops"].figures, 700.0, 0.03
    rng, fleets = np.random.default_rng(6), 400
    means = deviations = 0
    for _ in range(fleets):
        values = truth * (1 + between * rng.standard_normal(6))
        found = spread(dataclasses.replace(six, values=values))
        ends = (found.mean.low, found.mean.high, found.deviation.low, found.deviation.high)
        low, high, least, most = (end for end in ends if end is not None)
        means += low <= truth <= high
        deviations += least <= between <= most
    assert 0.92 <= means / fleets <= 0.98
    assert 0.92 <= deviations / fleets <= 0.98


@pytest.mark.parametrize("degrees", [1, 2, 5, 30, 999])
def test_chi_square_quantiles_are_exact(degrees: int) -> None:
    for p in (0.025, 0.5, 0.975):
        assert chi_square(p, degrees) == pytest.approx(reference.chi2.ppf(p, degrees), rel=1e-9)


def test_a_run_without_a_sustained_result_is_no_board() -> None:
    assert board_of(run("empty"), Cases()) is None
    burst = of(case(regime="burst"), energy_status="refused", energy_reason="a burst")
    assert board_of(run("burst", burst), Cases()) is None


def test_figures_of_nothing_are_empty() -> None:
    boards: list[Board] = []
    assert len(figures(boards, Cases(), "tflops").values) == 0
