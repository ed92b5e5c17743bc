"""The run file: JSON Lines, appended to and fsynced record by record, repaired on resume, read whole."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from flopwatt.errors import RunFileError
from flopwatt.runs.collector import paused_collector
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
from flopwatt.text import shortened

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
        raise RunFileError(f"{path}: {_plain(error)}: give the path of a run file") from None


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

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    @classmethod
    def create(cls, path: Path, header: RunHeader) -> RunWriter:
        """A new file with its header. Raises RunFileError where one exists already or cannot be written."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        except FileExistsError:
            raise RunFileError(f"{path} exists: choose another name, or continue it with --resume {path}") from None
        except OSError as error:
            raise RunFileError(f"{path}: {_plain(error)}: choose a path that can be written with -o") from None
        writer = cls(path, descriptor)
        try:
            writer._lock()
            writer.append(header)
            _sync_directory(path)
        except RunFileError:
            writer.close()
            path.unlink(missing_ok=True)
            raise
        return writer

    @classmethod
    def resume(cls, path: Path) -> tuple[RunWriter, RunFile, int]:
        """An existing file to continue, its content, and how many bytes of a torn last line were cut off."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise RunFileError(f"{path}: {_plain(error)}: give a run file that can be written to --resume") from None
        writer = cls(path, descriptor)
        try:
            writer._lock()
            run = read(path)
            removed = _cut_torn_line(descriptor) if run.torn else _end_last_line(descriptor)
        except BaseException:
            writer.close()
            raise
        return writer, run, removed

    def append(self, line: Line) -> None:
        """Writes one line and waits until it is on disk. A line that does not fit is taken back whole."""
        data = encode(line) + b"\n"
        start = os.fstat(self._descriptor).st_size
        try:
            written = 0
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            os.ftruncate(self._descriptor, start)
            raise RunFileError(f"{self.path}: {_plain(error)}: what was measured before is kept in it") from None

    def close(self) -> None:
        """Lets the file go, with its lock."""
        os.close(self._descriptor)

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                return  # a filesystem without locks: exclusive creation still guards new files
            raise RunFileError(
                f"{self.path}: another flopwatt is writing it: wait for it or choose another -o"
            ) from None


def _cut_torn_line(descriptor: int) -> int:
    """Cuts the file after its last newline; the bytes removed."""
    size = os.fstat(descriptor).st_size
    position = size
    while position:
        start = max(0, position - 65536)
        newline = os.pread(descriptor, position - start, start).rfind(b"\n")
        if newline >= 0:
            position = start + newline + 1
            break
        position = start
    os.ftruncate(descriptor, position)
    os.fsync(descriptor)
    return size - position


def _end_last_line(descriptor: int) -> int:
    """Adds the newline that a whole last line may lack: a crash can fall between the two."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")
        os.fsync(descriptor)
    return 0


def _sync_directory(path: Path) -> None:
    """Makes the new name itself durable."""
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return  # a folder that may be written but not opened: the file's content is durable all the same
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _plain(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
