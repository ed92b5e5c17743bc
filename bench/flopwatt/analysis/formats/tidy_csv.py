"""Plain CSV with the tidy columns, as `flopwatt show --format csv` writes it or a person types it.

Needed: m, n, k, dtype, layout, time_s, and gpu unless it is given. Everything else is null or `unknown` where the
column is missing. Rows that differ only in suite, role, phase and count are one case with several uses.
Not kept, as a run file has no place for them beside an aggregate: effort, relative_error, energy_source. What is
derived (tflops, pj_per_flop, …) is derived again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, get_args

from flopwatt.analysis.formats.foreign import (
    BadValue,
    Entry,
    Found,
    LeftOut,
    Machine,
    Table,
    judge_power,
    label,
    make_problem,
    nonnegative,
    real,
    seconds,
    watts,
    whole,
)
from flopwatt.analysis.formats.text_table import check_width, checked_header, rows, shown
from flopwatt.errors import InputError
from flopwatt.runs.records import ENERGY_USABLE, Case, EnergyStatus, Phase, RecordedRegime, Status, Use
from flopwatt.runs.samples import AggregateMeasurement
from gemmkernels.backend import ConfigValue

REQUIRED: Final = ("m", "n", "k", "dtype", "layout", "time_s")
CONFIG_MOST: Final = 2000
"""Characters of the longest configuration that is kept."""

_INTEGER: Final = re.compile("-?(?:0|[1-9][0-9]{0,14})")
_USE: Final = ("suite", "role", "phase", "count", "headline")

Row = Mapping[str, str]


def open_table(path: Path, gpu: str | None) -> Table:
    """The rows of one file. gpu: what the rows ran on, where the file has no column `gpu`."""
    return Table(_merged(path, gpu), f"CSV: {path.name}")


def _merged(path: Path, gpu: str | None) -> Iterator[Found]:
    """Entries, with adjacent rows of one case that differ only in their use made one."""
    last: tuple[tuple[tuple[str, str], ...], Entry] | None = None
    for row in _rows(path):
        try:
            identity = tuple((name, text) for name, text in row.items() if name not in _USE)
            if last is not None and last[0] == identity and (use := _use(row)) is not None:
                entry = replace(last[1], uses=(*last[1].uses, use), rows=last[1].rows + 1)
                last = identity, entry
                continue
            found: Found = _entry(row, gpu)
        except BadValue as error:
            found = LeftOut(str(error))
        if last is not None:
            yield last[1]
        last = None
        if isinstance(found, Entry) and found.uses:
            last = identity, found
        else:
            yield found
    if last is not None:
        yield last[1]


def _rows(path: Path) -> Iterator[Row]:
    header: list[str] = []
    for line, cells in rows(path):
        if header:
            check_width(path, line, cells, header)
            yield dict(zip(header, cells, strict=True))
            continue
        header = checked_header(path, cells)
        if "extrapolated" in header:
            raise InputError(f"{path}: predicted, not measured: import the rows that the calibration was fitted to")
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise InputError(
                f"{path}: no column {', '.join(missing)}, first is {shown(header[0])}: name the columns as in "
                "`flopwatt show --format csv`"
            )
    if not header:
        raise InputError(f"{path}: empty: give a CSV file with a header")


def _entry(row: Row, given_gpu: str | None) -> Entry:
    if row.get("origin") == "simulated":
        raise BadValue("simulated: not a measurement of any GPU")
    if not row["m"]:
        raise BadValue("no m, n and k: a sequence of GEMMs, or a row cut short")
    gpu = label(row.get("gpu"), "gpu") or given_gpu
    if gpu is None:
        raise BadValue("no GPU named: say which it was with --gpu")
    status = _one_of(row, "status", get_args(Status), "ok")
    reason = label(row.get("reason"), "reason") or (None if status == "ok" else "the table gives no reason")
    measurement = _measurement(row) if status == "ok" else None
    energy_status, energy_reason = _energy(row, measurement)
    use = _use(row)
    return Entry(
        machine=Machine(
            gpu=gpu,
            board_id=label(row.get("board_id"), "board_id"),
            idle_w=watts(row.get("idle_power_w"), "idle_power_w"),
            gain_uncertainty=real(row.get("power_systematic"), "power_systematic"),
        ),
        case=_case(row),
        status=status,
        reason=reason,
        measurement=measurement,
        energy_status=energy_status,
        energy_reason=energy_reason,
        uses=() if use is None else (use,),
        process=_counted(row, "process", 0),
    )


def _energy(row: Row, measurement: AggregateMeasurement | None) -> tuple[EnergyStatus, str | None]:
    """The row's own word on its watts, unless there are none or they were averaged over too little to be believed."""
    stated: EnergyStatus | None = _one_of(row, "energy_status", get_args(EnergyStatus), None)
    why = label(row.get("energy_reason"), "energy_reason")
    if measurement is None:
        return stated if stated not in (None, *ENERGY_USABLE) else "unsupported", why
    judged, reason = judge_power(measurement, stated)
    if stated is not None and (judged == stated or stated not in ENERGY_USABLE):
        return stated, why or reason
    return judged, reason


