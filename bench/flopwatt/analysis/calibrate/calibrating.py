"""From run files to a calibration: which rows count, and whether the fit may be written."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from flopwatt.analysis.calibrate import provenance
from flopwatt.analysis.calibrate.chip import Chip, chip_of
from flopwatt.analysis.calibrate.fitting import fit, unmeasured
from flopwatt.analysis.calibrate.points import LAYOUT_CODES, Points, make_shapes
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.calibrate.records import CalibrationFile, Fitted, Identity, Source
from flopwatt.analysis.calibrate.residual import Prior, lender
from flopwatt.analysis.calibrate.unmetered import with_watts
from flopwatt.errors import CalibrationRefused, InputError
from flopwatt.runs import gpus, store, tidy
from flopwatt.runs.records import TIMED
from flopwatt.runs.store import RunFile
from gemmkernels.problem import DTYPES

if TYPE_CHECKING:
    import pandas as pd

_CHOICES: Final = ("gpu", "backend", "regime", "inputs", "cache", "origin")
_OPTIONS: Final = ("backend", "regime", "inputs")
LeftOut = dict[str, Counter[str]]
"""By number format, why rows were left out, and how many."""

_OF_A_USE: Final = ("suite", "role", "phase", "count", "headline")
"""Columns in which a record's rows differ: one measurement that three suites use is one measurement."""

_FIGURES: Final = re.compile(r"\d[\d.,]*")


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

    priors: calibrations of other GPUs, which help where points are few. Raises InputError where rows are of several
    kinds and `wanted` chooses none, or none is left; CalibrationRefused where shapes held out are predicted worse than
    by a plain roofline; RunFileError.
    """
    from threadpoolctl import threadpool_limits

    runs = [store.read(path) for path in paths]
    frame, left_out = _usable(tidy.frame(runs), wanted)
    _check_priors(priors, str(frame["origin"].iloc[0]))
    gpu = str(frame["gpu"].iloc[0])
    segments = [segment for run in runs for segment in run.segments if segment.environment.gpu == gpu]
    environment = segments[0].environment
    spec = gpus.find(gpu, environment.memory_bytes, environment.sm_count)
    layers = _layers(runs)
    with threadpool_limits(limits=1):  # small matrices: on a busy machine threads that wait made it seven times slower
        fitted = [
            msgspec.structs.replace(
                _fitted(rows, str(dtype), spec, environment.sm_count, priors, left_out[str(dtype)]),
                kind="layer" if dtype in layers else None,
            )
            for dtype, rows in frame.groupby("dtype", sort=True)
        ]
    return CalibrationFile(
        gpu=gpu,
        origin=frame["origin"].iloc[0],
        unvalidated=all(one.errors_time is None for one in fitted),
        created=_now(),
        flopwatt=version,
        commit=provenance.commit(),
        identity=provenance.identity(segments, frame, spec),
        state=provenance.state(frame),
        sources=(*map(provenance.source, paths, runs), *_taught(priors, fitted)),
        fitted=tuple(fitted),
    )


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
        created=_now(),
        flopwatt=version,
        commit=provenance.commit(),
        identity=Identity(form_factor=spec.form_factor),
        fitted=tuple(
            with_watts(unmeasured(chip, dtype, _published(spec), spec.tdp_w)) for dtype, chip in chips.items() if chip
        ),
    )


def _layers(runs: Sequence[RunFile]) -> frozenset[str]:
    """Formats whose times hold more than the GEMM, as those of imported tables may."""
    timed = (one.case.problem for run in runs for one in run.records if TIMED in one.settings)
    return frozenset(problem.dtype for problem in timed if problem is not None)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _usable(frame: pd.DataFrame, wanted: Wanted) -> tuple[pd.DataFrame, LeftOut]:
    """The rows of one kind that have a time, each measurement once, and why how many others were left out."""
    counts: LeftOut = defaultdict(Counter)
    frame = frame.drop_duplicates([name for name in frame.columns if name not in _OF_A_USE])
    frame = _kept(frame, frame["status"] == "ok", "failed or skipped", counts)
    frame = _kept(frame, frame["m"].notna(), "a sequence of GEMMs", counts)
    frame = _kept(frame, frame["gpu"].notna(), "of a machine that the file does not describe", counts)
    frame = _kept(frame, frame["time_s"].notna(), "without a time", counts)
    for name in _OPTIONS:
        value = getattr(wanted, name)
        if value is not None:
            frame = _kept(frame, frame[name] == value, f"of another {name} than {value}", counts)
    if frame.empty:
        raise InputError("no measured GEMM left to calibrate on: see what the files hold with flopwatt show")
    for name in _CHOICES:
        found = sorted(frame[name].dropna().unique())
        if len(found) > 1:
            remedy = f"choose one with --{name}" if name in _OPTIONS else "give files of one kind"
            raise InputError(f"the files hold several of {name} ({', '.join(found[:6])}): {remedy}")
    return frame, counts


def _kept(frame: pd.DataFrame, good: pd.Series[bool], why: str, counts: LeftOut) -> pd.DataFrame:
    for dtype, count in frame.loc[~good, "dtype"].value_counts().items():
        counts[str(dtype)][why] += int(count)
    return frame[good]


def _check_priors(priors: Sequence[Calibration], origin: str) -> None:
    for prior in priors:
        if (prior.file.origin == "simulated") != (origin == "simulated"):
            raise InputError(
                f"--prior {prior.file.gpu}: {prior.file.origin or 'published'} figures and {origin} ones do not mix: "
                "simulated GPUs learn from simulated ones alone"
            )


def _fitted(
    rows: pd.DataFrame,
    dtype: str,
    spec: gpus.GpuSpec | None,
    sm_count: int | None,
    priors: Sequence[Calibration],
    left_out: Mapping[str, int],
) -> Fitted:
    """What one number format's rows give. Raises CalibrationRefused."""
    points = _points(rows, dtype, left_out)
    chip, source = _chip(spec, dtype, points, sm_count)
    limit = rows["power_limit_w"].dropna()
    idle = rows["idle_power_w"].dropna()
    one = fit(
        points,
        chip,
        dtype,
        chip_source=source,
        priors=_lenders(priors, dtype),
        idle_w=float(idle.min()) if len(idle) else None,
        limit_w=float(limit.max()) if len(limit) else (spec.tdp_w if spec else None),
        cold=bool((rows["cache"] == "rotating").all()),
    )
    _refuse_if_worse(one)
    return with_watts(one)


