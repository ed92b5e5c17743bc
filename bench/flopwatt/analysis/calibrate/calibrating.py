"""From run files to a calibration: which rows count, what machine they are from, and whether the fit may be written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flopwatt.analysis.calibrate.chip import Chip, chip_of
from flopwatt.analysis.calibrate.fitting import fit, unmeasured
from flopwatt.analysis.calibrate.points import LAYOUT_CODES, Points, make_shapes
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.calibrate.records import CalibrationFile, Fitted, Source
from flopwatt.analysis.calibrate.residual import Prior, lender
from flopwatt.errors import CalibrationRefused, InputError
from flopwatt.runs import gpus, store, tidy
from gemmkernels.problem import DTYPES

if TYPE_CHECKING:
    import pandas as pd

_CHOICES: Final = ("gpu", "backend", "regime", "inputs", "cache", "origin")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rows to calibrate on, where files hold several kinds; None takes the only one there is."""

    backend: str | None = None
    regime: str | None = None
    inputs: str | None = None


def calibrate(
    paths: Sequence[Path], wanted: Wanted, version: str, priors: Sequence[Calibration] = ()
) -> CalibrationFile:
    """The calibration of what these run files hold, all of one GPU. version: flopwatt's, to be written down.

    Raises InputError where rows are of several kinds and `wanted` chooses none, or none is left; CalibrationRefused
    where shapes held out are predicted worse than by a plain roofline; RunFileError.
    """
    runs = [store.read(path) for path in paths]
    frame = tidy.frame(runs)
    total = len(frame)
    frame = frame[(frame["status"] == "ok") & frame["time_s"].notna() & frame["m"].notna()]
    left_out = {"no time, or a sequence of GEMMs": total - len(frame)}
    for name, value in (("backend", wanted.backend), ("regime", wanted.regime), ("inputs", wanted.inputs)):
        if value is not None:
            frame = frame[frame[name] == value]
    if frame.empty:
        raise InputError("no measured GEMM left to calibrate on: see what the files hold with flopwatt show")
    _check_one_kind(frame)
    segments = [segment for run in runs for segment in run.segments]
    gpu = str(frame["gpu"].iloc[0])
    environment = next(segment.environment for segment in segments if segment.environment.gpu == gpu)
    spec = gpus.find(gpu, environment.memory_bytes, environment.sm_count)
    fitted = []
    for dtype, rows in frame.groupby("dtype", sort=True):
        points = _points(rows, str(dtype), left_out)
        chip, source = _chip(spec, str(dtype), points, environment.sm_count)
        limit = rows["power_limit_w"].dropna()
        idle = rows["idle_power_w"].dropna()
        one = fit(
            points, chip, str(dtype), chip_source=source, priors=_lenders(priors, str(dtype)),
            idle_w=float(idle.min()) if len(idle) else None,
            limit_w=float(limit.max()) if len(limit) else (spec.tdp_w if spec else None),
            cold=bool((rows["cache"] == "rotating").all()),
        )  # fmt: skip
        _refuse_if_worse(one)
        fitted.append(one)
    return CalibrationFile(
        gpu=gpu,
        unvalidated=all(one.errors_time is None for one in fitted),
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        flopwatt=version,
        identity=_identity(segments, frame, spec),
        state=_state(frame),
        sources=tuple(
            Source(
                run_id=run.header.id, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), origin=run.header.origin,
                created=run.header.created, source=run.header.source, licence=run.header.licence,
            )
            for path, run in zip(paths, runs, strict=True)
        ),
        fitted=tuple(fitted),
    )  # fmt: skip


def from_spec_sheet(name: str, version: str) -> CalibrationFile:
    """What published figures alone say of a GPU, marked unvalidated. Raises InputError for one without any."""
    spec = gpus.find(name) or next((one for one in gpus.specs() if one.name.casefold() == name.casefold()), None)
    if spec is None:
        known = ", ".join(one.name for one in gpus.specs())
        raise InputError(f"GPU {name!r}: no published figures: choose one of {known}, or give run files")
    chips = {dtype: chip_of(spec, dtype) for dtype in DTYPES}
    return CalibrationFile(
        gpu=spec.nvml_names[0],
        unvalidated=True,
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        flopwatt=version,
        identity={"form_factor": spec.form_factor},
        fitted=tuple(unmeasured(chip, dtype, spec.source, spec.tdp_w) for dtype, chip in chips.items() if chip),
    )


