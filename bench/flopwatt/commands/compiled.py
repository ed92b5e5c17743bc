"""`flopwatt tune --compile-only`: what every configuration takes of a GPU, told by the compiler, without a GPU.

Without a suite, model or shape it covers the shapes in `SHAPES`, which between them bring out every configuration that
the kernels have: the table in kernels/COMPILED.md.
"""

from __future__ import annotations

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from flopwatt.commands.run import EXIT_DONE, EXIT_NO
from flopwatt.commands.tune import Tuning, config_text, in_layouts
from flopwatt.commands.words import one_of
from flopwatt.errors import InputError
from flopwatt.measurement.device import choose, threads
from flopwatt.measurement.tuned.device import device_of
from flopwatt.measurement.tuned.records import apart_from_shape
from flopwatt.measurement.tuning.compiling import Job, Resources, Result, compile_all
from flopwatt.measurement.tuning.search import Wish, frozen, jobs, refusal, tunable
from flopwatt.text import printable
from gemmkernels.backend import Device, load
from gemmkernels.problem import Problem

FORMATS: Final = ("table", "json", "markdown")

SHAPES: Final = (
    (8192, 8192, 8192),
    (8191, 8191, 8191),
    (16, 8192, 8192),
    (8192, 16, 8192),
    (512, 512, 16384),
)
"""Even sizes, rows that start anywhere, few rows, few columns, and a long K: between them, every configuration."""

DTYPES: Final = ("bf16", "tf32", "fp32", "fp8_e4m3", "int8")
"""fp16 and fp8_e5m2 compile to the same instructions on other formats."""

TABLE_LAYOUT: Final = "nt"

COLUMNS: Final = (
    "target",
    "inputs",
    "layout",
    "configuration",
    "registers",
    "stack B",
    "shared KiB",
    "multiply",
    "copy",
)

PREAMBLE: Final = """# What the kernels compile to

Made by `make compiled` with triton {triton}; no GPU is needed, but five to ten minutes of processor time. Every
configuration that ships, for a GPU of each target, where its shared memory fits by formula: registers and bytes of
stack a thread, shared memory a block, and the instructions that multiply and copy. Stack is where spilled registers go:
above {spill} bytes the tuner drops a configuration; what is below lies outside every loop, a value put aside once.
Layout `nt`; fp16 is as bf16, fp8_e5m2 as fp8_e4m3. What follows the shape, tile order and splits of K, is that of the
first shape that a configuration is a candidate for. A configuration that the compiler refuses says so.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One configuration on one target: what it takes, the most over the problems it was compiled for."""

    backend: str
    target: str
    dtype: str
    layout: str
    config: str
    result: Result


def compile_only(tuning: Tuning, targets: Sequence[str], format: str, console: Console, log: Console) -> int:
    """Compiles into Triton's cache and prints a table; 1 where a backend's default does not compile or fit."""
    tuning.check()
    one_of("format", format, FORMATS)
    devices = _devices(tuning, targets)
    todo: list[Job] = []
    defaults: set[tuple[str, str, str]] = set()
    for device in devices:
        asked = [
            (wish, load(wish.backend).configs(wish.problem, device))
            for wish in _wishes(tuning, device)
            if refusal(wish, device) is None
        ]
        found = jobs(asked, device, opcodes=True)
        todo += found if _of_a_suite(tuning) else _once(found)
        defaults |= {(wish.backend, _target(device), config_text(configs[0])) for wish, configs in asked}
    if not todo:
        raise InputError("nothing to compile: see `flopwatt backends` for what each backend computes")
    rows = list(compiled_rows(todo, log))
    _print(rows, format, console)
    limits = {_target(device): device.shared_memory_bytes for device in devices}
    bad = [row for row in rows if not _sound(row, limits[row.target])]
    log.print(f"{len(rows)} configurations compiled, {len(bad)} of them not usable")
    return EXIT_NO if any((row.backend, row.target, row.config) in defaults for row in bad) else EXIT_DONE


def compiled_rows(todo: Sequence[Job], log: Console) -> Iterator[Row]:
    """Compiles the jobs and yields their rows in the order of the jobs."""
    answers: dict[tuple[object, ...], Result] = {}
    left = sum(len(job.problems) for job in todo)
    with log.status("compiling") if log.is_terminal else nullcontext() as status:
        for job, results in compile_all(todo, threads()):
            # Keyed by problem: a job over which a compiler died comes back in parts.
            answers.update(zip(_keys(job), results, strict=True))
            if status is not None:
                status.update(f"compiling: {left - len(answers)} kernels left")
    for job in todo:
        yield from _rows(job, [answers[key] for key in _keys(job)])


def _keys(job: Job) -> list[tuple[object, ...]]:
    return [(job.backend, job.device, frozen(job.config), problem) for problem in job.problems]


def _rows(job: Job, results: Iterable[Result]) -> Iterator[Row]:
    formats: dict[tuple[str, str], list[Result]] = defaultdict(list)
    for problem, result in zip(job.problems, results, strict=True):
        formats[problem.dtype, problem.layout].append(result)
    for (dtype, layout), found in formats.items():
        yield Row(job.backend, _target(job.device), dtype, layout, config_text(job.config), _most(found))


