"""What is published of each GPU: dense peaks, clocks, power, bandwidth and memory, with the source of every entry.

The data lie in gpus.toml beside this module. A GPU is found by the exact name its driver reports, so that a part not
listed there (a PCIe sibling, a laptop or export variant, a MIG slice) never gets another chip's peak.
"""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files
from typing import Final, Literal

import msgspec

_VENDOR_PREFIXES: Final = ("nvidia ", "tesla ", "geforce ")

_MEMORY_LEAST, _MEMORY_MOST = 0.90, 1.02
"""What a driver reports of the nominal memory: ECC and firmware take up to 7 % of it."""


class GpuSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One GPU as its maker publishes it. Peaks are dense, without 2:4 sparsity.

    name: the entry's own. nvml_names: names its driver reports. arch: the CUDA architecture, `sm_90`.
    peak: FLOP/s by dtype at the clock of the datasheet, which for tensor cores may lie below max_clock_hz; `fp32` is
    without tensor cores. flop_per_clock_per_sm: FLOP by dtype, with fp32 accumulation where a part offers both.
    tdp_w: power of the board at its default limit. memory_bytes: nominal. confidence: `checked` against `source`, or
    `unverified`, which whoever shows the figure has to say.
    """

    name: str
    nvml_names: tuple[str, ...]
    arch: str
    form_factor: str
    sm_count: int
    max_clock_hz: float | None = None
    tdp_w: float
    memory_bytes: int
    mem_bytes_per_s: float
    l2_bytes: int
    peak: dict[str, float]
    flop_per_clock_per_sm: dict[str, int]
    source: str
    confidence: Literal["checked", "unverified"]

    def peak_flop_per_s(self, dtype: str) -> float | None:
        """The published dense peak in FLOP/s; None where the GPU has none for `dtype`."""
        return self.peak.get(_published(dtype))

    def peak_at_clock(self, dtype: str, clock_hz: float) -> float | None:
        """The dense peak in FLOP/s at `clock_hz`: SMs × FLOP per clock per SM × clock; None as for the peak."""
        flop_per_clock = self.flop_per_clock_per_sm.get(_published(dtype))
        return None if flop_per_clock is None else self.sm_count * flop_per_clock * clock_hz


@cache
def find(nvml_name: str, memory_bytes: int | None = None, sm_count: int | None = None) -> GpuSpec | None:
    """The entry whose driver name is exactly `nvml_name`; None for any other GPU.

    Case, spacing and the prefixes NVIDIA, Tesla and GeForce, which changed between drivers, do not matter.
    memory_bytes, sm_count: as the driver reports them; an entry they contradict is not returned.
    """
    wanted = _plain(nvml_name)
    for spec in specs():
        if wanted not in map(_plain, spec.nvml_names):
            continue
        if sm_count is not None and sm_count != spec.sm_count:
            continue
        if memory_bytes is not None and not _MEMORY_LEAST <= memory_bytes / spec.memory_bytes <= _MEMORY_MOST:
            continue
        return spec
    return None


def named(name: str) -> GpuSpec | None:
    """The entry that goes by this name, its own or its driver's; None where there is none."""
    return find(name) or next((spec for spec in specs() if spec.name.casefold() == name.casefold()), None)


@cache
def specs() -> tuple[GpuSpec, ...]:
    """Every GPU there are published figures for."""
    raw = tomllib.loads((files("flopwatt.runs") / "gpus.toml").read_text(encoding="utf-8"))
    return msgspec.convert(raw["gpu"], tuple[GpuSpec, ...])


def _published(dtype: str) -> str:
    return "fp8" if dtype in ("fp8_e4m3", "fp8_e5m2") else dtype


def _plain(name: str) -> str:
    plain = " ".join(name.lower().split())
    for prefix in _VENDOR_PREFIXES:
        plain = plain.removeprefix(prefix)
    return plain
