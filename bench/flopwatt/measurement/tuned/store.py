"""The files of the tuning store: read whole or refused, and replaced whole.

Two places are read: what was shipped with flopwatt (`*.json` beside this module) and the user's own file.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from flopwatt.errors import TuningStoreError
from flopwatt.measurement.tuned.records import Entry, Stored, identity
from flopwatt.text import plain, shortened

FORMAT: Final = 1
"""Of a store's file. History: 1 (2026-11) the first."""

MAX_BYTES: Final = 64 * 2**20
"""The largest file read: an entry takes about 1.5 KB."""

_REMEDY: Final = "move the file away and tune again"


class _Envelope(msgspec.Struct):
    """As much of a store as tells whether this version knows it."""

    format: Annotated[int, Meta(ge=1)]


class _File(Stored, frozen=True, kw_only=True):
    format: int
    entries: tuple[Entry, ...]


def damage() -> str | None:
    """What is wrong with the stores, in one line; None where nothing is."""
    try:
        stored()
    except TuningStoreError as error:
        return str(error)
    return None


def stored() -> tuple[Entry, ...]:
    """The user's entries, then the shipped ones. Raises TuningStoreError where a file is damaged."""
    try:
        path = user_path()
    except TuningStoreError:
        return shipped()  # a user without a home has stored nothing
    return load(path) + shipped()


def shipped() -> tuple[Entry, ...]:
    """The entries that come with flopwatt."""
    folder = resources.files("flopwatt.measurement.tuned")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(entry for file in files for entry in parse(file.read_bytes(), file.name))


def user_path() -> Path:
    """The user's own store: `flopwatt/tuning.json` in $XDG_DATA_HOME, or in ~/.local/share."""
    chosen = Path(os.environ.get("XDG_DATA_HOME", ""))
    try:
        data = chosen if chosen.is_absolute() else Path.home() / ".local" / "share"
    except RuntimeError:
        raise TuningStoreError("this user has no home: set XDG_DATA_HOME to a folder for the tuning store") from None
    return data / "flopwatt" / "tuning.json"


def load(path: Path) -> tuple[Entry, ...]:
    """The entries of a store's file; none where there is no file. Raises TuningStoreError where it is damaged."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise TuningStoreError(f"{path}: {plain(error)}: {_REMEDY}") from None
    return parse(data, str(path))


def make_folder(path: Path) -> None:
    """Makes a store's folder, where it is missing. Raises TuningStoreError where no file can be made in it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except OSError as error:
        raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> TuningStoreError:
    return TuningStoreError(f"{path}: {plain(error)}: choose a store that can be written with -o")


def parse(data: bytes, source: str) -> tuple[Entry, ...]:
    """The entries in a store's JSON; `source` names it in messages. Raises TuningStoreError."""
    if len(data) > MAX_BYTES:
        raise TuningStoreError(f"{source}: over {MAX_BYTES >> 20} MiB is no tuning store: {_REMEDY}")
    try:
        written = msgspec.json.decode(data, type=_Envelope).format
        if written > FORMAT:
            raise TuningStoreError(
                f"{source}: format {written} is newer than this flopwatt's {FORMAT}: upgrade flopwatt to read it"
            )
        return msgspec.json.decode(data, type=_File).entries
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        said = shortened(" ".join(str(error).split()))
        raise TuningStoreError(f"{source}: not a tuning store of format {FORMAT} ({said}): {_REMEDY}") from None


def add(path: Path, entries: Sequence[Entry]) -> int:
    """Adds entries to a store's file, each in place of an older one about the same; how many the file then holds.

    The file is replaced whole, under a lock that other processes wait for. Raises TuningStoreError where it is damaged
    or cannot be written: then it is as it was.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            about = {identity(entry) for entry in entries}
            kept = [old for old in load(path) if identity(old) not in about]
            together = sorted((*kept, *entries), key=identity)
            _replace(path, msgspec.json.encode(_File(format=FORMAT, entries=tuple(together))))
    except OSError as error:
        raise _unwritable(path, error) from None
    return len(together)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the store's lock, on a file of its own: the store itself is replaced."""
    with path.with_name(path.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _replace(path: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(msgspec.json.format(data, indent=1))
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise
