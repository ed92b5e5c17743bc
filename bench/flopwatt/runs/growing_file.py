"""A file that only grows: each piece is on disk before the next, one writer holds it, and what others do to it is seen.

A full disk, a quota, a folder gone read-only: the piece that does not fit is taken back whole. A file that was renamed
is followed, one that was deleted is written anew from the descriptor that still holds it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Final

from flopwatt.errors import RunFileError, WritingStopped
from flopwatt.text import plain

CHUNK: Final = 1 << 20

REMEDIES: Final = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some of your quota",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f)",
    errno.EROFS: "make its filesystem writable",
    errno.EIO: "copy it to another disk",
}
"""errno of a failed write → what to do before going on."""


class GrowingFile:
    """One open file, locked for this process. Use `create` or `reopen`.

    path: where it is now, which changes where somebody renames or deletes it meanwhile.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    @classmethod
    def create(cls, path: Path) -> GrowingFile:
        """A new, empty file. Raises RunFileError where it is locked already, OSError where it cannot be made."""
        return cls._locked(path, os.O_CREAT | os.O_EXCL)

    @classmethod
    def reopen(cls, path: Path) -> GrowingFile:
        """An existing file. Raises RunFileError where another writer holds it, OSError where it cannot be opened."""
        return cls._locked(path, 0)

    @classmethod
    def _locked(cls, path: Path, flags: int) -> GrowingFile:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                os.close(descriptor)
                raise RunFileError(
                    f"{path}: another flopwatt is writing it: wait for it or choose another -o"
                ) from None
            # A filesystem without locks: exclusive creation still guards new files.
        return cls(path, descriptor)

    def append(self, data: bytes) -> str | None:
        """As `write`, to where the file can be found; what had become of it meanwhile, None for nothing.

        Raises WritingStopped, and leaves the file as it was, where that cannot be done.
        """
        remark = self._follow()
        try:
            self.write(data)
        except OSError as error:
            raise self._stopped(plain(error), REMEDIES.get(error.errno or 0, "make it writable")) from None
        return remark

    def write(self, data: bytes) -> None:
        """Adds all of `data` and waits until it is on disk. Raises OSError, and then leaves the file as it was."""
        start, written = self._size, 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
            os.fsync(self._descriptor)
        except BaseException as error:
            if isinstance(error, OSError) or written < len(data):  # the latter: Ctrl-C between two parts of it
                self._cut(start)
                written = 0
            raise
        finally:
            self._size = start + written

    def cut_after_last_newline(self) -> int:
        """Cuts off what follows the last newline; the bytes removed. Raises OSError."""
        position = self._size
        while position:
            start = max(0, position - CHUNK)
            newline = os.pread(self._descriptor, position - start, start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        removed = self._size - position
        os.ftruncate(self._descriptor, position)
        os.fsync(self._descriptor)
        self._size = position
        return removed

    def ends_in_newline(self) -> bool:
        """Whether nothing, or a newline, is the last of it."""
        return not self._size or os.pread(self._descriptor, 1, self._size - 1) == b"\n"

    def sync_name(self) -> None:
        """Makes the name itself durable."""
        sync_folder(self.path)

    def close(self) -> None:
        """Lets the file go, with its lock."""
        os.close(self._descriptor)

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError:
            return  # what is torn at the end is left out when the file is read, and cut off when it is resumed

    def _stopped(self, what: str, remedy: str) -> WritingStopped:
        return WritingStopped(
            f"{self.path}: {what}: measuring stopped, what was measured before is kept; "
            f"{remedy}, then continue with: flopwatt run --resume {self.path}"
        )

    def _follow(self) -> str | None:
        """Sees to it that the next piece lands where it can be found; what was done about that."""
        ours = os.fstat(self._descriptor)
        if ours.st_size != self._size:
            raise self._changed(ours.st_size)
        try:
            named = os.stat(self.path)
        except FileNotFoundError:
            named = None
        except OSError:
            return None  # a folder that may no longer be searched: nothing can be told, nor done
        if named is not None and os.path.samestat(named, ours):
            return None
        if ours.st_nlink:
            return self._follow_rename(ours)
        return self._write_anew(named is None)

    def _changed(self, size: int) -> WritingStopped:
        if size < self._size:
            lost = f"{self._size - size} bytes of what was measured are gone"
            return WritingStopped(f"{self.path}: another program cut it while measuring: {lost}; start a new run")
        return self._stopped(
            "another program wrote into it while measuring", "delete the lines that are not flopwatt's"
        )

    def _follow_rename(self, ours: os.stat_result) -> str | None:
        now = Path(os.readlink(f"/proc/self/fd/{self._descriptor}"))
        try:
            found = os.path.samestat(os.stat(now), ours)
        except OSError:
            found = False
        if not found:
            return None  # moved out of sight, as out of a container: it still grows there
        before, self.path = self.path, now
        return f"{before} was renamed while measuring: going on in {now}"

    def _write_anew(self, same_name: bool) -> str:
        """Copies the deleted file, which this descriptor alone still holds, to its name, or beside who took that."""
        path = self.path if same_name else self.path.with_name(f"{self.path.stem}-kept{self.path.suffix}")
        try:
            copy = self.create(path)
        except OSError as error:
            raise WritingStopped(
                f"{self.path} was deleted while measuring and cannot be written anew: {path}: {plain(error)}; "
                "start a new run elsewhere"
            ) from None
        try:
            for start in range(0, self._size, CHUNK):
                copy.write(os.pread(self._descriptor, min(CHUNK, self._size - start), start))
            copy.sync_name()
        except BaseException as error:
            copy.close()
            path.unlink(missing_ok=True)
            if not isinstance(error, OSError):
                raise
            raise WritingStopped(
                f"{self.path} was deleted while measuring and cannot be written anew: {plain(error)}; "
                "start a new run elsewhere"
            ) from None
        before = self.path
        os.close(self._descriptor)
        self.path, self._descriptor = path, copy._descriptor
        return f"{before} was deleted while measuring: written anew as {path}"


def sync_folder(path: Path) -> None:
    """Makes the name of a file durable. Raises OSError."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return  # a folder that may be written but not opened: the file's content is durable all the same
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
