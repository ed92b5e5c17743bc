"""Commands that read runs: `show`, `check`, `compare`, `report`, `claims`, and `import`, which makes one of a table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flopwatt.cli import options
from flopwatt.cli.app import app, console


@app.command()
def show(
    files: options.RunFiles,
    format: Annotated[
        str, typer.Option(metavar="FORMAT", help="table, csv, json or parquet: all but the first are tidy data.")
    ] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write csv, json or parquet.")
    ] = None,
) -> int:
    """Show run files as tables with headlines, or as tidy data."""
    from flopwatt.commands import show as command

    return command.show(files, format, output, console())


@app.command()
def check(files: options.RunFiles) -> int:
    """Say whether run files are whole and physically sane."""
    from flopwatt.commands import check as command

    return command.check_files(files, console())


@app.command()
def compare(
    base: Annotated[Path, typer.Argument(help="Run file to compare with, or a folder of them.")],
    new: Annotated[Path, typer.Argument(help="Run file that is compared, or a folder of them.")],
    also_base: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="One more file of BASE; may be repeated.")
    ] = None,
    also_new: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="One more file of NEW; may be repeated.")
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help="time, tflops, power, energy or tflops-per-w.")] = "time",
    threshold: Annotated[
        str, typer.Option(metavar="PERCENT", help="Changes below it are the same in practice.")
    ] = "1%",
    best: Annotated[bool, typer.Option("--best", help="The fastest backend of each side, case by case.")] = False,
    base_backend: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --new-backend: BASE's backend.")
    ] = None,
    new_backend: Annotated[str | None, typer.Option(metavar="NAME", help="With --base-backend: NEW's backend.")] = None,
    base_gpu: Annotated[str | None, typer.Option(metavar="NAME", help="Of BASE only such GPUs: A100.")] = None,
    new_gpu: Annotated[str | None, typer.Option(metavar="NAME", help="Of NEW only such GPUs: H100.")] = None,
    allow_mixed: Annotated[
        str,
        typer.Option(
            metavar="WHAT", help="What may differ in a pair: origin,regime,inputs,cache,scaling,accumulation,dtype."
        ),
    ] = "",
    fail_on: Annotated[
        str,
        typer.Option(
            metavar="WHAT",
            help="Exit 1 on: any (a suite's total, or a case beyond chance among so many), suite, case (any case's own "
            "verdict), never.",
        ),
    ] = "any",
    format: options.TableFormat = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write csv or json.")] = None,
) -> int:
    """Compare two runs case by case and in total; exits with 1 on a regression, 3 where it cannot be told."""
    from flopwatt.commands import compare as command

    request = command.Request(
        base=(base, *(also_base or ())),
        new=(new, *(also_new or ())),
        metric=metric,
        threshold=threshold,
        best=best,
        base_backend=base_backend,
        new_backend=new_backend,
        allow_mixed=allow_mixed,
        fail_on=fail_on,
        base_gpu=base_gpu,
        new_gpu=new_gpu,
    )
    return command.compare(request, format, output, console())


@app.command()
def report(
    files: Annotated[list[Path], typer.Argument(help="Run files; the first board is the base of comparisons.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Page to write.")] = Path(
        "report.html"
    ),
    png: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Folder for the figures as PNG.")] = None,
    price: Annotated[
        list[str] | None, typer.Option(metavar="GPU=USD", help="GPU=USD_PER_HOUR; may be repeated.")
    ] = None,
    calibration: Annotated[
        list[Path] | None, typer.Option(help="Calibration file whose residuals to show; may be repeated.")
    ] = None,
    with_claims: Annotated[bool, typer.Option("--claims", help="Add public claims, held against these files.")] = False,
) -> int:
    """Show run files as one self-contained HTML page with figures, and say how sure they are."""
    from flopwatt.commands import report as command

    return command.report(files, output, png, price or (), console(), with_claims, calibration or ())


@app.command()
def claims(
    files: Annotated[list[Path] | None, typer.Argument(help="Run files and calibrations; none is fine.")] = None,
    format: options.Format = "table",
) -> int:
    """Hold public claims about AI's compute and energy against published figures and these files, working shown."""
    from flopwatt.commands import claims as command

    return command.claims(files or (), format, console())


@app.command("import")
def import_(
    format: Annotated[str, typer.Argument(help="aiconfigurator, cutlass-profiler or csv (the tidy columns).")],
    path: Annotated[
        Path, typer.Argument(help="File or folder; for aiconfigurator also SYSTEM[/STACK[/VERSION]] of its package.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Run file to write.")],
    gpu: Annotated[
        str | None, typer.Option(metavar="NAME", help="The GPU, where the table names none; else keep only its rows.")
    ] = None,
    shapes: Annotated[
        list[str] | None, typer.Option(metavar="SUITE", help="Keep only this suite's GEMMs; may be repeated.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Where the table is from, kept in the run file.")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(metavar="TEXT", help="The table's licence, kept in the run file.")
    ] = None,
) -> int:
    """Bring in what others measured, as a run file of origin `imported`."""
    from flopwatt.commands import importing as command

    return command.import_table(command.Request(format, path, output, gpu, shapes or (), source, licence), console())
