"""The table of all cases: its columns, packed so that ten thousand rows take little of the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from flopwatt.runs.tidy import Row


class Column(NamedTuple):
    """One column of the table. kind: how its values are written (`text`, `number`, `time`, `percent`, `whole`).

    paper: whether it is printed on paper, which is narrower than its rows.
    """

    key: str
    title: str
    kind: str
    hint: str
    paper: bool = True


COLUMNS: Final = (
    Column("board", "board", "text", "GPU or CPU, with the origin where it is not measured"),
    Column("role", "role", "text", "the GEMM's part in the model"),
    Column("phase", "phase", "text", "forward, input gradient or weight gradient"),
    Column("shape", "M×N×K", "text", "sizes of C[M,N] = A[M,K] · B[K,N], with the batch before them"),
    Column("dtype", "dtype", "text", "format of A and B"),
    Column("layout", "layout", "text", "first letter A, second B; t is stored transposed"),
    Column("backend", "backend", "text", "the way it was computed"),
    Column("regime", "regime", "text", "burst: 25 ms after rest; sustained: until power and clock are steady"),
    Column("inputs", "inputs", "text", "the distribution of the operands"),
    Column("time_s", "time", "time", "of one launch"),
    Column("time_half", "± time", "percent", "half the 95 % interval"),
    Column("tflops", "TFLOPS", "number", "achieved"),
    Column("peak_fraction", "% of peak", "percent", "of the dense datasheet peak"),
    Column("power_w", "W", "number", "mean power of the whole board"),
    Column("tflops_per_w", "TFLOPS/W", "number", "empty where the energy was refused"),
    Column("watt_half", "± TFLOPS/W", "percent", "half the 95 % interval, statistical only", False),
    Column("pj_per_flop", "pJ/FLOP", "number", "joules of the whole board"),
    Column("intensity", "FLOP/byte", "number", "arithmetic intensity: FLOPs over least bytes moved", False),
    Column("clock_mhz", "MHz", "whole", "mean SM clock in the window"),
    Column("temp_c", "°C", "whole", "mean temperature in the window", False),
    Column("throttle_power", "power cap", "percent", "share of polls with the clock held down by the power cap", False),
    Column("throttle_thermal", "thermal", "percent", "share of polls with the clock held down by heat", False),
    Column("processes", "processes", "whole", "fresh processes behind the row", False),
    Column("suite", "suite", "text", "the suite that the case belongs to", False),
    Column("config", "config", "text", "the configuration that ran", False),
    Column("cache", "cache", "text", "rotating operands, or hot ones", False),
    Column("status", "status", "text", "ok, skipped or failed"),
    Column("energy_status", "energy", "text", "what the watts are worth"),
    Column("why", "reason", "text", "why a figure is missing or doubtful", False),
)


def packed(cases: Sequence[Row]) -> list[dict[str, Any]]:
    """The columns that say anything, as the page reads them: numbers plain, words by their place in a list."""
    rows = [values(row) for row in cases]
    found = []
    for column in COLUMNS:
        cells = [row[column.key] for row in rows]
        if any(cell is not None for cell in cells):
            found.append({**column._asdict(), **(_words(cells) if column.kind == "text" else {"values": cells})})
    return found


def values(row: Row) -> dict[str, Any]:
    """One row's cells by column: text, numbers rounded to what is read, None where there is nothing."""
    cells: dict[str, Any] = {column.key: row.get(column.key) for column in COLUMNS}
    cells["shape"] = shape(row)
    cells["phase"] = row["phase"].replace("_grad", " grad") if row["phase"] else None
    cells["time_half"] = half(row, "time_s")
    cells["watt_half"] = half(row, "tflops_per_w")
    cells["intensity"] = intensity(row)
    cells["why"] = "; ".join(filter(None, (row["reason"], row["energy_reason"]))) or None
    return {key: _rounded(cell) for key, cell in cells.items()}


def shape(row: Row) -> str:
    """M×N×K, the batch before it where there is one."""
    if row["m"] is None:
        return "one layer" if row["role"] == "sequence" else "sequence"
    sizes = f"{row['m']}×{row['n']}×{row['k']}"
    return sizes if row["batch"] == 1 else f"{row['batch']}× {sizes}"


def intensity(row: Row) -> float | None:
    """FLOP per byte, each operand moved once; None for a sequence, whose GEMMs have one each."""
    return row["flop"] / row["bytes"] if row["m"] is not None and row["bytes"] else None


def half(row: Row, column: str) -> float | None:
    """Half the relative 95 % interval of a column; None where there is none."""
    value, low, high = row[column], row[f"{column}_low"], row[f"{column}_high"]
    return None if not value or low is None or high is None else (high - low) / 2 / value


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _words(cells: Sequence[str | None]) -> dict[str, Any]:
    places: dict[str | None, int] = {}
    codes = [places.setdefault(cell, len(places)) for cell in cells]
    return {"words": list(places), "codes": codes}
