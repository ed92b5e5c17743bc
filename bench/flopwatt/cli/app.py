"""The command line: parses, hands over to a command, and turns exceptions into one line and an exit code.

Commands import what they need when they run, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
import traceback
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
def before(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options that stand before any command. `main` has taken --debug out already."""


def console() -> Console:
    """Results, on standard output: plain text and as wide as the table where that is not a terminal."""
    from flopwatt.cli.plain import PlainConsole

    if sys.stdout.isatty():
        return PlainConsole(highlight=False, markup=False)
    return PlainConsole(highlight=False, markup=False, width=PLAIN_WIDTH, color_system=None)


def log() -> Console:
    """Progress and remarks, on standard error."""
    from flopwatt.cli.plain import PlainConsole

    return PlainConsole(stderr=True, highlight=False, markup=False, soft_wrap=True)
