"""The CSV of cutlass_profiler: one row a problem and kernel, Runtime in ms, layouts as `f16:column`.

Operands are stored `row` or `column`; a row-major A and a column-major B are our `nt`. A column-major result is the
row-major result of the transposed problem, so M and N change places and the operands' roles with them. Runs of text
before the header, as on the profiler's standard output, are passed over. The profiler names no GPU, its operands'
values and their place in the caches are its options, not its columns.

Source: NVIDIA CUTLASS, tools/profiler, performance_report.cpp and gemm_operation_profiler.cu.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from flopwatt.analysis.formats.foreign import (
    BadValue,
    Entry,
    Found,
    LeftOut,
    Machine,
    Table,
    label,
    make_problem,
    seconds,
    whole,
)
from flopwatt.analysis.formats.text_table import check_width, checked_header, rows
from flopwatt.errors import InputError
from flopwatt.runs.records import Case, Status
from flopwatt.runs.samples import AggregateMeasurement
from gemmkernels.backend import ConfigValue
from gemmkernels.problem import LAYOUTS, Problem

REQUIRED: Final = (
    "Problem", "Provider", "OperationKind", "Operation", "Disposition", "Status", "m", "n", "k", "A", "B", "C",
    "Runtime",
)  # fmt: skip

DTYPES: Final[Mapping[str, str]] = {
    "f16": "fp16", "bf16": "bf16", "tf32": "tf32", "e4m3": "fp8_e4m3", "fe4m3": "fp8_e4m3", "e5m2": "fp8_e5m2",
    "fe5m2": "fp8_e5m2", "s8": "int8",
}  # fmt: skip
OUTPUTS: Final[Mapping[str, str]] = {**DTYPES, "f32": "fp32", "s32": "int32"}

CONFIG: Final = (
    "alpha", "beta", "split_k_mode", "split_k_slices", "accum", "raster_order", "swizzle_size", "use_pdl",
    "cta_m", "cta_n", "cta_k", "cluster_m", "cluster_n", "cluster_k", "stages",
)  # fmt: skip
"""Columns that tell one run of a kernel from another, beside its name."""

_TF32_KERNEL: Final = re.compile(r"tf32gemm|_tf32_", re.ASCII)
_CORRECT: Final = ("passed", "not_verified", "not verified", "not_run", "not run")
_NOT_SUPPORTED: Final = ("not_supported", "not supported", "error_not_supported")


def open_table(path: Path, gpu: str | None) -> Table:
    """The rows of one file. gpu: by its driver's name. Raises InputError without one, or on reading a foreign file."""
    if gpu is None:
        raise InputError(
            "cutlass_profiler names no GPU: say which it was with --gpu, such as --gpu 'NVIDIA A100-SXM4-80GB'"
        )
    return Table(_rows(path, Machine(gpu)), f"cutlass_profiler: {path.name}")


def _rows(path: Path, machine: Machine) -> Iterator[Found]:
    header: list[str] = []
    for line, cells in rows(path):
        if "Problem" in cells and "Provider" in cells:  # each kind of operation has a header of its own
            header = checked_header(path, cells)
            if "gemm_kind" in header:
                _check_columns(path, header)
        elif header:
            check_width(path, line, cells, header)
            row = dict(zip(header, cells, strict=True))
            if row.get("OperationKind", "gemm").lower() == "gemm":
                _check_columns(path, header)
            yield _found(row, machine)
    if not header:
        raise InputError(f"{path}: no header with Problem and Provider: not a CSV of cutlass_profiler")


def _check_columns(path: Path, header: Sequence[str]) -> None:
    missing = next((name for name in REQUIRED if name not in header), None)
    if missing is not None:
        raise InputError(f"{path}: no column {missing!r}: not the whole CSV of cutlass_profiler")


def _found(row: Mapping[str, str], machine: Machine) -> Found:
    try:
        return _entry(row, machine)
    except BadValue as error:
        return LeftOut(str(error))


