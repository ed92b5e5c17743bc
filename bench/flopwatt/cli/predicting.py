"""Commands that go beyond what was measured: `calibrate`, `predict`, `export` and `cost`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flopwatt.cli import options
from flopwatt.cli.app import app, console, log


@app.command()
def calibrate(
    files: Annotated[list[Path] | None, typer.Argument(help="Run files of one GPU; none with --gpu.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Calibration file to write.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Without files: from this GPU's spec sheet, unvalidated.")] = None,
    prior: Annotated[
        list[Path] | None, typer.Option(help="Calibration of another GPU to learn from; may be repeated.")
    ] = None,
    backend: Annotated[str | None, typer.Option(help="Keep only this backend's rows.")] = None,
    regime: Annotated[str | None, typer.Option(help="Keep only rows of this regime.")] = None,
    inputs: Annotated[str | None, typer.Option(help="Keep only rows with these inputs.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of a calibration file.")] = False,
) -> int:
    """Fit a predictor of time, power and energy to runs, and validate it on shapes held out."""
    from flopwatt.commands import calibrate as command

    request = command.Request(files or (), output, gpu, prior or (), backend, regime, inputs)
    return command.print_schema() if schema else command.calibrate(request, console())


@app.command()
def predict(
    calibration: Annotated[Path, typer.Argument(help="Calibration file.")],
    shape: options.Shapes = None,
    shapes: options.ShapesFile = None,
    dtype: options.Dtype = None,
    format: options.TableFormat = "table",
) -> int:
    """Predict time, power and energy of GEMMs, with intervals."""
    from flopwatt.commands import predict as command

    return command.predict(command.Request(calibration, shape or (), shapes, dtype), format, console())


@app.command()
def export(
    calibration: Annotated[Path, typer.Argument(help="Calibration file.")],
    to: Annotated[
        str, typer.Option(metavar="FORMAT", help="aiconfigurator, calculon, llm-analysis, genz, csv or json.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="File to write; folder where there are several.")
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME|FILE", help="Model by name, TOML file or config.json; may be repeated."),
    ] = None,
    shape: options.Shapes = None,
    shapes: options.ShapesFile = None,
    dtype: options.Dtype = None,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="SYSTEM/STACK",
            help="aiconfigurator: shipped system, for attention and communication: h100_sxm/vllm.",
        ),
    ] = None,
    processing_mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="calculon: no_overlap (unless given) or roofline.")
    ] = None,
    gpus: Annotated[int | None, typer.Option(metavar="N", help="llm-analysis: how many train --model.")] = None,
    parallel: options.Parallel = None,
    tokens: Annotated[
        float | None, typer.Option(metavar="N", help="llm-analysis: tokens of the whole run: 15.6e12.")
    ] = None,
    seq: options.Seq = None,
    micro_batch: options.MicroBatch = None,
) -> int:
    """Write a calibration in another program's format, beside the conditions that its numbers hold for."""
    from flopwatt.commands import export as command

    request = command.Request(
        calibration=calibration,
        to=to,
        output=output,
        models=tuple(model or ()),
        shape=tuple(shape or ()),
        shapes=shapes,
        dtype=dtype,
        base=base,
        mode=processing_mode,
        gpus=gpus,
        parallel=parallel,
        tokens=tokens,
        seq=seq,
        micro_batch=micro_batch,
    )
    return command.export(request, console())


@app.command()
def cost(
    calibration: Annotated[
        list[str], typer.Option(help="Calibration file, or a GPU's name for its spec sheet; repeat to compare.")
    ],
    model: Annotated[str, typer.Option(help="Model by name, TOML file or Hugging Face config.json.")],
    tokens: Annotated[str, typer.Option(help="Tokens of the whole run: 15.6e12.")],
    gpus: Annotated[int | None, typer.Option(help="How many.")] = None,
    parallel: options.Parallel = None,
    precision: Annotated[str, typer.Option(help="bf16, fp16 or fp8, of the linear layers.")] = "bf16",
    seq: options.Seq = None,
    micro_batch: options.MicroBatch = None,
    global_batch: Annotated[int | None, typer.Option(help="Sequences of one step.")] = None,
    recompute: Annotated[str | None, typer.Option(help="none, selective or full.")] = None,
    shard: Annotated[str | None, typer.Option(help="Over data-parallel ranks: none, optimizer or full.")] = None,
    attention: Annotated[str, typer.Option(help="flash or unfused.")] = "flash",
    price: Annotated[list[str] | None, typer.Option(help="USD_PER_HOUR of a GPU, or GPU=USD_PER_HOUR.")] = None,
    pue: Annotated[str | None, typer.Option(help="Facility over IT energy: 1.1, or 1.1:1.05:1.5 with ends.")] = None,
    carbon: Annotated[str | None, typer.Option(help="kg CO2 a kWh.")] = None,
    goodput: Annotated[
        str | None, typer.Option(help="Share of time that trains, in place of what failures leave.")
    ] = None,
    assume: Annotated[list[str] | None, typer.Option(help="NAME=VALUE or NAME=VALUE:LOW:HIGH.")] = None,
    sweep: Annotated[list[str] | None, typer.Option(help="gpus=1024:65536:x2; may be repeated.")] = None,
    format: options.TableFormat = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also write a page with a figure.")] = None,
) -> int:
    """Price the training of a transformer: step time, GPU-hours, energy, dollars, CO2, each with a range."""
    from flopwatt.commands import cost as command

    request = command.Request(
        calibrations=calibration,
        model=model,
        tokens=tokens,
        gpus=gpus,
        parallel=parallel,
        precision=precision,
        seq=seq,
        micro_batch=micro_batch,
        global_batch=global_batch,
        recompute=recompute,
        shard=shard,
        attention=attention,
        price=price or (),
        pue=pue,
        carbon=carbon,
        goodput=goodput,
        assume=assume or (),
        sweep=sweep or (),
    )
    return command.cost(request, format, output, console(), log())
