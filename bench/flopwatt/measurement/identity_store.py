"""Identified sensors, remembered from run to run: one small JSON file a board and driver, in the user's cache folder.

A file that is missing, damaged, of another format or of another sensor is as good as none: a run never fails for it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from flopwatt.runs.identification import UNIDENTIFIED
from flopwatt.runs.records import SensorIdentity

FORMAT: Final = 1
"""Of these files, and of the method behind them: what an older method told is told anew. History: 1, the first."""

LEAST_S: Final = 1e-4
MOST_S: Final = 10.0
"""Bounds of a sensor's periods and windows: known ones lie between a millisecond and a second."""


class _Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What a file holds. version: as in `Rig.sensor_version`."""

    format: int
    board_id: str
    version: str
    identity: SensorIdentity


def recall(board_id: str | None, version: str | None, source: str) -> SensorIdentity | None:
    """The stored identity of this board's sensor under this driver, if there is one that can be read."""
    if board_id is None or version is None:
        return None
    try:
        stored = msgspec.json.decode(_path(board_id, version).read_bytes(), type=_Stored)
    # RuntimeError: a user without a home; ValueError: bytes that are not UTF-8.
    except (OSError, RuntimeError, ValueError, msgspec.MsgspecError):
        return None
    if not _plausible(stored.identity):
        return None
    same = (stored.format, stored.board_id, stored.version) == (FORMAT, board_id, version)
    return stored.identity if same and stored.identity.source == source else None


def _plausible(identity: SensorIdentity) -> bool:
    """Whether no figure is one that would hold a load for ever, or for no time: a damaged file is as good as none."""
    times = (identity.update_period_s, identity.counter_tick_s, identity.window_s, identity.average_window_s)
    return all(time_s is None or LEAST_S <= time_s <= MOST_S for time_s in times)


def remember(board_id: str | None, version: str | None, identity: SensorIdentity) -> str | None:
    """Stores an identity, whole or not at all; why not, None where it is stored."""
    if identity.method == UNIDENTIFIED:
        return "nothing was identified"
    if board_id is None or version is None:
        return "this device has no UUID or its driver no version"
    stored = _Stored(format=FORMAT, board_id=board_id, version=version, identity=identity)
    try:
        path = _path(board_id, version)
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=path.stem, delete=False) as file:
            file.write(msgspec.json.format(msgspec.json.encode(stored)))
        os.replace(file.name, path)
    except (OSError, RuntimeError) as error:
        return f"{error}: set XDG_CACHE_HOME to a folder that can be written"
    return None


def _path(board_id: str, version: str) -> Path:
    chosen = Path(os.environ.get("XDG_CACHE_HOME", ""))
    cache = chosen if chosen.is_absolute() else Path.home() / ".cache"
    return cache / "flopwatt" / "sensors" / f"{board_id}-{hashlib.sha256(version.encode()).hexdigest()[:12]}.json"