def _check_one_kind(frame: pd.DataFrame) -> None:
    for name in _CHOICES:
        found = sorted(frame[name].dropna().unique())
        if len(found) > 1:
            remedy = (
                f"choose one with --{name}" if name in ("backend", "regime", "inputs") else "give files of one kind"
            )
            raise InputError(f"the files hold several of {name} ({', '.join(found[:6])}): {remedy}")


def _points(rows: pd.DataFrame, dtype: str, left_out: Mapping[str, int]) -> Points:
    """One point a shape and layout: the geometric mean of its times, the mean of its watts."""
    counts = dict(left_out)
    formats = rows["out_dtype"].fillna("").astype(str) + "/" + rows["scaling"].fillna("").astype(str)
    same = formats == formats.value_counts().idxmax()
    counts["another output format or scaling than most"] = int((~same).sum())
    rows = rows[same]
    refused = rows["power_w"].isna() & (rows["energy_status"].isin(["refused", "unidentified"]))
    for reason, count in rows.loc[refused, "energy_reason"].fillna("no reason").value_counts().items():
        counts[f"watts only: {reason}"] = int(count)
    rows = rows.assign(log=np.log(rows["time_s"].astype(float)))
    keys = ["m", "n", "k", "batch", "layout"]
    grouped = rows.groupby(keys, sort=False).agg(log=("log", "mean"), power_w=("power_w", "mean")).reset_index()
    m, n, k, batch = (grouped[name].to_numpy(dtype=float) for name in keys[:4])
    return Points(
        make_shapes(m, n, k, batch, dtype),
        np.asarray(grouped["layout"].map(LAYOUT_CODES), dtype=float),
        np.asarray(np.exp(grouped["log"].to_numpy(dtype=float))),
        grouped["power_w"].to_numpy(dtype=float, na_value=np.nan),
        {reason: count for reason, count in counts.items() if count},
    )


def _chip(spec: gpus.GpuSpec | None, dtype: str, points: Points, sm_count: int | None) -> tuple[Chip, str]:
    """Published figures, or where there are none, what the points themselves reached."""
    known = chip_of(spec, dtype) if spec else None
    if known is not None and spec is not None:
        return known, spec.source
    fastest = float((points.shapes.flop / points.time_s).max())
    return Chip(
        sm_count=sm_count or 1,
        flop_per_s=fastest / 0.7,
        bytes_per_s=float((points.shapes.bytes / points.time_s).max()) / 0.7,
        l2_bytes=32e6,
        limit_w=spec.tdp_w if spec else 1000.0,
    ), "no published figures: the highest measured rates over 0.7"


def _lenders(priors: Iterable[Calibration], dtype: str) -> list[Prior]:
    lenders = []
    for prior in priors:
        for one in prior.file.fitted:
            if one.dtype == dtype and one.points and not one.time.residual.transfers:
                lenders.append(lender(prior.file.gpu, one))
    return lenders


def _refuse_if_worse(one: Fitted) -> None:
    errors = one.errors_time
    if errors is not None and errors.roofline_mape is not None and errors.mape > errors.roofline_mape:
        raise CalibrationRefused(
            f"{one.dtype}: shapes held out are predicted {errors.mape:.1f} % off, a plain roofline is "
            f"{errors.roofline_mape:.1f} % off: not written; measure more shapes with --suite calibration"
        )


def _identity(segments: Sequence[Any], frame: pd.DataFrame, spec: gpus.GpuSpec | None) -> dict[str, str]:
    facts: dict[str, str] = {}
    if spec is not None:
        facts["form_factor"] = spec.form_factor
    for segment in segments:
        environment = segment.environment
        for name, value in (
            ("board_id", segment.board_id),
            ("vbios", environment.vbios),
            ("driver", environment.driver),
        ):
            if value:
                facts[name] = str(value)
        facts.update({f"version_{name}": version for name, version in environment.versions.items()})
    facts["backend"] = str(frame["backend"].iloc[0])
    return facts


def _state(frame: pd.DataFrame) -> dict[str, str]:
    """How the GPU was while it was measured: words as they are, numbers as their median."""
    state = {name: str(frame[name].iloc[0]) for name in ("regime", "inputs", "cache")}
    for name in ("power_limit_w", "clock_mhz", "temp_c", "throttle_power", "throttle_thermal"):
        known = frame[name].dropna()
        if len(known):
            state[f"median_{name}"] = f"{float(known.median()):.6g}"
    return state