def _case(row: Row) -> Case:
    m, n, k = (whole(row[name], name) for name in ("m", "n", "k"))
    regime: RecordedRegime = _one_of(row, "regime", get_args(RecordedRegime), "unknown")
    return Case(
        problem=make_problem(
            m,
            n,
            k,
            batch=whole(row.get("batch") or 1, "batch"),
            dtype=row["dtype"],
            out_dtype=row.get("out_dtype") or "",
            layout=row["layout"],
            scaling=row.get("scaling") or None,
        ),
        backend=label(row.get("backend"), "backend") or "unknown",
        config=_config(row.get("config") or ""),
        regime=regime,
        inputs=label(row.get("inputs"), "inputs") or "unknown",
        cache=_one_of(row, "cache", ("rotating", "hot", "unknown"), "unknown"),
    )


def _measurement(row: Row) -> AggregateMeasurement:
    time_s = seconds(row["time_s"], "time_s")
    power_w = watts(row.get("power_w"), "power_w")
    energy_j = nonnegative(row.get("energy_j"), "energy_j")
    per_watt = nonnegative(row.get("tflops_per_w"), "tflops_per_w")
    clock_mhz = nonnegative(row.get("clock_mhz"), "clock_mhz")
    time_low, time_high = _interval(row, "time_s", time_s)
    power_low, power_high = _interval(row, "power_w", power_w)
    energy_low = energy_high = None
    if energy_j and per_watt:
        # Joules have no interval of their own in a table: TFLOPS/W, their reciprocal, has.
        low, high = _interval(row, "tflops_per_w", per_watt)
        energy_low = energy_j * per_watt / high if high else None
        energy_high = energy_j * per_watt / low if low else None
    return AggregateMeasurement(
        time_s=time_s,
        time_s_low=time_low,
        time_s_high=time_high,
        power_w=power_w,
        power_w_low=power_low,
        power_w_high=power_high,
        energy_j=energy_j or None,
        energy_j_low=energy_low,
        energy_j_high=energy_high,
        power_limit_w=watts(row.get("power_limit_w"), "power_limit_w"),
        window_s=nonnegative(row.get("window_s"), "window_s"),
        clock_hz=None if clock_mhz is None else clock_mhz * 1e6,
        temp_c=real(row.get("temp_c"), "temp_c"),
        throttle_power=nonnegative(row.get("throttle_power"), "throttle_power"),
        throttle_thermal=nonnegative(row.get("throttle_thermal"), "throttle_thermal"),
    )


def _interval(row: Row, name: str, value: float | None) -> tuple[float | None, float | None]:
    """The ends of a quantity's interval, None where the table has none. Raises BadValue where they do not hold it."""
    low, high = (nonnegative(row.get(f"{name}_{end}"), f"{name}_{end}") for end in ("low", "high"))
    if value is None:
        return None, None
    if (low is not None and low > value) or (high is not None and high < value):
        raise BadValue(f"{name} lies outside its own interval")
    return low, high


def _use(row: Row) -> Use | None:
    suite = label(row.get("suite"), "suite")
    if suite is None:
        return None
    phase: Phase | None = _one_of(row, "phase", get_args(Phase), None)
    return Use(
        suite=suite,
        dtype=row["dtype"],
        role=label(row.get("role"), "role") or "gemm",
        phase=phase,
        count=_counted(row, "count", 1),
        headline=(row.get("headline") or "True").strip().lower() not in ("false", "0"),
    )


def _counted(row: Row, name: str, least: int) -> int:
    number = whole(row.get(name) or least, name)
    if not least <= number <= 2**40:
        raise BadValue(f"{name} is outside {least} to 2⁴⁰")
    return number


def _one_of(row: Row, name: str, known: tuple[str, ...], missing: str | None) -> Any:
    """The word of a cell. Raises BadValue for one that is not known."""
    word = (row.get(name) or "").strip() or missing
    if word is not None and word not in known:
        raise BadValue(f"{name} is none of {', '.join(known)}")
    return word


def _config(text: str) -> dict[str, ConfigValue] | None:
    """`BLOCK_M=128,num_warps=4` as its parts; text that is not of that form stands as it is, under `config`."""
    if not text:
        return None
    if len(text) > CONFIG_MOST:
        raise BadValue(f"config is longer than {CONFIG_MOST} characters")
    parts = [part.partition("=") for part in text.split(",")]
    if all(name and sign for name, sign, _ in parts):
        return {name: _value(value) for name, _, value in parts}
    return {"config": text}


def _value(text: str) -> ConfigValue:
    if text in ("True", "False"):
        return text == "True"
    return int(text) if _INTEGER.fullmatch(text) else text
