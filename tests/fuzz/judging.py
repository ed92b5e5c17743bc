"""What a reader is, and when it has broken its word: shared by every reader and by what drives them."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import mutators

from flopwatt.errors import FlopwattError

if TYPE_CHECKING:
    from rich.console import Console

MESSAGE_MOST = 2000
SLOWEST_S = 5.0


@dataclass(frozen=True)
class Reader:
    """read: gets the path of a file with the input. suffix: of that file's name. words: what the format is made of.

    seeds: valid inputs to start from; the first one also shows which modules are to be instrumented. weight: its share
    of all inputs; a slow reader gets a smaller one. mutator: changes a value and keeps the grammar.
    """

    read: Callable[[Path], None]
    seeds: Callable[[], Iterable[bytes]]
    suffix: str = ""
    words: tuple[str, ...] = ()
    weight: int = 24
    mutator: mutators.Mutator | None = None


class Finding(AssertionError):
    """A reader broke its word."""


def judge(reader: Reader, path: Path, data: bytes) -> None:
    """One input through one reader. Raises Finding, or whatever the reader lets through.

    Of time the processor's counts: how long another process kept this one waiting says nothing about the input.
    """
    path.write_bytes(data)
    begun = time.process_time()
    try:
        reader.read(path)
    except FlopwattError as error:
        # The command line prints it through `printable`; what it must be by itself is short.
        if len(str(error)) > MESSAGE_MOST:
            raise Finding(f"a message of {len(str(error))} characters") from error
    if (took_s := time.process_time() - begun) > SLOWEST_S:
        raise Finding(f"took {took_s:.1f} s")


@contextlib.contextmanager
def shown() -> Iterator[Console]:
    """The program's own console, not on a terminal. Raises Finding where a control character reached it, or stdout."""
    from flopwatt.cli.app import console

    with contextlib.redirect_stdout(io.StringIO()) as text:
        yield console()
    assert_plain(text.getvalue())


@contextlib.contextmanager
def nothing_of_ours() -> Iterator[None]:
    """Without what the program itself starts or takes long over: git, and a drawing library of 900 KB."""
    from flopwatt.analysis.calibrate import provenance
    from flopwatt.analysis.report.page import plotting

    commit = mock.patch.object(provenance, "commit", return_value=None)
    with commit, mock.patch.object(plotting, "library", return_value=""):
        yield


@contextlib.contextmanager
def printed() -> Iterator[io.StringIO]:
    """What is printed as data, which may quote control characters as its format does."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        yield text


def assert_plain(text: str) -> None:
    """No escape sequence, bell or other control character of the input reaches a terminal."""
    found = [char for char in text if not char.isprintable() and char not in "\n\t"]
    if found:
        raise Finding(f"control characters in the output: {found[:5]!r}")
