"""Rows of one case as one row: means, Student's intervals, and what one process alone cannot know."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from flopwatt.analysis.processes import IDENTITY, merge, run_to_run
from flopwatt.runs.stats import RUN_TO_RUN, student_t
from flopwatt.runs.tidy import COLUMNS

QUANTITIES = ("time_s", "tflops", "power_w", "tflops_per_w")


def row(case: int, process: int, value: float | None, half: float = 0.002) -> dict[str, Any]:
    """A row all of whose quantities are `value`, give or take a relative half."""
    found: dict[str, Any] = {**dict.fromkeys(COLUMNS), **dict.fromkeys(IDENTITY, "same"), "m": case, "process": process}
    for name in QUANTITIES:
        found[name] = value
        found[f"{name}_low"] = None if value is None else value * (1 - half)
        found[f"{name}_high"] = None if value is None else value * (1 + half)
    return found | {"clock_mhz": value}


def test_several_processes_give_their_mean_and_students_interval() -> None:
    (merged,) = merge([row(1, process, value) for process, value in enumerate((9.0, 10.0, 11.0))])
    assert merged["processes"] == 3
    for name in QUANTITIES:
        assert merged[name] == 10.0
        assert merged[f"{name}_high"] - 10.0 == pytest.approx(student_t(2) / math.sqrt(3))
    assert merged["clock_mhz"] == 10.0


def test_one_process_alone_carries_the_assumed_spread() -> None:
    (merged,) = merge([row(1, 0, 10.0)])
    assert merged["power_w_high"] == pytest.approx(10 * (1 + math.hypot(0.002, 1.96 * RUN_TO_RUN)), rel=1e-5)


def test_one_process_carries_the_spread_of_its_boards_other_cases_where_they_tell() -> None:
    rng = np.random.default_rng(0)
    others = [row(case, process, 10 * (1 + rng.normal(0, 0.003))) for case in range(10) for process in range(3)]
    spread = run_to_run("power_w", [others[start : start + 3] for start in range(0, 30, 3)])
    assert spread == pytest.approx(0.003, rel=0.3)
    alone = merge([*others, row(99, 0, 10.0)])[-1]
    assert alone["power_w_high"] == pytest.approx(10 * (1 + math.hypot(0.002, 1.96 * spread)), rel=1e-5)


def test_a_spread_of_too_few_repeats_is_not_believed() -> None:
    assert run_to_run("power_w", [[row(1, 0, 10.0), row(1, 1, 10.001)]]) == RUN_TO_RUN


def test_processes_without_a_quantity_are_left_out_of_it() -> None:
    (merged,) = merge([row(1, 0, 10.0), row(1, 1, None), row(1, 2, 12.0)])
    assert merged["processes"] == 3
    assert merged["power_w"] == 11.0
    (nothing,) = merge([row(1, 0, None), row(1, 1, None)])
    assert nothing["power_w"] is None
