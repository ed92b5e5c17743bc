"""Where a calibration is from: files and their licences, board and software, how it was run, and by what code."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flopwatt.analysis.calibrate.records import Identity, Source, Spread, State
from flopwatt.runs import gpus
from flopwatt.runs.records import Segment
from flopwatt.runs.store import RunFile
from flopwatt.text import printable

if TYPE_CHECKING:
    import pandas as pd

_GIT_S: Final = 5.0


def commit() -> str | None:
    """The commit of the checkout that this flopwatt runs from, `-dirty` with changes; None for an installed one."""
    root = Path(__file__).resolve().parents[4]
    if not (root / ".git").exists():
        return None
    describe = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        said = subprocess.run(describe, capture_output=True, text=True, timeout=_GIT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or a checkout of another user that it refuses to read
    return said.stdout.strip() or None


def source(path: Path, run: RunFile) -> Source:
    """What is to be told of a run file."""
    return Source(
        file=printable(path.name),
        run_id=run.header.id,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        origin=run.header.origin,
        created=run.header.created,
        gpu=", ".join(_distinct(segment.environment.gpu for segment in run.segments)),
        source=run.header.source,
        licence=run.header.licence,
    )


def identity(segments: Sequence[Segment], frame: pd.DataFrame, spec: gpus.GpuSpec | None) -> Identity:
    """Board and software of the segments, kernels of the rows."""
    environments = [segment.environment for segment in segments]
    names = sorted({name for environment in environments for name in environment.versions})
    versions = {name: _distinct(environment.versions.get(name) for environment in environments) for name in names}
    return Identity(
        form_factor=spec.form_factor if spec else None,
        boards=_distinct(segment.board_id for segment in segments),
        vbios=_distinct(environment.vbios for environment in environments),
        driver=_distinct(environment.driver for environment in environments),
        cuda=versions.pop("cuda", ()),
        frameworks=versions,
        kernels=_distinct(frame["backend"]),
    )


def state(frame: pd.DataFrame) -> State:
    """Regime, inputs and cache, which the rows have in common, and what was read of the board beside them."""
    return State(
        regime=str(frame["regime"].iloc[0]),
        inputs=str(frame["inputs"].iloc[0]),
        cache=str(frame["cache"].iloc[0]),
        power_limit_w=_spread(frame["power_limit_w"]),
        clock_hz=_spread(frame["clock_mhz"], 1e6),
        temp_c=_spread(frame["temp_c"]),
        throttle_power=_spread(frame["throttle_power"]),
        throttle_thermal=_spread(frame["throttle_thermal"]),
    )


def _spread(values: pd.Series[float], unit: float = 1.0) -> Spread | None:
    known = values.dropna()
    if known.empty:
        return None
    low, median, high = (float(f"{value * unit:.6g}") for value in (known.min(), known.median(), known.max()))
    return Spread(low=low, median=median, high=high, count=len(known))


def _distinct(values: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(value) for value in values if value))
