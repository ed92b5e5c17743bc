"""The run file: JSON Lines, appended to and fsynced record by record, repaired on resume, read whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from flopwatt.errors import RunFileError
from flopwatt.runs.collector import paused_collector
from flopwatt.runs.growing_file import GrowingFile
from flopwatt.runs.records import (
    LINE_TYPES,
    SCHEMA_VERSION,
    End,
    Event,
    Line,
    Record,
    RunHeader,
    Segment,
    decode,
    encode,
)
from flopwatt.text import plain, shortened

MAX_LINE_BYTES: Final = 64 * 2**20
"""The longest line read: a header with a plan of tens of thousands of cases is far below it."""


@dataclass(frozen=True, slots=True)
class RunFile:
    """A run file's content, in the order it was written.

    torn: the last line was cut off (a crash while writing); it is left out of `records`.
    """

    path: Path
    header: RunHeader
    segments: tuple[Segment, ...] = ()
    records: tuple[Record, ...] = ()
    events: tuple[Event, ...] = ()
    end: End | None = None
    torn: bool = False


@dataclass(slots=True)
class _Content:
    header: RunHeader | None = None
    segments: list[Segment] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    end: End | None = None

    def add(self, line: Line) -> None:
        match line:
            case RunHeader():
                self.header = line
            case Segment():
                self.segments.append(line)
                self.end = None  # a resumed run has not ended by its earlier end
            case Record():
                self.records.append(line)
            case Event():
                self.events.append(line)
            case End():
                self.end = line


class _Envelope(msgspec.Struct):
    """As much of a line as tells whether this version knows it."""

    type: str
    schema: int = SCHEMA_VERSION


_envelope = msgspec.json.Decoder(_Envelope)


def read(path: str | Path) -> RunFile:
    """Reads a run file. Raises RunFileError for one that is missing, foreign, newer, or broken before its last line."""
    path = Path(path)
    with paused_collector():
        return _read(path)


def _read(path: Path) -> RunFile:
    content = _Content()
    torn = False
    for number, line, complete in _lines(path):
        try:
            parsed = _parse(line, path, number)
        # ValidationError is a DecodeError; bytes in a string that are not UTF-8 are neither.
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not complete:
                torn = True
                break
            raise RunFileError(
                f"{path}: line {number} is broken ({shortened(str(error))}): restore the file or delete that line"
            ) from None
        if parsed is None:
            continue
        if isinstance(parsed, RunHeader) != (content.header is None):
            raise RunFileError(f"{path}: line {number} is not a run file's: expected one run header, first")
        if isinstance(parsed, Record) and content.header and parsed.origin != content.header.origin:
            raise RunFileError(
                f"{path}: line {number} is a {parsed.origin} record in a {content.header.origin} run: "
                "restore the file, it was altered"
            )
        content.add(parsed)
    if content.header is None and (torn or not path.stat().st_size):
        raise RunFileError(f"{path}: cut off before anything was measured: delete it and start again")
    if content.header is None:
        raise RunFileError(f"{path}: not a flopwatt run file (no run header): give a file that `flopwatt run` wrote")
    return RunFile(
        path, content.header, tuple(content.segments), tuple(content.records), tuple(content.events), content.end, torn
    )


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Number, bytes without the newline, and whether there was one, of each line that is not empty."""
    try:
        if path.exists() and not path.is_file():
            raise RunFileError(f"{path}: not a regular file: give the path of a run file")
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > MAX_LINE_BYTES:
                    raise RunFileError(
                        f"{path}: line {number} is over {MAX_LINE_BYTES >> 20} MiB: not a flopwatt run file"
                    )
                if line.strip():
                    yield number, line.rstrip(b"\n"), line.endswith(b"\n")
    except OSError as error:
        raise RunFileError(f"{path}: {plain(error)}: give the path of a run file") from None


def _parse(line: bytes, path: Path, number: int) -> Line | None:
    """The record of a line; None for a type that a later version added."""
    try:
        parsed = decode(line)
        if isinstance(parsed, RunHeader):
            _refuse_newer(parsed.schema, path)
        return parsed
    except msgspec.ValidationError:
        envelope = _envelope.decode(line)
        if envelope.type == "run":
            _refuse_newer(envelope.schema, path)
        if envelope.type in LINE_TYPES:
            raise
        return None


def _refuse_newer(schema: int, path: Path) -> None:
    if schema > SCHEMA_VERSION:
        raise RunFileError(
            f"{path}: schema {schema} is newer than this flopwatt's {SCHEMA_VERSION}: upgrade flopwatt to read it"
        )


class RunWriter:
    """Appends lines to a run file; each is on disk before `append` returns. One writer at a time holds the file.

    Use `create` or `resume`, and as a context manager.
    """

    def __init__(self, file: GrowingFile) -> None:
        self._file = file

    @property
    def path(self) -> Path:
        """Where the file is now: somebody may have renamed it."""
        return self._file.path

    @classmethod
    def create(cls, path: Path, header: RunHeader) -> RunWriter:
        """A new file with its header. Raises RunFileError where one exists already or cannot be written."""
        try:
            file = GrowingFile.create(path)
        except FileExistsError:
            raise RunFileError(f"{path} exists: choose another name, or continue it with --resume {path}") from None
        except OSError as error:
            raise RunFileError(f"{path}: {plain(error)}: choose a path that can be written with -o") from None
        try:
            file.write(_line(header))
            file.sync_name()
        except BaseException as error:
            file.close()
            path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise RunFileError(f"{path}: {plain(error)}: choose a path that can be written with -o") from None
            raise
        return cls(file)

    @classmethod
    def resume(cls, path: Path) -> tuple[RunWriter, RunFile, int]:
        """An existing file to continue, its content, and how many bytes of a torn last line were cut off."""
        file = None
        try:
            file = GrowingFile.reopen(path)
            run = read(path)
            removed = file.cut_after_last_newline() if run.torn else 0
            if not file.ends_in_newline():
                file.write(b"\n")  # a crash can fall between a whole line and its newline
        except BaseException as error:
            if file is not None:
                file.close()
            if isinstance(error, OSError):
                raise RunFileError(f"{path}: {plain(error)}: give a run file that can be written to --resume") from None
            raise
        return cls(file), run, removed

    def append(self, line: Line) -> str | None:
        """Writes one line and waits until it is on disk; what had become of the file meanwhile, None for nothing.

        Raises WritingStopped where it cannot be written; what was written before is kept whole.
        """
        return self._file.append(_line(line))

    def close(self) -> None:
        """Lets the file go, with its lock."""
        self._file.close()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _line(line: Line) -> bytes:
    return encode(line) + b"\n"
