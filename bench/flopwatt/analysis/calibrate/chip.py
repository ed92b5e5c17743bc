"""What a prediction has to know of a GPU beforehand, in one number format: SMs, dense peak, bandwidth, L2, limit."""

from __future__ import annotations

from typing import Annotated

import msgspec

from flopwatt.runs import gpus
from flopwatt.runs.frozen import Frozen

FlopPerS = Annotated[float, msgspec.Meta(ge=1e6, le=1e21)]
BytesPerS = Annotated[float, msgspec.Meta(ge=1e6, le=1e16)]
Bytes = Annotated[float, msgspec.Meta(ge=1, le=1e13)]
Watts = Annotated[float, msgspec.Meta(ge=1e-3, le=1e6)]


class Chip(Frozen, frozen=True, kw_only=True):
    """One GPU in one number format.

    flop_per_s: dense peak at the highest clock, which no kernel passes. bytes_per_s: of DRAM. l2_bytes: of the last
    cache. limit_w: published, or 1,000 W where nothing is.
    """

    sm_count: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    flop_per_s: FlopPerS
    bytes_per_s: BytesPerS
    l2_bytes: Bytes
    limit_w: Watts


def chip_of(spec: gpus.GpuSpec, dtype: str) -> Chip | None:
    """The chip that a published entry describes; None where it has no dense peak for `dtype`."""
    peak = spec.peak_flop_per_s(dtype)
    if peak is None:
        return None
    fastest = spec.peak_at_clock(dtype, spec.max_clock_hz) if spec.max_clock_hz else None
    return Chip(
        sm_count=spec.sm_count,
        flop_per_s=max(peak, fastest or 0.0),
        bytes_per_s=spec.mem_bytes_per_s,
        l2_bytes=spec.l2_bytes,
        limit_w=spec.tdp_w,
    )