def _points(rows: pd.DataFrame, dtype: str, left_out: Mapping[str, int]) -> Points:
    """One point a shape and layout: the geometric mean of its times, the mean of its watts."""
    counts = dict(left_out)
    formats = rows["out_dtype"].fillna("").astype(str) + "/" + rows["scaling"].fillna("").astype(str)
    same = formats == formats.value_counts().idxmax()
    counts["another output format or scaling than most"] = int((~same).sum())
    rows = rows[same]
    counts.update(_without_watts(rows))
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


def _without_watts(rows: pd.DataFrame) -> dict[str, int]:
    """Why watts were refused, and how often; reasons that differ by their figures alone are one."""
    refused = rows["power_w"].isna() & rows["energy_status"].isin(["refused", "unidentified"])
    reasons = rows.loc[refused, "energy_reason"].fillna("no reason")
    alike = reasons.str.replace(_FIGURES, "…", regex=True)
    return {
        f"watts only: {same.iloc[0] if same.nunique() == 1 else kind}": len(same)
        for kind, same in reasons.groupby(alike, sort=False)
    }


def _chip(spec: gpus.GpuSpec | None, dtype: str, points: Points, sm_count: int | None) -> tuple[Chip, str]:
    """Published figures, or where there are none, what the points themselves reached."""
    known = chip_of(spec, dtype) if spec else None
    if known is not None and spec is not None:
        return known, _published(spec)
    fastest = float((points.shapes.flop / points.time_s).max())
    return Chip(
        sm_count=sm_count or 1,
        flop_per_s=fastest / 0.7,
        bytes_per_s=float((points.shapes.bytes / points.time_s).max()) / 0.7,
        l2_bytes=32e6,
        limit_w=spec.tdp_w if spec else 1000.0,
    ), "no published figures: the highest measured rates over 0.7"


def _published(spec: gpus.GpuSpec) -> str:
    return spec.source if spec.confidence == "checked" else f"{spec.source} (unverified)"


def _taught(priors: Sequence[Calibration], fitted: Sequence[Fitted]) -> list[Source]:
    """The files behind those priors that a fit kept."""
    kept = {lent.gpu for one in fitted for lent in one.time.residual.transfers}
    return [
        msgspec.structs.replace(source, prior=True)
        for prior in priors
        if prior.file.gpu in kept
        for source in prior.file.sources
    ]


def _lenders(priors: Sequence[Calibration], dtype: str) -> list[Prior]:
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
