"""Commands that measure: `run` and `tune`, `doctor` before them, and the lists they choose from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flopwatt.cli import options
from flopwatt.cli.app import app, console, log


@app.command()
def run(
    suite: options.Suites = None,
    model: options.Model = None,
    seq: options.Seq = None,
    micro_batch: options.MicroBatch = None,
    tp: options.TensorParallel = None,
    shape: options.Shapes = None,
    dtype: options.Dtypes = None,
    backend: options.Backends = None,
    regime: options.Regimes = None,
    inputs: options.Inputs = None,
    device: options.Device = "auto",
    budget: options.Budget = None,
    effort: options.Effort = None,
    processes: options.Processes = None,
    plan: options.Plan = False,
    shared: options.Shared = False,
    seed: options.Seed = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Run file to write.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="FILE", help="Continue this run file.")] = None,
    simulate: options.Simulate = None,
) -> int:
    """Measure GEMMs, reading power beside them; writes a run file and prints a table."""
    from flopwatt.commands import run as command
    from flopwatt.commands.request import Request, parse_duration
    from flopwatt.errors import InputError
    from flopwatt.measurement.messages import RigSpec

    spec = RigSpec(device=device, scenario=simulate, seed=seed or 0, shared=shared)
    target = command.Target(spec, output, plan, shared)
    budget_s = parse_duration(budget)
    asked = (suite, model, seq, micro_batch, tp, shape, dtype, backend, regime, inputs, effort, processes, seed)
    if resume is not None:
        if any(word is not None for word in (*asked, output)):
            raise InputError(
                "--resume takes its plan from the file: only --device, --simulate, --budget, --shared and --plan go too"
            )
        return command.resume(target, resume, budget_s, console(), log())
    request = Request.of(budget_s, *asked)
    return command.run(request, target, console(), log())


@app.command()
def tune(
    suite: options.Suites = None,
    model: options.Model = None,
    seq: options.Seq = None,
    micro_batch: options.MicroBatch = None,
    tp: options.TensorParallel = None,
    shape: options.Shapes = None,
    dtype: options.Dtypes = None,
    layout: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="nn, nt, tn: in place of each problem's own.")
    ] = None,
    backend: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="See `flopwatt backends`; all that can be tuned.")
    ] = None,
    objective: Annotated[
        str, typer.Option(metavar="NAME", help="time (bursts) or energy (joules under sustained load).")
    ] = "time",
    candidates: Annotated[int, typer.Option(metavar="N", help="Configurations measured for each problem.")] = 10,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto or cuda:N.")] = "auto",
    budget: options.Budget = None,
    shared: options.Shared = False,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of inputs.")] = 0,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Tuning store to add to; your own unless given."),
    ] = None,
    simulate: options.Simulate = None,
    compile_only: Annotated[
        bool, typer.Option("--compile-only", help="Compile every candidate, show what it takes; measure nothing.")
    ] = False,
    target: Annotated[
        list[str] | None, typer.Option(metavar="SM", help="With --compile-only: sm_80, sm_90, sm_100.")
    ] = None,
    format: Annotated[
        str, typer.Option(metavar="FORMAT", help="With --compile-only: table, json or markdown.")
    ] = "table",
) -> int:
    """Find the best configuration of each kernel for these GEMMs, and keep it for `run`."""
    from flopwatt.commands import tune as command
    from flopwatt.commands.request import Request, parse_duration
    from flopwatt.errors import InputError
    from flopwatt.measurement.messages import RigSpec

    request = Request(
        suites=suite or (),
        model=model,
        seq=seq,
        micro_batch=micro_batch,
        tensor_parallel=tp,
        shapes=shape or (),
        dtypes=dtype or (),
        backends=backend or (),
        budget_s=parse_duration(budget),
        seed=seed,
    )
    spec = RigSpec(device=device, scenario=simulate, seed=seed, shared=shared)
    tuning = command.Tuning(request, spec, objective, candidates, layout or (), output)
    if compile_only:
        from flopwatt.commands import compiled

        return compiled.compile_only(tuning, target or (), format, console(), log())
    if target or format != "table":
        raise InputError("--target and --format go with --compile-only")
    return command.tune(tuning, console(), log())


@app.command()
def doctor(
    sensor: Annotated[bool, typer.Option("--sensor", help="Identify the power sensor: a minute of GPU time.")] = False,
    simulate: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="With --sensor: scenario, by name or TOML file.")
    ] = None,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="With --sensor: auto or cuda:N.")] = "auto",
    format: options.Format = "table",
) -> int:
    """Say what this machine can measure, what it cannot, why, and the remedy."""
    if sensor:
        from flopwatt.commands import sensor as identification
        from flopwatt.measurement.messages import RigSpec

        return identification.sensor(RigSpec(device=device, scenario=simulate), format, console(), log())
    if simulate is not None or device != "auto":
        from flopwatt.errors import InputError

        raise InputError("doctor looks at the whole machine: --simulate and --device go with --sensor")
    from flopwatt.commands import doctor as command

    return command.doctor(format, console())


@app.command()
def suites(format: options.Format = "table") -> int:
    """List the suites: which GEMMs each holds, and how long it takes."""
    from flopwatt.commands import listing as command

    return command.suites(format, console())


@app.command()
def backends(
    device: options.Device = "auto",
    format: options.Format = "table",
) -> int:
    """List the ways to compute a GEMM, and what each supports on this machine."""
    from flopwatt.commands import listing as command

    return command.backends(device, format, console())
