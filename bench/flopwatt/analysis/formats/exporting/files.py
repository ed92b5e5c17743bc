"""Writing an export: a file with its sidecar beside it, or a folder with the sidecar in it, whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from flopwatt.errors import InputError

SIDECAR: Final = "conditions.json"


def sidecar_of(path: Path, files: Mapping[str, bytes]) -> Path:
    """Where the conditions of an export to `path` lie."""
    return path.with_name(f"{path.name}.{SIDECAR}") if "" in files else path / SIDECAR


def check_free(path: Path) -> None:
    """Raises InputError where `path`, or its sidecar, cannot be made anew. Creates nothing."""
    if path.name in ("", ".."):
        raise InputError(f"{path} is a folder that there is: name a file or folder to make in it with -o")
    try:
        beside = path.with_name(f"{path.name}.{SIDECAR}")
        taken = next((one for one in (path, beside) if one.is_symlink() or one.exists()), None)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {_plain(error)}: choose another -o") from None
    if taken is not None:
        raise InputError(f"{taken} exists: choose another name for -o")
    if not path.parent.is_dir():
        raise InputError(f"{path}: the folder {path.parent} does not exist: create it, or choose another -o")


def write(path: Path, files: Mapping[str, bytes], conditions: bytes) -> None:
    """Writes an export under `path`. files: by relative path, or a single one under "". Raises InputError."""
    check_free(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside = sidecar_of(path, files)
    try:
        if "" in files:
            beside.write_bytes(conditions)
            part.write_bytes(files[""])
        else:
            for name, content in {**files, SIDECAR: conditions}.items():
                target = part / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content)
        part.rename(path)
    except OSError as error:
        _remove(part)
        if "" in files:
            beside.unlink(missing_ok=True)
        raise InputError(f"{path}: {_plain(error)}: nothing was written; choose another -o") from None


def _remove(part: Path) -> None:
    if part.is_dir():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)


def _plain(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()
