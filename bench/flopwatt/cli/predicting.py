"""Commands that go beyond what was measured: `calibrate` and `predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flopwatt.cli import options
from flopwatt.cli.app import app, console


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
    shapes: Annotated[
        Path | None, typer.Option(help="CSV with columns m, n, k and maybe batch, dtype, layout.")
    ] = None,
    dtype: options.Dtype = None,
    format: options.TableFormat = "table",
) -> int:
    """Predict time, power and energy of GEMMs, with intervals."""
    from flopwatt.commands import predict as command

    return command.predict(command.Request(calibration, shape or (), shapes, dtype), format, console())
