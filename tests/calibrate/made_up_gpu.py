"""A GPU with known laws, as points and as a run file: 100 SMs, 400 TFLOPS, 2 TB/s, tiles of 128, 2 % of noise."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from flopwatt.analysis.calibrate.chip import Chip
from flopwatt.analysis.calibrate.points import Points, make_shapes
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.calibrate.records import CalibrationFile
from flopwatt.runs.records import Case, Environment, Record, RunHeader, Segment, case_id
from flopwatt.runs.samples import AggregateMeasurement
from flopwatt.runs.store import RunWriter, read
from gemmkernels.problem import Problem

CHIP = Chip(sm_count=100, flop_per_s=400e12, bytes_per_s=2e12, l2_bytes=40e6, limit_w=500.0)
GPU = "Made-up 100"
NOISE = 0.02
IDLE_W = 80.0


def wrapped(fitted):
    return Calibration(CalibrationFile(gpu=GPU, created="2026-11-22T00:00:00Z", flopwatt="0.1.0", fitted=(fitted,)))


def true_time(shapes):
    waves = np.ceil(np.ceil(shapes.m / 128) * np.ceil(shapes.n / 128) * shapes.batch / CHIP.sm_count)
    compute = waves * 128 * 128 * 2 * shapes.k / (0.75 * CHIP.flop_per_s / CHIP.sm_count)
    memory = shapes.bytes / (0.85 * CHIP.bytes_per_s)
    return 3e-6 + (compute**3 + memory**3) ** (1 / 3)


def true_power(shapes):
    busy = shapes.flop / true_time(shapes) / (0.75 * CHIP.flop_per_s)
    return np.minimum(IDLE_W + 100 + 300 * busy, CHIP.limit_w)


def points(count, seed=0, noise=NOISE, largest=16384):
    rng = np.random.default_rng(seed)
    m = np.round(2 ** rng.uniform(0, np.log2(largest), count))
    # Few distinct N and K, so that sites hold several shapes, as real tables do.
    n, k = (2.0 ** rng.integers(6, int(np.log2(largest)) + 1, count) for _ in range(2))
    shapes = make_shapes(m, n, k)
    time_s = true_time(shapes) * np.exp(rng.normal(0, noise, count))
    watts = true_power(shapes) * np.exp(rng.normal(0, 0.01, count))
    return Points(shapes, np.zeros(count), time_s, watts)


def write(path: Path, made: Points, gpu: str = GPU, window_s: float | None = 5.0, backends=("torch",)) -> Path:
    header = RunHeader(
        schema=1, id="a" * 32, created="2026-11-22T09:00:00Z", origin="imported", flopwatt="0.1.0",
        source="a made-up GPU", licence="CC0-1.0",
    )  # fmt: skip
    environment = Environment(kind="cuda", gpu=gpu, sm_count=CHIP.sm_count, versions={"torch": "2.11"}, driver="580.1")
    with RunWriter.create(path, header) as writer:
        writer.append(
            Segment(segment=0, started=header.created, environment=environment, board_id="b" * 12, idle_w=IDLE_W)
        )
        for row in range(len(made)):
            sizes = (int(size[row]) for size in (made.shapes.m, made.shapes.n, made.shapes.k))
            case = Case(problem=Problem(*sizes, layout="nt"), backend=backends[row % len(backends)], cache="rotating")
            measurement = AggregateMeasurement(
                time_s=float(made.time_s[row]), power_w=float(made.power_w[row]), window_s=window_s, power_limit_w=500.0
            )
            writer.append(
                Record(
                    id=f"{row:032x}",
                    case_id=case_id(case),
                    segment=0,
                    origin="imported",
                    started=header.created,
                    case=case,
                    status="ok",
                    energy_status="ok",
                    measurement=measurement,
                )
            )
    return path


def changed(path, header=None, environment=None, record=None):
    """The run file again with fields of its lines changed. record: from a record, and its place, to the new one."""
    run = read(path)
    replace = msgspec.structs.replace
    path.unlink()
    with RunWriter.create(path, replace(run.header, **(header or {}))) as writer:
        for segment in run.segments:
            writer.append(replace(segment, environment=replace(segment.environment, **(environment or {}))))
        for place, one in enumerate(run.records):
            writer.append(record(one, place) if record else one)
    return path
