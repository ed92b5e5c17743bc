"""What a fleet costs to gather and compare: 100, 300 and 1,000 simulated GPUs in nodes of ten, on Ray on this machine.

The driver, and the analysis of its folder, stay below 1 GB, and what a GPU takes grows no more than by half from the
first hundreds to the last. Each GPU measures two GEMMs in virtual time.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

SIZES = (100, 300, 1000)
PER_NODE = 10
SHAPES = ("4096x4096x4096", "8192x8192x8192")
MEMORY_MOST_MB = 1000
GROWTH_MOST = 1.5


class Cost(NamedTuple):
    """Seconds by the clock, and the largest memory of the process or of one that it started."""

    seconds: float
    memory_mb: float


def main() -> int:
    """Prints the table; 1 where a GPU is not accounted for, or a target is missed."""
    if importlib.util.find_spec("ray") is None:
        print("Ray is not installed: pip install 'flopwatt[fleet]'")
        return 0
    print(f"{'GPUs':>5} {'nodes':>6} {'run s':>7} {'ms/GPU':>7} {'run MB':>7} {'report s':>9} {'report MB':>10}")
    runs, reports, good = [], [], True
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            ran, reported, done = measured(size, Path(folder) / "fleet")
        runs.append(ran)
        reports.append(reported)
        per_gpu_ms = ran.seconds / size * 1e3
        print(
            f"{size:>5} {size // PER_NODE:>6} {ran.seconds:>7.1f} {per_gpu_ms:>7.0f} {ran.memory_mb:>7.0f} "
            f"{reported.seconds:>9.1f} {reported.memory_mb:>10.0f}",
            flush=True,
        )
        good &= done == size
    most_mb = max(cost.memory_mb for cost in (*runs, *reports))
    growths = [growth([cost.seconds for cost in costs]) for costs in (runs, reports)]
    print(f"largest memory: {most_mb:.0f} MB, target {MEMORY_MOST_MB} MB")
    print(f"a GPU more, late over early: run {growths[0]:.2f}, report {growths[1]:.2f}, target {GROWTH_MOST}")
    return 0 if good and most_mb < MEMORY_MOST_MB and max(growths) < GROWTH_MOST else 1


def measured(size: int, folder: Path) -> tuple[Cost, Cost, int]:
    """A run and a report of so many GPUs, and how many of them were measured whole."""
    shapes = [word for shape in SHAPES for word in ("--shape", shape)]
    gpus = f"{size // PER_NODE}x{PER_NODE}"
    ran = flopwatt("fleet", "run", "--simulate", "h100", "--gpus", gpus, *shapes, "--processes", "1", "-o", folder)
    reported = flopwatt("fleet", "report", folder, "-o", folder / "report.html")
    return ran, reported, sum(path.stat().st_size > 0 for path in folder.glob("*.jsonl"))


def growth(seconds: list[float]) -> float:
    """Seconds of one GPU more among the last, over those among the first."""
    (low, middle, high), (a, b, c) = SIZES, seconds
    return (c - b) / (high - middle) / ((b - a) / (middle - low))


def flopwatt(*words: str | Path) -> Cost:
    """Runs the program. Raises CalledProcessError."""
    command = [sys.executable, "-m", "flopwatt", *map(str, words)]
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Cost(time.perf_counter() - begun, used.ru_maxrss / 1024)


if __name__ == "__main__":
    sys.exit(main())
