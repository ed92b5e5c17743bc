"""Reads the tables beside this module, each row checked against its type."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from typing import Final, Literal, overload

import msgspec

from flopwatt.analysis.facts.tables import (
    Fact,
    GpuLaunch,
    PublishedGemm,
    Quantity,
    Rent,
    Throughput,
    TrainingCompute,
    TrainingRun,
)

Table = Literal[
    "training_runs", "throughput", "published_gemm", "training_compute", "gpu_launches", "rents", "quantities"
]  # fmt: skip

_ROWS: Final[dict[str, type[Fact]]] = {
    "training_runs": TrainingRun,
    "throughput": Throughput,
    "published_gemm": PublishedGemm,
    "training_compute": TrainingCompute,
    "gpu_launches": GpuLaunch,
    "rents": Rent,
    "quantities": Quantity,
}


@overload
def read(name: Literal["training_runs"]) -> tuple[TrainingRun, ...]: ...
@overload
def read(name: Literal["throughput"]) -> tuple[Throughput, ...]: ...
@overload
def read(name: Literal["published_gemm"]) -> tuple[PublishedGemm, ...]: ...
@overload
def read(name: Literal["training_compute"]) -> tuple[TrainingCompute, ...]: ...
@overload
def read(name: Literal["gpu_launches"]) -> tuple[GpuLaunch, ...]: ...
@overload
def read(name: Literal["rents"]) -> tuple[Rent, ...]: ...
@overload
def read(name: Literal["quantities"]) -> tuple[Quantity, ...]: ...
def read(name: Table) -> tuple[Fact, ...]:
    """Every row of one table. An empty cell is None; a row of the wrong shape raises msgspec.ValidationError."""
    return _read(name)


def quantity(name: str) -> Quantity:
    """One row of `quantities` by its name. Raises KeyError where there is none."""
    return {row.name: row for row in read("quantities")}[name]


@cache
def _read(name: Table) -> tuple[Fact, ...]:
    text = (files("flopwatt.analysis.facts") / f"{name}.csv").read_text(encoding="utf-8")
    return parse(text, _ROWS[name])


def parse(text: str, row_type: type[Fact]) -> tuple[Fact, ...]:
    """Rows of comma-separated text with a header, every cell held against `row_type`."""
    filled = ({name: cell for name, cell in row.items() if cell} for row in csv.DictReader(text.splitlines()))
    return tuple(msgspec.convert(row, row_type, strict=False) for row in filled)
