"""`flopwatt suites` and `flopwatt backends`: what there is."""

from __future__ import annotations

import json
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from flopwatt.commands.words import one_of
from flopwatt.errors import InputError
from flopwatt.runs.plan import Choices, build
from flopwatt.runs.suites import list_suites
from gemmkernels.backend import BACKENDS, Device, load
from gemmkernels.problem import DTYPES, LAYOUTS, Problem

FORMATS: Final = ("table", "json")
PROBE: Final = 4096
"""Side of the square GEMM that each backend is asked about."""


def suites(format: str, console: Console) -> int:
    """Lists the suites with their cases, FLOPs and minutes with one backend on a GPU."""
    entries: list[dict[str, Any]] = []
    for suite in list_suites():
        plan = build([suite], Choices())
        entries.append(
            {
                "name": suite.name,
                "cases": len(plan.cases),
                "minutes_on_gpu": round(plan.seconds("cuda") / 60, 1),
                "effort": suite.effort,
                "regimes": list(suite.regimes),
                "tflop": round(sum(item.flop for item in suite.items) * 1e-12, 1),
                "tokens": suite.tokens,
                "description": suite.description,
            }
        )
    _print(entries, format, console)
    return 0


def backends(device: str, format: str, console: Console) -> int:
    """Lists the backends with the formats and layouts each supports here, and why not."""
    machine = _device(device)
    entries = [{"name": name, **_backend(name, machine)} for name in BACKENDS]
    _print(entries, format, console)
    return 0


def _backend(name: str, machine: Device) -> dict[str, Any]:
    try:
        backend = load(name)
    except ImportError as error:
        return {"supports": "", "not": f"its package is not installed: {error}", "summary": ""}
    refusals: dict[str, list[str]] = {}
    supported: list[str] = []
    for dtype in DTYPES:
        reasons = {layout: backend.supports(_problem(dtype, layout), machine) for layout in LAYOUTS}
        layouts = [layout for layout, reason in reasons.items() if reason is None]
        if layouts:
            supported.append(dtype if len(layouts) == len(LAYOUTS) else f"{dtype} ({', '.join(layouts)})")
        else:
            refusals.setdefault(str(reasons["nt"]), []).append(dtype)
    return {
        "supports": ", ".join(supported),
        "not": "; ".join(f"{_formats(dtypes)}: {reason}" for reason, dtypes in refusals.items()),
        "summary": backend.SUMMARY,
    }


def _formats(dtypes: list[str]) -> str:
    return "all" if len(dtypes) == len(DTYPES) else ", ".join(dtypes)


def _problem(dtype: str, layout: str) -> Problem:
    return Problem(PROBE, PROBE, PROBE, dtype=dtype, layout=layout, scaling="tensor" if "fp8" in dtype else None)


def _device(wanted: str) -> Device:
    try:
        from flopwatt.measurement.device import choose

        return choose(wanted)
    except ImportError:
        raise InputError("torch is not installed: pip install 'flopwatt[measure]'") from None


def _print(entries: list[dict[str, Any]], format: str, console: Console) -> None:
    one_of("format", format, FORMATS)
    if format == "json":
        print(json.dumps(entries, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in entries[0]:
        table.add_column(name.replace("_", " "), overflow="fold")
    for entry in entries:
        table.add_row(*(_text(value) for value in entry.values()))
    console.print(table)


def _text(value: object) -> str:
    if value is None:
        return "–"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
