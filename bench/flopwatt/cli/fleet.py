"""`flopwatt fleet`: many GPUs, many nodes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flopwatt.cli import options
from flopwatt.cli.app import app, console, log

fleet = typer.Typer(
    name="fleet",
    help="Measure every GPU of a machine or cluster, and what boards of one type differ by.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(fleet)


@fleet.command()
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
    effort: options.Effort = None,
    processes: options.Processes = None,
    seed: options.Seed = None,
    budget: Annotated[str | None, typer.Option(metavar="TIME", help="Of each GPU: 90s, 10m.")] = None,
    address: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Ray cluster to join; all local GPUs unless given.")
    ] = None,
    nodes: Annotated[int, typer.Option(metavar="N", min=1, help="Wait until so many nodes have joined.")] = 1,
    together: Annotated[
        bool, typer.Option("--together", help="All GPUs of a node at once, in place of one after another.")
    ] = False,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="auto, cuda or cpu.")] = "auto",
    accelerator: Annotated[
        list[str] | None, typer.Option(metavar="TYPE", help="Only GPUs of this type, such as H100; may be repeated.")
    ] = None,
    shared: options.Shared = False,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Folder to write.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Continue this folder.")] = None,
    plan: options.Plan = False,
    simulate: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FILE", help="Scenario of simulated GPUs; may be repeated.")
    ] = None,
    gpus: Annotated[
        str | None, typer.Option(metavar="N|NODESxN", help="With --simulate: how many of each scenario.")
    ] = None,
) -> int:
    """Run one plan on every GPU of a Ray cluster; writes a run file a GPU, and an account of all."""
    from flopwatt.commands import fleet as command
    from flopwatt.commands.request import Request, parse_duration
    from flopwatt.errors import InputError

    words = command.Words(address, nodes, together, device, accelerator or (), simulate or (), gpus, shared, plan)
    asked = (suite, model, seq, micro_batch, tp, shape, dtype, backend, regime, inputs, effort, processes, seed)
    if resume is not None:
        if any(word is not None for word in (*asked, budget, output, simulate, gpus)) or together or shared or plan:
            raise InputError(
                "--resume takes its plan from the folder: only --address, --nodes, --device and --accelerator go too"
            )
        return command.resume(resume, words, console(), log())
    request = Request.of(parse_duration(budget), *asked)
    return command.run(request, words, output, console(), log())


@fleet.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of run files, one a board.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Page to write.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the figures as PNG.")] = None,
) -> int:
    """Show how far boards of one type differ, which stand out and why; one type against another."""
    from flopwatt.commands import fleet_report as command

    return command.report(folder, output, png, console())
