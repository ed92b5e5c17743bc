"""Everything the measuring loop needs of a machine. One implementation is real, one simulated; the loop cannot tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from flopwatt.measurement.clock import Clock
from flopwatt.measurement.power.sampler import Sampler
from flopwatt.measurement.timing import Timer
from flopwatt.runs.records import Case, Correctness, Environment, Origin, SensorIdentity
from gemmkernels.backend import ConfigValue


class CaseSkipped(Exception):
    """This machine cannot run the case; the message is the reason, for the row."""


class MemoryShort(CaseSkipped):
    """The case's operands would fit on the device, but not in what is free of it now."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A case made ready: operands allocated, kernel compiled, result checked, timer around it.

    correct: None where nothing was computed (a simulation). settings: process-wide ones in force.
    input_audit: fractions of NaN, Inf, saturated and zero elements that will be timed.
    """

    timer: Timer
    config: dict[str, ConfigValue]
    correctness: Correctness | None = None
    correct: bool | None = None
    operand_sets: int = 1
    settings: dict[str, str] = field(default_factory=dict)
    input_audit: dict[str, float] = field(default_factory=dict)


class Rig(Protocol):
    """A machine that measures: its clock, its power sampler, and cases made ready to run on it."""

    origin: Origin
    sensor: SensorIdentity
    environment: Environment
    board_id: str | None
    sensor_version: str | None
    """What a stored identity of this board's sensor holds for: the driver's version, a simulation's scenario."""
    idle_w: float | None
    """Mean watts before any context was created, and with one; None where power cannot be read."""
    idle_context_w: float | None

    @property
    def clock(self) -> Clock:
        """What the rig's time is; virtual in a simulation."""
        ...

    @property
    def sampler(self) -> Sampler:
        """What reads power beside the load."""
        ...

    def prepare(self, case: Case, seed: int) -> Prepared:
        """Makes `case` ready. Raises CaseSkipped where this machine cannot run it."""
        ...

    def joined_by(self) -> int:
        """Processes that came to compute on this device since it was opened; 0 where none or none can be seen.

        Takes milliseconds and a lock in the driver: never inside a window.
        """
        ...

    def idle_after(self) -> float | None:
        """Mean watts with a context and nothing running, after a rest of two seconds; None where unreadable.

        Takes three seconds: for the end of a run.
        """
        ...

    def release(self) -> None:
        """Frees what `prepare` allocated, so that the next case has the memory."""
        ...

    def close(self) -> None:
        """Ends the sampler and lets the device go."""
        ...