def _most(results: Sequence[Result]) -> Result:
    """The first that failed, else the most of each."""
    found = [result for result in results if isinstance(result, Resources)]
    if len(found) < len(results):
        return next(result for result in results if not isinstance(result, Resources))
    return Resources(
        registers=max(result.registers for result in found),
        stack_bytes=max(result.stack_bytes for result in found),
        shared_bytes=max(result.shared_bytes for result in found),
        multipliers=tuple(sorted({name for result in found for name in result.multipliers})),
        copies=tuple(sorted({name for result in found for name in result.copies})),
    )


def _sound(row: Row, shared_memory_bytes: int) -> bool:
    result = row.result
    return isinstance(result, Resources) and not result.spills and result.shared_bytes <= shared_memory_bytes


def _devices(tuning: Tuning, targets: Sequence[str]) -> list[Device]:
    if targets:
        from gemmkernels.compile_ahead import DEVICES

        known = {f"sm_{capability}": device for capability, device in DEVICES.items()}
        for target in targets:
            if target not in known:
                raise InputError(f"unknown target {target!r}: choose one of {', '.join(known)}")
        return [known[target] for target in dict.fromkeys(targets)]
    if tuning.spec.scenario is not None:
        from flopwatt.measurement.simulation.loading import load_scenario
        from flopwatt.measurement.simulation.rig import environment

        return [device_of(environment(load_scenario(tuning.spec.scenario)))]
    device = choose(tuning.spec.device)
    if device.kind != "cuda":
        raise InputError("there is no GPU to compile for: name one with --target sm_90")
    return [device]


def _wishes(tuning: Tuning, device: Device) -> list[Wish]:
    request = tuning.request
    backends = list(request.backends) or tunable()
    if _of_a_suite(tuning):
        suites = [suite for dtype in request.dtypes or ("bf16",) for suite in request.load(dtype, "cuda")]
        problems = [item.problem for suite in suites for item in suite.items]
    else:
        problems = [_problem(shape, dtype) for dtype in request.dtypes or DTYPES for shape in SHAPES]
    asked = [Wish(problem, backend) for backend in backends for problem in dict.fromkeys(problems)]
    return in_layouts(asked, tuning.layouts)


def _of_a_suite(tuning: Tuning) -> bool:
    return bool(tuning.request.suites or tuning.request.model or tuning.request.shapes)


def _once(found: Sequence[Job]) -> Iterator[Job]:
    """The jobs with each configuration for its first shape only, once a format and layout.

    Configurations that differ in tile order or splits of K alone are one.
    """
    seen: set[tuple[object, ...]] = set()
    for job in found:
        tile = {name: value for name, value in apart_from_shape(job.config).items() if name != "SPLIT_K"}
        kept = []
        for problem in job.problems:
            key = (job.backend, job.device, frozen(tile), problem.dtype, problem.layout)
            if key not in seen:
                seen.add(key)
                kept.append(problem)
        if kept:
            yield dataclasses.replace(job, problems=tuple(kept))


def _problem(shape: tuple[int, int, int], dtype: str) -> Problem:
    return Problem(*shape, dtype=dtype, layout=TABLE_LAYOUT, scaling="tensor" if dtype.startswith("fp8") else None)


def _target(device: Device) -> str:
    major, minor = device.capability or (0, 0)
    return f"sm_{major}{minor}"


def _print(rows: Sequence[Row], format: str, console: Console) -> None:
    if format == "json":
        print(json.dumps([_entry(row) for row in rows], indent=1))
    elif format == "markdown":
        print(markdown(rows), end="")
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name in ("backend", *COLUMNS):
            table.add_column(name)
        for row in rows:
            table.add_row(row.backend, *map(printable, _cells(row)))
        console.print(table)


def markdown(rows: Sequence[Row]) -> str:
    """The page kernels/COMPILED.md: a table a backend."""
    import triton

    from flopwatt.measurement.tuning.compiling import SPILL_BYTES

    parts = [PREAMBLE.format(triton=triton.__version__, spill=SPILL_BYTES)]
    for backend in dict.fromkeys(row.backend for row in rows):
        lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
        lines += [f"| {' | '.join(_cells(row))} |" for row in rows if row.backend == backend]
        parts.append(f"## {backend}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    first = (row.target, row.dtype, row.layout, row.config)
    result = row.result
    if not isinstance(result, Resources):
        return (*first, "", "", "", result, "")
    return (
        *first,
        str(result.registers),
        str(result.stack_bytes),
        f"{result.shared_bytes / 1024:.1f}",
        ", ".join(result.multipliers),
        ", ".join(dict.fromkeys(name.partition(".")[0] for name in result.copies)),
    )


def _entry(row: Row) -> dict[str, Any]:
    result = row.result
    found: dict[str, Any] = {
        "backend": row.backend,
        "target": row.target,
        "dtype": row.dtype,
        "layout": row.layout,
        "config": row.config,
        "error": None if isinstance(result, Resources) else result,
    }
    if isinstance(result, Resources):
        found.update(
            registers=result.registers,
            stack_bytes=result.stack_bytes,
            shared_bytes=result.shared_bytes,
            multipliers=result.multipliers,
            copies=result.copies,
        )
    return found
