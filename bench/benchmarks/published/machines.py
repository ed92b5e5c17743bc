"""The A100 and the H100 as public GEMM tables calibrate them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flopwatt.analysis.calibrate import calibrating
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.cost.machine import Machine, machine

TABLES: Final = {
    "A100": "results/imported/a100-sxm4-80gb/trtllm.jsonl",
    "H100": "results/imported/h100-sxm5-80gb/trtllm.jsonl",
}
_CHECKOUT: Final = Path(__file__).resolve().parents[3]


def calibrated() -> dict[str, Machine]:
    """Both, fitted now: most of a minute of CPU."""
    wanted = calibrating.Wanted()
    return {
        name: machine(Calibration(calibrating.calibrate([_CHECKOUT / table], wanted, "bench")))
        for name, table in TABLES.items()
    }
