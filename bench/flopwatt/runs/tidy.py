"""A run file's records as a table: one row for each record and use, in the units that the column names say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flopwatt.runs import gpus
from flopwatt.runs.energy import judge
from flopwatt.runs.records import ENERGY_USABLE, Case, Record, Segment, Use
from flopwatt.runs.samples import AggregateMeasurement, RawMeasurement
from flopwatt.runs.stats import Interval, launch_time, why_no_time
from flopwatt.runs.store import RunFile, read
from flopwatt.runs.throttling import REASON_SW_POWER_CAP, REASON_THERMAL, fraction_with

if TYPE_CHECKING:
    import pandas as pd

_TEXT: Final = "string"
_FLOAT: Final = "float64"
_INT: Final = "Int64"
_INT_MOST: Final = 2**63 - 1

COLUMNS: Final[dict[str, str]] = {
    "run_id": _TEXT, "origin": _TEXT, "gpu": _TEXT, "board_id": _TEXT,
    "suite": _TEXT, "role": _TEXT, "phase": _TEXT, "count": _INT,
    "m": _INT, "n": _INT, "k": _INT, "batch": _INT,
    "dtype": _TEXT, "out_dtype": _TEXT, "layout": _TEXT, "scaling": _TEXT,
    "backend": _TEXT, "config": _TEXT, "regime": _TEXT, "effort": _TEXT, "inputs": _TEXT, "cache": _TEXT,
    "process": _INT,
    "status": _TEXT, "reason": _TEXT, "energy_status": _TEXT, "energy_reason": _TEXT,
    "flop": _INT, "bytes": _INT,
    "time_s": _FLOAT, "time_s_low": _FLOAT, "time_s_high": _FLOAT,
    "tflops": _FLOAT, "tflops_low": _FLOAT, "tflops_high": _FLOAT,
    "power_w": _FLOAT, "power_w_low": _FLOAT, "power_w_high": _FLOAT, "power_systematic": _FLOAT,
    "energy_j": _FLOAT, "energy_source": _TEXT,
    "tflops_per_w": _FLOAT, "tflops_per_w_low": _FLOAT, "tflops_per_w_high": _FLOAT, "pj_per_flop": _FLOAT,
    "peak_fraction": _FLOAT, "clock_mhz": _FLOAT, "temp_c": _FLOAT,
    "power_limit_w": _FLOAT, "throttle_power": _FLOAT, "throttle_thermal": _FLOAT,
    "window_s": _FLOAT, "idle_power_w": _FLOAT, "relative_error": _FLOAT, "headline": "boolean",
}  # fmt: skip
"""Tidy columns and their pandas types. `headline` says whether the row counts in its suite's totals."""

PART_ROWS: Final = 16_384
"""Rows of one part of a table: about 50 MB as plain values."""

Row = dict[str, Any]


