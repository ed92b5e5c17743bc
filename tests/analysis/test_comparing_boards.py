"""Types of GPU compared over several boards each: boards are the sample, and the intervals cover."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import msgspec
import numpy as np
import pytest
from comparing import case, of, run, segment, use

from flopwatt.analysis.comparing.comparison import Options, RunComparison, compare
from flopwatt.analysis.report.comparison_words import notes
from flopwatt.errors import InputError
from flopwatt.runs.records import Environment
from flopwatt.runs.stats import RUN_TO_RUN, Z975, student_t
from flopwatt.runs.store import RunFile

A100 = Environment(kind="cuda", gpu="NVIDIA A100-SXM4-80GB", sm_count=108, memory_bytes=85_000_000_000)


def on_board(board: str, launches_ms: Sequence[float], environment: Environment | None = None) -> RunFile:
    """A GEMM of two sizes on one board, in a process for each launch time."""
    machine = msgspec.structs.replace(segment(), board_id=board)
    if environment is not None:
        machine = msgspec.structs.replace(machine, environment=environment)
    records = [
        of(case(m), launch_ms=ms * m / 4096, process=process, index=2 * process + second, uses=(use(count=2),))
        for process, ms in enumerate(launches_ms)
        for second, m in enumerate((4096, 8192))
    ]
    return run(board, *records, machine=machine)


def fleet(name: str, launches_ms: Sequence[float]) -> list[RunFile]:
    """A board for each launch time."""
    return [on_board(f"{name}{number}", [ms]) for number, ms in enumerate(launches_ms)]


def total(result: RunComparison) -> tuple[float, float, int | None]:
    found = result.suites[0].time
    assert found is not None
    assert found.half is not None
    return found.value, found.half, found.degrees


def test_boards_are_what_is_sampled() -> None:
    base, new = [1.0, 1.02, 0.98], [0.5, 0.51, 0.49]
    result = compare(fleet("a", base), fleet("b", new))
    assert result.boards == (3, 3)
    value, half, degrees = total(result)
    assert value == pytest.approx(0.5, rel=2e-3)
    squares = sum(((np.log(values) - np.log(values).mean()) ** 2).sum() for values in (base, new))
    assert half == pytest.approx(student_t(4) * math.sqrt(squares / 4 * 2 / 3), rel=0.03)
    assert degrees == 4
    assert "boards are the sample, 3 in BASE and 3 in NEW" in " ".join(notes(result))


def test_many_processes_of_few_boards_do_not_pass_for_many_boards() -> None:
    spread = compare(
        [on_board("a0", [0.98] * 9), on_board("a1", [1.02] * 9)],
        [on_board("b0", [0.98] * 9), on_board("b1", [1.02] * 9)],
    )
    _, half, degrees = total(spread)
    assert degrees == 2
    assert half > 0.1, "two boards a side that differ by 4 % tell little"


def test_a_lone_board_carries_the_spread_of_the_other_sides_boards() -> None:
    others = [1 + 0.03 * step for step in (-2, -1, 0, 1, 2, -2, -1, 0, 1, 2)]
    result = compare(fleet("a", others), on_board("b0", [1.0, 1.0, 1.0]))
    assert result.boards == (10, 1)
    _, half, _ = total(result)
    deviation = float(np.std(others, ddof=1))
    assert half == pytest.approx(math.hypot(Z975 * deviation, student_t(9) * deviation / math.sqrt(10)), rel=0.05)
    assert "one board alone carries the other side's spread" in " ".join(notes(result))
    two = compare(fleet("a", [0.9, 1.1]), on_board("b0", [1.0]))
    assert total(two)[1] > Z975 * RUN_TO_RUN, "never less than what runs of one board differ by"


def test_one_board_a_side_is_compared_as_ever() -> None:
    result = compare(on_board("a0", [1.0, 1.004, 0.996]), on_board("b0", [1.0, 1.004, 0.996]))
    assert result.boards is None
    assert total(result)[2] == 4


def test_the_files_of_a_side_are_chosen_by_gpu() -> None:
    files = [*fleet("h", [0.5, 0.51]), on_board("a0", [1.0], A100), on_board("a1", [1.02], A100)]
    result = compare(files, files, Options(gpus=("a100", "H100")))
    assert result.boards == (2, 2)
    assert total(result)[0] == pytest.approx(0.5, rel=2e-3)
    assert {one.segments[0].environment.gpu for one in result.base} == {A100.gpu}
    with pytest.raises(InputError, match="BASE holds no GPU called 'B200': it has NVIDIA A100-SXM4-80GB, NVIDIA H100"):
        compare(files, files, Options(gpus=("B200", "H100")))


def test_the_interval_of_two_types_holds_the_truth_nineteen_times_in_twenty() -> None:
    rng = np.random.default_rng(7)
    inside = tries = 0
    for number in range(60):
        base = fleet(f"a{number}-", 1 + 0.03 * rng.standard_normal(4))
        new = fleet(f"b{number}-", 0.5 * (1 + 0.03 * rng.standard_normal(6)))
        found = compare(base, new).suites[0].time
        assert found is not None
        interval = found.interval()
        assert interval.low is not None
        assert interval.high is not None
        inside += interval.low <= 0.5 <= interval.high
        tries += 1
    assert inside / tries >= 0.88