def _entry(row: Mapping[str, str], machine: Machine) -> Entry:
    if row["OperationKind"].lower() != "gemm":
        raise BadValue(f"operation {label(row['OperationKind'], 'OperationKind')!r}: only dense gemm is a GEMM here")
    case = Case(
        problem=_problem(row),
        backend=(label(row["Provider"], "Provider") or "unknown").lower(),
        config=_config(row),
        regime="unknown",
        inputs="unknown",
        cache="unknown",
    )
    status, reason = _outcome(row)
    return Entry(
        machine=machine,
        case=case,
        status=status,
        reason=reason,
        measurement=AggregateMeasurement(time_s=seconds(row["Runtime"], "Runtime", 1e-3)) if status == "ok" else None,
        energy_reason="the table has no watts",
        settings={"disposition": label(row["Disposition"], "Disposition") or "unknown"},
    )


def _outcome(row: Mapping[str, str]) -> tuple[Status, str | None]:
    """`ok` for a kernel that ran and was not found wrong; a kernel that was never verified says so in its settings."""
    status = label(row["Status"], "Status") or "unknown"
    disposition = label(row["Disposition"], "Disposition") or "unknown"
    if status.lower() in _NOT_SUPPORTED or disposition.lower() in _NOT_SUPPORTED:
        return "skipped", "cutlass_profiler: not supported"
    if status.lower() != "success":
        return "failed", f"cutlass_profiler: status {status}"
    if disposition.lower() not in _CORRECT:
        return "failed", f"cutlass_profiler: disposition {disposition}"
    return "ok", None


def _problem(row: Mapping[str, str]) -> Problem:
    m, n, k = (whole(row[name], name) for name in ("m", "n", "k"))
    (a, a_column), (b, b_column) = _operand(row, "A"), _operand(row, "B")
    result = "D" if row.get("D") else "C"
    c, c_column = _operand(row, result)
    if a != b:
        raise BadValue(f"A and B of different formats, {a} and {b}")
    if c not in OUTPUTS:
        raise BadValue(f"{result} of format {c}, which a run file has no name for")
    a_letter, b_letter = ("t" if a_column else "n"), ("t" if b_column else "n")
    if c_column:
        # Cᵀ = Bᵀ·Aᵀ: what was column-major is row-major of the transpose.
        m, n = n, m
        a_letter, b_letter = ("n" if b_column else "t"), ("n" if a_column else "t")
    layout = a_letter + b_letter
    if layout not in LAYOUTS:
        raise BadValue(f"layout {layout}, which a run file has no name for")
    batch = whole(row["batch_count"], "batch_count") if row.get("batch_count") else 1
    return make_problem(m, n, k, batch=batch, dtype=_dtype(a, row), out_dtype=OUTPUTS[c], layout=layout)


def _operand(row: Mapping[str, str], name: str) -> tuple[str, bool]:
    """Format, and whether it is stored column-major."""
    dtype, _, order = (label(row[name], name) or "").partition(":")
    if order not in ("row", "column"):
        raise BadValue(f"{name} is stored neither row nor column")
    return dtype, order == "column"


def _dtype(operand: str, row: Mapping[str, str]) -> str:
    if operand in DTYPES:
        return DTYPES[operand]
    if operand == "f32":
        if row.get("op_class") == "simt":
            return "fp32"
        if _TF32_KERNEL.search(row["Operation"]):
            return "tf32"
        raise BadValue("f32 operands on tensor cores by a way that its name does not tell")
    raise BadValue(f"operands of format {operand}, which a run file has no name for")


def _config(row: Mapping[str, str]) -> dict[str, ConfigValue]:
    config: dict[str, ConfigValue] = {"operation": label(row["Operation"], "Operation") or "unknown"}
    config.update({name: text for name in CONFIG if (text := label(row.get(name), name)) is not None})
    return config
