"""The command line: parses, hands over to a command, and turns exceptions into one line and an exit code.

Commands import what they need when they run, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from flopwatt import __version__

if TYPE_CHECKING:
    from rich.console import Console

EPILOG = "Exit codes: 0 done, 1 the answer is no, 2 wrong words or input, 3 not finished, 130 interrupted."

PLAIN_WIDTH = 200
"""Columns where standard output is no terminal: as wide as the widest table."""

app = typer.Typer(
    name="flopwatt",
    help="Measures matrix multiplication on GPUs: TFLOPS, watts and TFLOPS per watt, each with its uncertainty.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> NoReturn:
    """Runs the command line and exits with its code."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    sys.exit(_guarded(words or ["--help"], debug="--debug" in sys.argv[1:]))


def _guarded(arguments: list[str], debug: bool) -> int:
    from flopwatt.errors import FlopwattError

    try:
        code = app(arguments, prog_name="flopwatt", standalone_mode=False)
    except FlopwattError as error:
        if debug:
            traceback.print_exc()
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output has stopped: nothing more can be said
        return 0
    except typer.Exit as stop:
        return stop.exit_code
    except Exception as error:
        return _usage_or_raise(error, debug)
    return code if isinstance(code, int) else 0


def _usage_or_raise(error: Exception, debug: bool) -> int:
    """A word the parser did not understand is one line; anything else is a fault of the program, and says so.

    The parser's exceptions are told by their shape: Typer has carried Click both inside and beside itself.
    """
    if hasattr(error, "format_message"):
        return _complain(f"{error.format_message()} (see flopwatt --help)", 2)
    if type(error).__name__ == "Abort":
        return _complain("interrupted", 130)
    if debug:
        traceback.print_exception(error)
    return _complain(f"fault in flopwatt, {type(error).__name__}: {error} (--debug shows where)", 1)


