"""What tells one simulated board from another of its kind, and where every random draw comes from.

A board's traits depend on the scenario and the board's number alone: as on real hardware, another run or seed finds the
same gain. Everything that differs from run to run comes from (seed, board, process).
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np

from flopwatt.measurement.simulation.scenario import Draw, OddBoard, Scenario

LEAST_FACTOR: Final = 0.5
"""No draw of the spread between boards goes below this, however wide the scenario makes it."""


@dataclass(frozen=True, slots=True)
class Board:
    """One board's sensor: seconds, watts; gain relative. average_window_s: None where there is no running average."""

    number: int
    update_period_s: float
    window_s: float
    average_window_s: float | None
    rise_s: float
    delay_s: float
    gain: float
    offset_w: float
    counter_delay_s: float
    counter_gain: float


def draw_board(scenario: Scenario, number: int) -> Board:
    """Board `number` of the scenario: each range in `[sensor]` drawn uniformly."""
    rng = np.random.default_rng([zlib.crc32(scenario.name.encode()), number])
    sensor = scenario.sensor

    def draw(value: Draw) -> float:
        # Drawn even for a plain number, so that changing one range leaves the other traits alone.
        share = rng.random()
        return value[0] + share * (value[1] - value[0]) if isinstance(value, tuple) else value

    average_s = sensor.average_window_s
    return Board(
        number=number,
        update_period_s=draw(sensor.update_period_s),
        window_s=draw(sensor.window_s),
        average_window_s=draw(average_s if average_s is not None else 0.0) or None,
        rise_s=draw(sensor.rise_s),
        delay_s=draw(sensor.delay_s),
        gain=draw(sensor.gain),
        offset_w=draw(sensor.offset_w),
        counter_delay_s=draw(sensor.counter_delay_s),
        counter_gain=draw(sensor.counter_gain),
    )


def of_board(scenario: Scenario, number: int) -> Scenario:
    """The scenario as board `number` lives it: board 0 is the one in the file, the others scatter about it.

    A leakier chip draws more watts at a clock, and under a power cap runs at a lower one.
    """
    boards = scenario.boards
    odd = next((odd for odd in boards.odd if odd.number == number), OddBoard(number=number))
    power, clock = odd.power, odd.clock
    if number:
        rng = np.random.default_rng([zlib.crc32(f"boards of {scenario.name}".encode()), number])
        drawn_power, drawn_clock = rng.standard_normal(2).tolist()
        power *= max(LEAST_FACTOR, 1.0 + boards.power * drawn_power)
        clock *= max(LEAST_FACTOR, 1.0 + boards.clock * drawn_clock)
    switched = power * clock**scenario.power.clock_exponent
    gpu, thermal = scenario.gpu, scenario.thermal
    limit_w = gpu.power_limit_w if odd.power_limit_w is None else odd.power_limit_w
    return msgspec.structs.replace(
        scenario,
        gpu=msgspec.structs.replace(
            gpu,
            max_clock_mhz=round(gpu.max_clock_mhz * clock),
            peak_clock_mhz=gpu.peak_clock_mhz or gpu.max_clock_mhz,
            power_limit_w=limit_w,
            power_limit_default_w=gpu.power_limit_default_w or gpu.power_limit_w,
        ),
        power=msgspec.structs.replace(
            scenario.power,
            active_w=scenario.power.active_w * switched,
            compute_w={dtype: watts * switched for dtype, watts in scenario.power.compute_w.items()},
        ),
        thermal=msgspec.structs.replace(
            thermal, ambient_c=thermal.ambient_c if odd.ambient_c is None else odd.ambient_c
        ),
        faults=msgspec.structs.replace(scenario.faults, throttle=(*scenario.faults.throttle, *odd.throttle)),
    )


def board_id(scenario: Scenario, number: int) -> str:
    """12 hexadecimal digits, as a real board's hashed UUID has."""
    return hashlib.sha256(f"simulated:{scenario.name}:{number}".encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Seeds:
    """The source of every draw that differs from run to run."""

    seed: int = 0
    board: int = 0
    process: int = 0

    def generator(self, purpose: str, index: int = 0) -> np.random.Generator:
        """A generator of its own for each purpose, so that one more draw here moves no draw there."""
        words = [self.seed & 0xFFFFFFFFFFFFFFFF, self.board, self.process, zlib.crc32(purpose.encode()), index]
        return np.random.default_rng(words)
