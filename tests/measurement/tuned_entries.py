"""Entries of a tuning store as tests want them, marked simulated: nothing here was measured."""

from __future__ import annotations

from typing import Any

from flopwatt.measurement.tuned.records import Entry, Estimate, Evidence, Measured, Tried, bucket_of
from gemmkernels.backend import Config
from gemmkernels.problem import Problem

GPU = "NVIDIA H100 80GB HBM3"
VERSIONS = {"triton": "3.7.1", "torch": "2.13.0", "cuda": "13.0", "driver": "580.1"}
WIDE: Config = {"BLOCK_M": 128, "BLOCK_N": 256, "BLOCK_K": 64, "num_warps": 8, "num_stages": 3, "GROUP_M": 8}
SQUARE: Config = WIDE | {"BLOCK_N": 128, "num_stages": 4}
SMALL: Config = WIDE | {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4}


def problem(m: int = 4096, n: int = 4096, k: int = 4096, **others: Any) -> Problem:
    return Problem(m, n, k, **{"layout": "nt", **others})


def entry(about: Problem, config: Config, time_s: float = 2e-4, **others: Any) -> Entry:
    """An entry; `origin`, `date` and the fields of Entry may be given."""
    origin, date = others.pop("origin", "simulated"), others.pop("date", "2026-11-22T10:00:00Z")
    won = Measured(config=dict(config), time_s=Estimate(value=time_s, low=time_s * 0.99, high=time_s * 1.01))
    evidence = Evidence(
        origin=origin,
        run_id="0" * 32,
        date=date,
        winner=won,
        tried=Tried(candidates=12, compiled=12, measured=10),
    )
    fields: dict[str, Any] = {
        "gpu": GPU,
        "backend": "triton-tiled",
        "objective": "time",
        "versions": VERSIONS,
        **others,
    }
    return Entry(problem=about, bucket=bucket_of(about), config=dict(config), evidence=evidence, **fields)
