"""How well `flopwatt doctor --sensor` tells simulated sensors, over many seeds: the shipped chips and variations.

Each seed is another board too, so that every trait is drawn anew. Targets: update period within 2 %, averaging window
within 20 %, or else the word `unidentified`; the beat test never wrong.
"""

from __future__ import annotations

import sys
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table

from flopwatt.measurement.identify import identify_sensor
from flopwatt.measurement.simulation.board import Board
from flopwatt.measurement.simulation.loading import load_scenario
from flopwatt.measurement.simulation.rig import SimulatedRig
from flopwatt.measurement.simulation.scenario import Scenario
from flopwatt.runs.records import SensorIdentity

SEEDS: Final = 200
SEEDS_OF_VARIATION: Final = 20
PERIOD_WITHIN: Final = 0.02
WINDOW_WITHIN: Final = 0.20

PART_TIME: Final[dict[str, Any]] = {"counter_covers_all_time": False}
FAULTY: Final[dict[str, Any]] = {"stale": 0.1, "counter_stale": 0.1, "zero": 0.05}

VARIATIONS: Final[tuple[tuple[str, str, dict[str, Any]], ...]] = (
    ("period 20 ms, window 10.5 ms, as V100", "h100", {"update_period_s": 0.02, "window_s": 0.0105}),
    ("the same, part-time counter", "h100", {"update_period_s": 0.02, "window_s": 0.0105, **PART_TIME}),
    ("window 10 ms", "h100", {"window_s": 0.010}),
    ("window 18 ms, part-time counter", "a100", {"window_s": 0.018, **PART_TIME}),
    ("window 25 ms, part-time counter", "h100", {"window_s": 0.025, **PART_TIME}),
    ("window = period = 100 ms", "h100", {"window_s": 0.1}),
    ("window 80 ms, part-time counter", "h100", {"window_s": 0.08, **PART_TIME}),
    ("counter tick 10 ms", "a100", {"counter_tick_s": 0.01}),
    ("counter tick 10 ms, part-time", "h100", {"counter_tick_s": 0.01, **PART_TIME}),
    ("stale and zero readings", "h100", FAULTY),
    ("the same, part-time counter", "a100", {**FAULTY, **PART_TIME}),
    ("zeros when polled within 50 ms", "h100", {"zero_if_polled_within_s": 0.05}),
    ("no counter", "h100", {"unsupported": ("counter",)}),
    ("no instant power", "h100", {"unsupported": ("instant",)}),
    ("neither power", "h100", {"unsupported": ("instant", "average")}),
    ("period 1 s", "h100", {"update_period_s": 1.0}),
)  # fmt: skip


@dataclass
class Score:
    """Of one quantity: how often it was right, wrong and unidentified, and the largest relative error."""

    right: int = 0
    wrong: int = 0
    unidentified: int = 0
    worst: float = 0.0

    def add(self, told: float | None, truth: float, within: float) -> None:
        """Counts one answer. bool counts as 0 or 1."""
        if told is None:
            self.unidentified += 1
            return
        error = abs(told - truth) if within == 0 else abs(told / truth - 1)
        self.worst = max(self.worst, error)
        if error <= within:
            self.right += 1
        else:
            self.wrong += 1

    def cells(self) -> tuple[str, str, str]:
        """Shares of right and unidentified answers, and of wrong ones."""
        seeds = self.right + self.wrong + self.unidentified
        worst = f" (±{self.worst:.2%})" if self.right and self.worst else ""
        return f"{self.right / seeds:.0%}{worst}", f"{self.unidentified / seeds:.0%}", str(self.wrong)


@dataclass
class Scores:
    """Of one scenario."""

    period: Score = field(default_factory=Score)
    window: Score = field(default_factory=Score)
    covers: Score = field(default_factory=Score)
    gpu_s: float = 0.0

    @property
    def wrong(self) -> int:
        """Answers beyond their target."""
        return self.period.wrong + self.window.wrong + self.covers.wrong


def varied(chip: str, sensor: dict[str, Any], faults: dict[str, Any] | None = None) -> Scenario:
    """A shipped scenario with other entries in its sensor and faults."""
    scenario = load_scenario(chip)
    return msgspec.structs.replace(
        scenario,
        sensor=msgspec.structs.replace(scenario.sensor, **sensor),
        faults=msgspec.structs.replace(scenario.faults, **(faults or {})),
    )


def identified(scenario: Scenario, seed: int) -> tuple[SensorIdentity, Board, float]:
    """What was told of one board, the board itself, and the seconds of GPU time it took."""
    rig = SimulatedRig(scenario, seed=seed, board=seed, idle=False)
    begun = rig.clock.now_ns()
    return identify_sensor(rig), rig.gpu.board, (rig.clock.now_ns() - begun) * 1e-9


def score(pool: Executor, scenario: Scenario, seeds: int) -> Scores:
    """Identifies so many boards of a scenario."""
    scores = Scores()
    for told, board, gpu_s in pool.map(partial(identified, scenario), range(seeds), chunksize=5):
        scores.period.add(told.update_period_s, board.update_period_s, PERIOD_WITHIN)
        scores.window.add(told.window_s, board.window_s, WINDOW_WITHIN)
        # A counter that adds up windows as long as the period misses nothing.
        covers = scenario.sensor.counter_covers_all_time or board.window_s >= board.update_period_s
        scores.covers.add(told.counter_covers_all_time, covers, 0)
        scores.gpu_s = max(scores.gpu_s, gpu_s)
    return scores


def main() -> int:
    """Prints the table; 1 where anything was told wrongly. Two arguments: other numbers of seeds."""
    numbers = [int(word) for word in sys.argv[1:]] or [SEEDS, SEEDS_OF_VARIATION]
    runs = [(f"{chip}, as shipped", chip, varied(chip, {}), numbers[0]) for chip in ("a100", "h100")]
    runs += [(name, chip, varied(chip, sensor), numbers[-1]) for name, chip, sensor in VARIATIONS]
    runs.append(("GPU lost after 12 s", "h100", varied("h100", {}, {"lost_after_s": 12.0}), numbers[-1]))
    table = Table(title="identification of simulated sensors", title_justify="left", box=None, pad_edge=False)
    for name in ("scenario", "on", "seeds", "T in 2 %", "un.", "wrong", "W in 20 %", "un.", "wrong", "beat test right",
                 "un.", "wrong", "GPU s"):  # fmt: skip
        table.add_column(name, justify="left" if name in ("scenario", "on") else "right")
    wrong = 0
    with ProcessPoolExecutor() as pool:
        for name, chip, scenario, seeds in runs:
            scores = score(pool, scenario, seeds)
            wrong += scores.wrong
            cells = [*scores.period.cells(), *scores.window.cells(), *scores.covers.cells()]
            table.add_row(name, chip, str(seeds), *cells, f"{scores.gpu_s:.0f}")
    Console(width=150).print(table)
    print("un.: unidentified. In brackets the largest error.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
