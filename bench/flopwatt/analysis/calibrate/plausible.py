"""Whether what a calibration file says of its points, its domain and its lattice can be so."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

from flopwatt.analysis.calibrate.points import LAYOUT_CODES
from flopwatt.analysis.calibrate.records import Domain, Errors, Fitted, Growth
from flopwatt.analysis.calibrate.residual import LOGARITHM_MOST
from flopwatt.analysis.calibrate.validation import SIZES_GFLOP
from gemmkernels.problem import DTYPES, MAX_DIMENSION


def facts_problem(one: Fitted) -> str | None:
    """Why format, points, domain and rates cannot be right; None if they can."""
    times = (*one.measured_s, *one.held_out_s)
    watts = [value for value in (*one.measured_w, *one.held_out_w) if value is not None]
    every = {len(column) for column in (one.shapes, one.measured_s, one.held_out_s, one.layouts)}
    if one.measured_w or one.held_out_w:
        every |= {len(one.measured_w), len(one.held_out_w)}
    return _first(
        {
            "unknown dtype": one.dtype in DTYPES,
            "points differ in number": len(every) == 1,
            "a shape that is none": all(1 <= size <= MAX_DIMENSION for shape in one.shapes for size in shape),
            "a time that is none": all(0 < seconds < math.inf for seconds in times),
            "watts that are none": all(0 < value < math.inf for value in watts),
            "unknown layout": set(one.layouts) <= set(LAYOUT_CODES),
            "a rate that is none": one.sustained_flop_per_s is None or 0 < one.sustained_flop_per_s < math.inf,
        }
    ) or next(filter(None, _parts_problems(one)), None)


def _parts_problems(one: Fitted) -> Iterator[str | None]:
    if one.domain is not None:
        yield _domain_problem(one.domain)
    for errors in (one.errors_time, one.errors_power, one.errors_energy):
        if errors is not None:
            yield _errors_problem(errors)


def _errors_problem(errors: Errors) -> str | None:
    sides = [size for group in errors.by_site for size in (group.n, group.k)]
    return _first(
        {
            "an error by size that is none": all(group.size_gflop in SIZES_GFLOP for group in errors.by_size),
            "an error by site that is none": all(size is not None and 1 <= size <= MAX_DIMENSION for size in sides),
        }
    )


def growth_problem(growth: Growth) -> str | None:
    """Why the lattice cannot be right; None if it can."""
    axes = (growth.m, growth.n, growth.k)
    times = [value for table in growth.log_s.values() for value in table]
    return _first(
        {
            "a lattice that is none": all(map(_ascending, axes)),
            "a lattice of an unknown layout": set(growth.log_s) <= set(LAYOUT_CODES),
            "a lattice of another size": {len(table) for table in growth.log_s.values()} <= {math.prod(map(len, axes))},
            "a lattice with a time that is none": all(abs(value) <= LOGARITHM_MOST for value in times),
            "a reversal that is none": len(growth.reversal) == len(SIZES_GFLOP)
            and all(value <= LOGARITHM_MOST for value in growth.reversal),
        }
    )


def _domain_problem(domain: Domain) -> str | None:
    sizes = zip(domain.low, domain.high, strict=True)
    return _first(
        {
            "unknown layout": bool(domain.layouts) and set(domain.layouts) <= set(LAYOUT_CODES),
            "a domain that is none": all(-1 <= low <= high <= 100 for low, high in sizes),
        }
    )


def _ascending(axis: tuple[int, ...]) -> bool:
    return bool(axis) and axis[0] >= 1 and axis[-1] <= MAX_DIMENSION and all(a < b for a, b in pairwise(axis))


def _first(checks: dict[str, bool]) -> str | None:
    return next((what for what, good in checks.items() if not good), None)
