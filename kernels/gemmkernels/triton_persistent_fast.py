"""Backend `triton-persistent-fast`: `triton-persistent` with fp8 sums left in the tensor cores.

No configuration of `triton-persistent`, since on Hopper it computes something else, sums of fewer bits: to be
compared with `torch-fp8-fast`. It has 128x256 tiles, which promotion leaves no registers for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gemmkernels import triton_persistent
from gemmkernels.backend import Config, Device
from gemmkernels.problem import Problem
from gemmkernels.triton_call import fast_refusal

SUMMARY = "Triton, one program an SM, fp8 with fast accumulation: fewer bits in Hopper's partial sums"


def supports(problem: Problem, device: Device) -> str | None:
    """Why not, in one line; None when it can."""
    return fast_refusal(problem, "triton-persistent") or triton_persistent.supports(problem, device)


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    """Tiles as for 16-bit formats."""
    return triton_persistent.configs(problem, device, fast_accumulation=True)


calls: Final = triton_persistent.calls
prepare: Final = triton_persistent.prepare
