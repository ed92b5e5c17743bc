"""What a row of each table of facts holds."""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One published figure.

    confidence: `checked` against `source`, or `unverified`, which whoever shows it has to say.
    """

    source: str
    confidence: Literal["checked", "unverified"]


class TrainingRun(Fact, frozen=True, kw_only=True):
    """One published training run; what nobody published is None.

    params_b, active_params_b, tokens_b: in 10⁹; active are those that one token passes through. gpu: of gpus.toml.
    mfu_low, mfu_high: model FLOPs utilisation as reported. energy_basis: `tdp` (GPU-hours × board power) or
    `estimated`; nobody published a measured one. tco2: market- or location-based as its source has it.
    """

    model: str
    params_b: float
    active_params_b: float
    tokens_b: float
    gpu: str
    gpu_count: int | None = None
    gpu_hours: float | None = None
    mfu_low: float | None = None
    mfu_high: float | None = None
    energy_mwh: float | None = None
    energy_basis: Literal["tdp", "estimated"] | None = None
    tco2: float | None = None
    usd: float | None = None


class Throughput(Fact, frozen=True, kw_only=True):
    """Model TFLOPS per GPU of one training configuration, as published.

    model_b: parameters in 10⁹. gpu: of gpus.toml.
    """

    framework: str
    model_b: float
    gpu: str
    gpu_count: int | None = None
    dtype: str
    tflops_per_gpu: float


class PublishedGemm(Fact, frozen=True, kw_only=True):
    """One GEMM's speed, maybe its power, as somebody published it.

    gpu: an entry of gpus.toml, or how its name begins where the memory size is not told. shape: MxNxK. regime, inputs:
    in the source's terms. note: what weakens the figure.
    """

    gpu: str
    power_limit_w: float
    dtype: str
    shape: str | None = None
    tflops: float
    power_w: float | None = None
    regime: str | None = None
    inputs: str | None = None
    note: str | None = None


class Quantity(Fact, frozen=True, kw_only=True):
    """One named figure. low, high: its published spread, of whatever kind its source says; None where there is none."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    unit: str = ""


class TrainingCompute(Fact, frozen=True, kw_only=True):
    """What training one model took, in FLOP, and the day it was published."""

    model: str
    published: date
    flop: float


class GpuLaunch(Fact, frozen=True, kw_only=True):
    """The day a generation of GPUs was announced."""

    family: str
    announced: date


class Rent(Fact, frozen=True, kw_only=True):
    """What one hour of one GPU cost somewhere, in US dollars. gpu: of gpus.toml."""

    gpu: str
    usd_per_hour: float
