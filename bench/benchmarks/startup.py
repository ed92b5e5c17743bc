"""How fast the command line answers: `flopwatt --help` should take under 0.3 s."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

RUNS = 11
TARGET_S = 0.3


def main() -> int:
    """Prints the median of a few starts; 1 where it misses the target."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "flopwatt", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - start)
    middle = statistics.median(times[1:])
    print(f"flopwatt --help: median {middle:.3f} s, {min(times):.3f} to {max(times):.3f} s, target {TARGET_S} s")
    return 0 if middle < TARGET_S else 1


if __name__ == "__main__":
    sys.exit(main())
