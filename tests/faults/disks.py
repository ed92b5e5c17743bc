"""Disks that are full, read-only or failing, for the tests of this folder."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("failing_disk.c")


def build_failing_disk(folder: Path) -> Path:
    """Compiles failing_disk.c; the library to preload."""
    compiler = os.environ.get("CC") or shutil.which("cc")
    assert compiler, "a disk that fails needs a C compiler: install gcc (or set CC)"
    library = folder / "failing_disk.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-o", str(library), str(SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"failing_disk.c does not compile:\n{done.stderr}"
    return library


def failing(library: Path, call: str, code: int, after: int, *, no_way_back: bool = False) -> dict[str, str]:
    """Variables under which `call` on a run file fails with errno `code`, once it has succeeded `after` times."""
    variables = {
        "LD_PRELOAD": str(library),
        "FAILING_CALL": call,
        "FAILING_ERRNO": str(code),
        "FAILING_AFTER": str(after),
    }
    return {**variables, "FAILING_FTRUNCATE": "1"} if no_way_back else variables


def mount(folder: Path, options: str) -> None:
    """Mounts a filesystem in memory, or skips the test where this user or container may not."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a filesystem needs root; failing_disk.c stands in for it")
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no filesystem can be mounted here ({done.stderr.strip()}); failing_disk.c stands in for it")


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


@contextmanager
def small_disk(folder: Path, kib: int) -> Iterator[Path]:
    """A real filesystem of so many KiB; `remount` makes room on it."""
    mount(folder, f"size={kib}k")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[Path]:
    """Makes an existing folder of files read-only: by its modes, or, for root, by a filesystem that is."""
    if os.geteuid() != 0:
        modes = {path: path.stat().st_mode for path in (folder, *folder.iterdir())}
        for path in modes:
            path.chmod(0o500 if path.is_dir() else 0o400)
        try:
            yield folder
        finally:
            for path, mode in modes.items():
                path.chmod(mode)
        return
    mounted = folder.with_name(folder.name + "-mounted")
    mount(mounted, "size=16m")
    try:
        for path in folder.iterdir():
            shutil.copy(path, mounted / path.name)
        remount(mounted, "ro")
        yield mounted
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


FULL = {
    "full disk": (errno.ENOSPC, "no space left on device", "free some space"),
    "quota": (errno.EDQUOT, "disk quota exceeded", "free some of your quota"),
    "dying device": (errno.EIO, "input/output error", "copy it to another disk"),
    "gone read-only": (errno.EROFS, "read-only file system", "make its filesystem writable"),
}
"""What happens → its errno, what the system calls it, and the remedy that is named."""