def _complain(message: str, code: int) -> int:
    from flopwatt.text import printable

    print(f"flopwatt: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"flopwatt {__version__}")
        raise typer.Exit(0)


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options that stand before any command. `main` has taken --debug out already."""


@app.command()
def run(
    suite: Annotated[list[str] | None, typer.Option(help="Suite by name or TOML file; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option(help="Model by name, TOML file or Hugging Face config.json.")] = None,
    seq: Annotated[int | None, typer.Option(help="Sequence length for --model.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Micro-batch for --model.")] = None,
    tp: Annotated[int | None, typer.Option(help="Tensor-parallel degree for --model.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="MxNxK or BATCHxMxNxK; may be repeated.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="bf16, fp16, tf32, fp32, fp8_e4m3, fp8_e5m2, int8.")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="See `flopwatt backends`; may be repeated.")] = None,
    regime: Annotated[list[str] | None, typer.Option(help="burst or sustained; may be repeated.")] = None,
    inputs: Annotated[list[str] | None, typer.Option(help="normal, uniform, zeros, integer, sparse:P.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    budget: Annotated[str | None, typer.Option(help="Stop before this much time is spent: 90s, 10m.")] = None,
    effort: Annotated[str | None, typer.Option(help="fast, normal or publish: how long a case is held.")] = None,
    processes: Annotated[int | None, typer.Option(help="Repeat in this many fresh processes.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show cases and minutes; run nothing.")] = False,
    shared: Annotated[bool, typer.Option("--shared", help="Measure on a busy GPU; marks the rows.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of inputs and order; 0 unless given.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Run file to write.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue this run file.")] = None,
    simulate: Annotated[str | None, typer.Option(help="Scenario, by name or TOML file, of a simulated GPU.")] = None,
) -> int:
    """Measure GEMMs, reading power beside them; writes a run file and prints a table."""
    from flopwatt.commands import run as command
    from flopwatt.commands.request import Request, parse_duration
    from flopwatt.errors import InputError
    from flopwatt.measurement.messages import RigSpec

    spec = RigSpec(device=device, scenario=simulate, seed=seed or 0, shared=shared)
    target = command.Target(spec, output, plan, shared)
    budget_s = parse_duration(budget)
    fixed = [suite, model, seq, micro_batch, tp, shape, dtype, backend, regime, inputs, effort, processes, seed, output]
    if resume is not None:
        if any(word is not None for word in fixed):
            raise InputError(
                "--resume takes its plan from the file: only --device, --simulate, --budget, --shared and --plan go too"
            )
        return command.resume(target, resume, budget_s, _console(), _log())
    request = Request(
        suites=suite or (),
        model=model,
        seq=seq,
        micro_batch=micro_batch,
        tensor_parallel=tp,
        shapes=shape or (),
        dtypes=dtype or (),
        backends=backend or (),
        regimes=regime or (),
        inputs=inputs or (),
        effort=effort,
        processes=processes,
        budget_s=budget_s,
        seed=seed or 0,
    )
    return command.run(request, target, _console(), _log())


@app.command()
def tune(
    suite: Annotated[list[str] | None, typer.Option(help="Suite by name or TOML file; may be repeated.")] = None,
    model: Annotated[str | None, typer.Option(help="Model by name, TOML file or Hugging Face config.json.")] = None,
    seq: Annotated[int | None, typer.Option(help="Sequence length for --model.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Micro-batch for --model.")] = None,
    tp: Annotated[int | None, typer.Option(help="Tensor-parallel degree for --model.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="MxNxK or BATCHxMxNxK; may be repeated.")] = None,
    dtype: Annotated[list[str] | None, typer.Option(help="bf16, fp16, tf32, fp32, fp8_e4m3, fp8_e5m2, int8.")] = None,
    layout: Annotated[list[str] | None, typer.Option(help="nn, nt, tn: in place of each problem's own.")] = None,
    backend: Annotated[list[str] | None, typer.Option(help="See `flopwatt backends`; all that can be tuned.")] = None,
    objective: Annotated[str, typer.Option(help="time (bursts) or energy (joules under sustained load).")] = "time",
    candidates: Annotated[int, typer.Option(help="Configurations measured for each problem.")] = 10,
    device: Annotated[str, typer.Option(help="auto or cuda:N.")] = "auto",
    budget: Annotated[str | None, typer.Option(help="Stop before this much time is spent: 90s, 10m.")] = None,
    shared: Annotated[bool, typer.Option("--shared", help="Measure on a busy GPU; marks the rows.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of inputs.")] = 0,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Tuning store to add to; your own unless given.")
    ] = None,
    simulate: Annotated[str | None, typer.Option(help="Scenario, by name or TOML file, of a simulated GPU.")] = None,
    compile_only: Annotated[
        bool, typer.Option("--compile-only", help="Compile every candidate, show what it takes; measure nothing.")
    ] = False,
    target: Annotated[list[str] | None, typer.Option(help="With --compile-only: sm_80, sm_90, sm_100.")] = None,
    format: Annotated[str, typer.Option(help="With --compile-only: table, json or markdown.")] = "table",
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

        return compiled.compile_only(tuning, target or (), format, _console(), _log())
    if target or format != "table":
        raise InputError("--target and --format go with --compile-only")
    return command.tune(tuning, _console(), _log())


@app.command()
def show(
    files: Annotated[list[Path], typer.Argument(help="Run files.")],
    format: Annotated[
        str, typer.Option(help="table, csv, json or parquet: all but the first are tidy data.")
    ] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write csv, json or parquet.")] = None,
) -> int:
    """Show run files as tables with headlines, or as tidy data."""
    from flopwatt.commands import show as command

    return command.show(files, format, output, _console())


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="Run files.")]) -> int:
    """Say whether run files are whole and physically sane."""
    from flopwatt.commands import check as command

    return command.check_files(files, _console())


@app.command()
def compare(
    base: Annotated[Path, typer.Argument(help="Run file to compare with.")],
    new: Annotated[Path, typer.Argument(help="Run file that is compared.")],
    also_base: Annotated[list[Path] | None, typer.Option(help="One more file of BASE; may be repeated.")] = None,
    also_new: Annotated[list[Path] | None, typer.Option(help="One more file of NEW; may be repeated.")] = None,
    metric: Annotated[str, typer.Option(help="time, tflops, power, energy or tflops-per-w.")] = "time",
    threshold: Annotated[str, typer.Option(help="Changes below it are the same in practice.")] = "1%",
    best: Annotated[bool, typer.Option("--best", help="The fastest backend of each side, case by case.")] = False,
    base_backend: Annotated[str | None, typer.Option(help="With --new-backend: BASE's backend.")] = None,
    new_backend: Annotated[str | None, typer.Option(help="With --base-backend: NEW's backend.")] = None,
    allow_mixed: Annotated[
        str, typer.Option(help="What may differ in a pair: origin,regime,inputs,cache,scaling,accumulation,dtype.")
    ] = "",
    fail_on: Annotated[
        str,
        typer.Option(
            help="Exit 1 on: any (a suite's total, or a case beyond chance among so many), suite, case (any case's own "
            "verdict), never."
        ),
    ] = "any",
    format: Annotated[str, typer.Option(help="table, csv or json.")] = "table",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where to write csv or json.")] = None,
) -> int:
    """Compare two runs case by case and in total; exits with 1 on a regression, 3 where it cannot be told."""
    from flopwatt.commands import compare as command

    request = command.Request(
        (base, *(also_base or ())),
        (new, *(also_new or ())),
        metric,
        threshold,
        best,
        base_backend,
        new_backend,
        allow_mixed,
        fail_on,
    )
    return command.compare(request, format, output, _console())


@app.command()
def report(
    files: Annotated[list[Path], typer.Argument(help="Run files; the first board is the base of comparisons.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write.")] = Path("report.html"),
    png: Annotated[Path | None, typer.Option(help="Folder for the figures as PNG.")] = None,
    price: Annotated[list[str] | None, typer.Option(help="GPU=USD_PER_HOUR; may be repeated.")] = None,
) -> int:
    """Show run files as one self-contained HTML page with figures, and say how sure they are."""
    from flopwatt.commands import report as command

    return command.report(files, output, png, price or (), _console())


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
    return command.print_schema() if schema else command.calibrate(request, _console())


@app.command()
def predict(
    calibration: Annotated[Path, typer.Argument(help="Calibration file.")],
    shape: Annotated[list[str] | None, typer.Option(help="MxNxK or BATCHxMxNxK; may be repeated.")] = None,
    shapes: Annotated[
        Path | None, typer.Option(help="CSV with columns m, n, k and maybe batch, dtype, layout.")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="bf16, fp16, tf32, fp32, fp8_e4m3, fp8_e5m2, int8.")] = None,
    format: Annotated[str, typer.Option(help="table, csv or json.")] = "table",
) -> int:
    """Predict time, power and energy of GEMMs, with intervals."""
    from flopwatt.commands import predict as command

    return command.predict(command.Request(calibration, shape or (), shapes, dtype), format, _console())


@app.command("import")
def import_(
    format: Annotated[str, typer.Argument(help="aiconfigurator, cutlass-profiler or csv (the tidy columns).")],
    path: Annotated[
        Path, typer.Argument(help="File or folder; for aiconfigurator also SYSTEM[/STACK[/VERSION]] of its package.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run file to write.")],
    gpu: Annotated[
        str | None, typer.Option(help="The GPU, where the table names none; else keep only its rows.")
    ] = None,
    shapes: Annotated[list[str] | None, typer.Option(help="Keep only this suite's GEMMs; may be repeated.")] = None,
    source: Annotated[str | None, typer.Option(help="Where the table is from, kept in the run file.")] = None,
    licence: Annotated[str | None, typer.Option(help="The table's licence, kept in the run file.")] = None,
) -> int:
    """Bring in what others measured, as a run file of origin `imported`."""
    from flopwatt.commands import importing as command

    return command.import_table(command.Request(format, path, output, gpu, shapes or (), source, licence), _console())


@app.command()
def doctor(
    sensor: Annotated[bool, typer.Option("--sensor", help="Identify the power sensor: a minute of GPU time.")] = False,
    simulate: Annotated[str | None, typer.Option(help="With --sensor: scenario, by name or TOML file.")] = None,
    device: Annotated[str, typer.Option(help="With --sensor: auto or cuda:N.")] = "auto",
    format: Annotated[str, typer.Option(help="table or json.")] = "table",
) -> int:
    """Say what this machine can measure, what it cannot, why, and the remedy."""
    if sensor:
        from flopwatt.commands import sensor as identification
        from flopwatt.measurement.messages import RigSpec

        return identification.sensor(RigSpec(device=device, scenario=simulate), format, _console(), _log())
    if simulate is not None or device != "auto":
        from flopwatt.errors import InputError

        raise InputError("doctor looks at the whole machine: --simulate and --device go with --sensor")
    from flopwatt.commands import doctor as command

    return command.doctor(format, _console())


@app.command()
def suites(format: Annotated[str, typer.Option(help="table or json.")] = "table") -> int:
    """List the suites: which GEMMs each holds, and how long it takes."""
    from flopwatt.commands import listing as command

    return command.suites(format, _console())


@app.command()
def backends(
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    format: Annotated[str, typer.Option(help="table or json.")] = "table",
) -> int:
    """List the ways to compute a GEMM, and what each supports on this machine."""
    from flopwatt.commands import listing as command

    return command.backends(device, format, _console())


def _console() -> Console:
    """Results, on standard output: plain text and as wide as the table where that is not a terminal."""
    from rich.console import Console

    if sys.stdout.isatty():
        return Console(highlight=False, markup=False)
    return Console(highlight=False, markup=False, width=PLAIN_WIDTH, color_system=None)


def _log() -> Console:
    """Progress and remarks, on standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
