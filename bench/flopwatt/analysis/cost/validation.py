"""How far predictions of steps were from published ones, as `bench/benchmarks/cost.py` found."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

import msgspec


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One source: how many rows, and their mean absolute error in percent. how: what was fitted, and on what."""

    what: str
    rows: int
    mape: float
    how: str


@cache
def results() -> tuple[Result, ...]:
    """Those of validation.toml."""
    raw = tomllib.loads((files("flopwatt.analysis.cost") / "validation.toml").read_text(encoding="utf-8"))
    return msgspec.convert(raw["result"], tuple[Result, ...])