def load(paths: str | Path | Iterable[str | Path]) -> pd.DataFrame:
    """One or several run files as one tidy table, a row for each record and use; columns as `COLUMNS`.

    Raises RunFileError for a file that cannot be read.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    return frame([read(path) for path in paths])


def frame(runs: Iterable[RunFile]) -> pd.DataFrame:
    """The tidy table of several run files. What could not be read, or fits no 64-bit integer, is null, never 0."""
    import pandas as pd

    parts = list(frames(runs))
    return pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]


def frames(runs: Iterable[RunFile]) -> Iterator[pd.DataFrame]:
    """The same table in parts of `PART_ROWS` rows, so that no more of them are held at a time; one at least."""
    import pandas as pd

    rows = (row for run in runs for row in each_row(run))
    part = list(islice(rows, PART_ROWS))
    while True:
        yield pd.DataFrame({name: pd.Series(_column(name, kind, part), dtype=kind) for name, kind in COLUMNS.items()})
        part = list(islice(rows, PART_ROWS))
        if not part:
            return


def _column(name: str, kind: str, rows: Sequence[Row]) -> list[Any]:
    values = [row[name] for row in rows]
    if kind == _INT:  # FLOPs of hours fit no 64-bit column, and hostile files count anything
        return [None if value is None or abs(value) > _INT_MOST else value for value in values]
    return values


def run_rows(run: RunFile) -> list[Row]:
    """The rows of one run file as plain values."""
    return list(each_row(run))


def each_row(run: RunFile) -> Iterator[Row]:
    """The rows of one run file, one after another."""
    segments = {segment.segment: segment for segment in run.segments}
    for record in run.records:
        row = record_row(run.header.id, record, segments.get(record.segment))
        uses: Sequence[Use | None] = record.uses or (None,)
        for use in uses:
            yield {**row, **_use_columns(use)}


def record_row(run_id: str, record: Record, segment: Segment | None) -> Row:
    """One record's columns, without those of its uses. segment: None leaves the machine's columns null."""
    row: Row = dict.fromkeys(COLUMNS)
    environment = segment.environment if segment else None
    row.update(
        run_id=run_id, origin=record.origin, process=record.process,
        gpu=environment.gpu if environment else None,
        board_id=segment.board_id if segment else None,
        idle_power_w=segment.idle_w if segment else None,
        status=record.status, reason=record.reason,
        energy_status=record.energy_status, energy_reason=record.energy_reason,
    )  # fmt: skip
    row.update(_case_columns(record.case))
    if record.origin == "imported":
        row["effort"] = None  # whoever measured it knew no efforts
    if record.correctness is not None:
        row["relative_error"] = record.correctness.relative_error
    if record.status == "ok" and record.measurement is not None:
        row.update(_measured(record, segment))
        _add_peak_fraction(row, segment)
    return row


def _case_columns(case: Case) -> Row:
    columns: Row = {
        "backend": case.backend,
        "config": ",".join(f"{key}={value}" for key, value in sorted(case.config.items())) if case.config else None,
        "regime": case.regime,
        "effort": case.effort,
        "inputs": case.inputs,
        "cache": case.cache,
    }
    p = case.problem
    if p is not None:
        columns.update(
            flop=p.flop, bytes=p.min_bytes, m=p.m, n=p.n, k=p.k, batch=p.batch,
            dtype=p.dtype, out_dtype=p.out_dtype, layout=p.layout, scaling=p.scaling,
        )  # fmt: skip
        return columns
    columns["flop"], columns["bytes"] = case.flop, sum(problem.min_bytes for problem in case.problems)
    formats = {(p.dtype, p.out_dtype, p.scaling) for p in case.problems}
    if len(formats) == 1:
        columns["dtype"], columns["out_dtype"], columns["scaling"] = next(iter(formats))
    return columns


def _use_columns(use: Use | None) -> Row:
    """The columns of one use, and `suite_dtype`, the format that its suite was asked for."""
    if use is None:
        return {"count": 1, "headline": True, "suite_dtype": None}
    return {
        "suite": use.suite,
        "suite_dtype": use.dtype,
        "role": use.role,
        "phase": use.phase,
        "count": use.count,
        "headline": use.headline,
    }


def _measured(record: Record, segment: Segment | None) -> Row:
    if isinstance(record.measurement, AggregateMeasurement):
        return _aggregate_columns(record, record.measurement, segment)
    raw = record.measurement
    assert raw is not None
    time = launch_time(raw, record.case.regime)
    if time is None:
        return {"status": "failed", "reason": why_no_time(raw)}
    columns = _rate_columns(record.case.flop, time)
    columns.update(_state_columns(raw))
    if record.energy_status in ENERGY_USABLE:
        sensor = segment.sensor if segment else None
        energy = judge(raw, sensor)
        if energy.power_w is None or energy.energy_j is None:
            columns["energy_status"], columns["energy_reason"] = energy.status, energy.reason
        else:
            columns.update(_energy_columns(record.case.flop, energy.power_w, energy.energy_j, energy.source))
            columns["power_systematic"] = sensor.gain_uncertainty if sensor else None
    return columns


def _rate_columns(flop: int, time: Interval) -> Row:
    tflops = time.reciprocal(flop * 1e-12)
    return {
        "time_s": time.value, "time_s_low": time.low, "time_s_high": time.high,
        "tflops": tflops.value, "tflops_low": tflops.low, "tflops_high": tflops.high,
    }  # fmt: skip


def _energy_columns(flop: int, power: Interval, joules: Interval, source: str | None) -> Row:
    per_watt = joules.reciprocal(flop * 1e-12)
    return {
        "power_w": power.value, "power_w_low": power.low, "power_w_high": power.high,
        "energy_j": joules.value, "energy_source": source,
        "tflops_per_w": per_watt.value, "tflops_per_w_low": per_watt.low, "tflops_per_w_high": per_watt.high,
        "pj_per_flop": joules.value / flop * 1e12,
    }  # fmt: skip


def _state_columns(raw: RawMeasurement) -> Row:
    columns: Row = {
        "window_s": sum(w.end_ns - w.start_ns for w in raw.windows) * 1e-9,
        "throttle_power": fraction_with(raw, REASON_SW_POWER_CAP),
        "throttle_thermal": fraction_with(raw, REASON_THERMAL),
    }
    if raw.power is not None:
        t = np.asarray(raw.power.t_ns)
        inside = np.zeros(len(t), dtype=bool)
        for window in raw.windows:
            inside |= (t >= window.start_ns) & (t < window.end_ns)  # at its end the load is gone
        columns["clock_mhz"] = _mean(raw.power.clock_mhz, inside)
        columns["temp_c"] = _mean(raw.power.temp_c, inside)
    if raw.slow is not None:
        limits = [limit for limit in raw.slow.power_limit_mw if limit is not None]
        columns["power_limit_w"] = limits[-1] * 1e-3 if limits else None
    return columns


def _mean(values: Sequence[int | None], inside: np.ndarray[Any, np.dtype[np.bool_]]) -> float | None:
    known = [value for value, use in zip(values, inside, strict=True) if use and value is not None] if values else []
    return float(np.mean(known)) if known else None


def _aggregate_columns(record: Record, aggregate: AggregateMeasurement, segment: Segment | None) -> Row:
    time = Interval(aggregate.time_s, aggregate.time_s_low, aggregate.time_s_high)
    columns = _rate_columns(record.case.flop, time)
    columns["power_limit_w"] = aggregate.power_limit_w
    columns["window_s"] = aggregate.window_s
    columns["clock_mhz"] = None if aggregate.clock_hz is None else aggregate.clock_hz * 1e-6
    columns["temp_c"] = aggregate.temp_c
    columns["throttle_power"], columns["throttle_thermal"] = aggregate.throttle_power, aggregate.throttle_thermal
    if aggregate.power_w is None or record.energy_status not in ENERGY_USABLE:
        return columns
    # Whatever status the file states: it may have been written by an importer that asked less, or by hand.
    refusal = aggregate.why_no_watts
    if refusal:
        columns["energy_status"], columns["energy_reason"] = "refused", refusal
    else:
        power = Interval(aggregate.power_w, aggregate.power_w_low, aggregate.power_w_high)
        joules = Interval(aggregate.power_w * aggregate.time_s)
        if aggregate.energy_j is not None:
            joules = Interval(aggregate.energy_j, aggregate.energy_j_low, aggregate.energy_j_high)
        columns.update(_energy_columns(record.case.flop, power, joules, "imported"))
        columns["power_systematic"] = segment.sensor.gain_uncertainty if segment and segment.sensor else None
    return columns


def _add_peak_fraction(row: Row, segment: Segment | None) -> None:
    """Achieved over the dense datasheet peak; null for a GPU or format without a known one."""
    if segment is None or row.get("tflops") is None or row["dtype"] is None:
        return
    environment = segment.environment
    spec = gpus.find(environment.gpu, environment.memory_bytes, environment.sm_count)
    peak = spec.peak_flop_per_s(row["dtype"]) if spec else None
    if peak and math.isfinite(peak):
        row["peak_fraction"] = row["tflops"] * 1e12 / peak
