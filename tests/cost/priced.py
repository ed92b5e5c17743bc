"""Machines and layouts that tests of prices share."""

from __future__ import annotations

from functools import cache

import msgspec

from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.cost.architecture import Architecture, load
from flopwatt.analysis.cost.assumptions import Assumptions, defaults
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.cost.machine import Machine, from_spec_sheet, machine
from flopwatt.analysis.cost.pricing import Price, Request, price
from flopwatt.analysis.cost.spans import exactly

LLAMA = Layout(tp=8, pp=16, dp=64, vp=4, micro_batch=1, global_batch=2048, seq=8192)
SMALL = Layout(tp=2, pp=1, dp=4, micro_batch=2, global_batch=64, seq=4096)


@cache
def h100() -> Machine:
    return from_spec_sheet("H100-SXM5-80GB")


@cache
def metered() -> Machine:
    """The same, as if its watts had been measured."""
    file = h100().calibration.file
    fitted = tuple(msgspec.structs.replace(one, power_points=100) for one in file.fitted)
    return machine(Calibration(msgspec.structs.replace(file, fitted=fitted)))


def assuming(**numbers: float) -> Assumptions:
    return defaults().with_({name: exactly(value) for name, value in numbers.items()})


def request(model: str = "llama-3.1-8b", layout: Layout = SMALL, **changes: object) -> Request:
    architecture: Architecture = load(model)
    base = Request(machine=h100(), architecture=architecture, layout=layout, tokens=1e12)
    return msgspec.structs.replace(base, **changes)


def priced(model: str = "llama-3.1-8b", layout: Layout = SMALL, **changes: object) -> Price:
    return price(request(model, layout, **changes))
