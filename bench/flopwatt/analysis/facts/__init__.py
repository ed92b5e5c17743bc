"""Published figures that prices and claims rest on, as tables with a source and a confidence in every row.

Figures of GPUs (peaks, limits, bandwidths) are in `flopwatt.runs.gpus`.
"""

from flopwatt.analysis.facts.loading import quantity, read
from flopwatt.analysis.facts.tables import (
    Fact,
    GpuLaunch,
    PublishedGemm,
    Quantity,
    Rent,
    Throughput,
    TrainingCompute,
    TrainingRun,
)

__all__ = [
    "Fact",
    "GpuLaunch",
    "PublishedGemm",
    "Quantity",
    "Rent",
    "Throughput",
    "TrainingCompute",
    "TrainingRun",
    "quantity",
    "read",
]
