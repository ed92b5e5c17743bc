"""The share of paid time that trains: failures, restarts, checkpoints, and the rest.

Checkpoints are written as often as is best (Young 1974; Daly 2006: every √(2 · write time · time between failures)).
"""

from __future__ import annotations

import math

from flopwatt.analysis.cost.assumptions import Assumptions
from flopwatt.analysis.cost.spans import Span


def goodput(gpus: int, assumptions: Assumptions) -> Span:
    """The share of time in which `gpus` GPUs train, between 0 and 1."""
    mtbf, checkpoint = assumptions["mtbf_gpu_hours"], assumptions["checkpoint_s"]
    restart, other = assumptions["restart_s"], assumptions["other_goodput"]
    return Span(
        _share(gpus, mtbf.value, checkpoint.value, restart.value) * other.value,
        _share(gpus, mtbf.low, checkpoint.high, restart.high) * other.low,
        _share(gpus, mtbf.high, checkpoint.low, restart.low) * other.high,
    )


def _share(gpus: int, mtbf_gpu_hours: float, checkpoint_s: float, restart_s: float) -> float:
    """Training over all time: between checkpoints, and between failures, each of which loses half an interval."""
    between_s = mtbf_gpu_hours * 3600.0 / gpus
    interval_s = math.sqrt(2.0 * checkpoint_s * between_s)
    writing = interval_s / (interval_s + checkpoint_s) if checkpoint_s else 1.0
    return writing * between_s / (between_s + restart_s + interval_s / 2.0)
