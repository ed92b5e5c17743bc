"""The simulated timer: a load on the simulated GPU, its marks in virtual time."""

from __future__ import annotations

from typing import Final

import numpy as np

from flopwatt.errors import DeviceError
from flopwatt.measurement.clock import VirtualClock
from flopwatt.measurement.simulation.gpu import SimulatedGpu
from flopwatt.measurement.simulation.kernel import Kernel
from flopwatt.measurement.simulation.timeline import Floats
from flopwatt.measurement.timing import TimedLoad
from flopwatt.runs.samples import ClockMap, Load

WARM_UP_S: Final = 0.02
PUMP_NS: Final = 4_000_000
"""A pump lets this much time pass, or one mark where that is longer: a real loop is called again as often."""


class SimulatedTimer:
    """A `Timer` that runs one kernel by moving the virtual clock; no two launches take quite the same time.

    run: this process's factors on time and power. Raises DeviceError once the GPU is lost.
    """

    name = "simulated"

    def __init__(
        self, gpu: SimulatedGpu, clock: VirtualClock, kernel: Kernel, run: tuple[float, float], rng: np.random.Generator
    ) -> None:
        self._gpu = gpu
        self._clock = clock
        self._kernel = kernel
        self._run = run
        self._rng = rng
        self._launches_per_mark = 1
        self._begin_ns = self._pump_ns = 0

    def warm_up(self) -> int:
        """Launches for about 20 ms; nanoseconds of one launch."""
        launches = max(3, round(WARM_UP_S / self._kernel.time_s(1.0)))
        load = self.run(1, launches).load
        return max(1, round((load.t_ns[1] - load.t_ns[0]) / launches))

    def run(self, marks: int, launches_per_mark: int) -> TimedLoad:
        """Exactly `marks` × `launches_per_mark` launches."""
        self.begin(launches_per_mark)
        return self._finish(self._completed_ns(marks))

    def begin(self, launches_per_mark: int) -> None:
        """Starts an open-ended load."""
        self._check_alive()
        self._launches_per_mark = launches_per_mark
        self._pump_ns = max(PUMP_NS, round(self._kernel.time_s(1.0) * launches_per_mark * 1e9))
        self._begin_ns = self._clock.now_ns()
        self._gpu.begin(self._begin_ns * 1e-9, self._kernel, self._run)

    def pump(self) -> None:
        """Lets about one mark, or 4 ms, pass."""
        self._clock.sleep_ns(self._pump_ns)
        self._check_alive()

    def end(self) -> TimedLoad:
        """Ends the load at the first mark that is not before now."""
        now_ns = self._clock.now_ns()
        launches = self._gpu.launches_since_begin(now_ns * 1e-9)
        # Jitter may put the mark that the mean rate names a little before now.
        t_ns = self._completed_ns(int(launches / self._launches_per_mark * 1.2) + 3)
        return self._finish(t_ns[: int(np.searchsorted(t_ns, now_ns)) + 1])

    def _completed_ns(self, marks: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """When each of so many marks completed, the jitter of its launches in it."""
        launches = self._launches_per_mark
        jitter = self._gpu.scenario.noise.launch_jitter / np.sqrt(launches)
        work: Floats = launches * np.maximum(1.0 + jitter * self._rng.standard_normal(marks), 0.2)
        return np.rint(self._gpu.times_of_launches(np.cumsum(work)) * 1e9).astype(np.int64)

    def _finish(self, t_ns: np.ndarray[tuple[int], np.dtype[np.int64]]) -> TimedLoad:
        end_ns = int(t_ns[-1])
        self._clock.sleep_ns(end_ns - self._clock.now_ns())
        self._gpu.end(end_ns * 1e-9)
        self._check_alive()
        exact = ClockMap(first_half_width_ns=0, last_half_width_ns=0, drift_ns=0)
        launches = tuple(range(0, (len(t_ns) + 1) * self._launches_per_mark, self._launches_per_mark))
        return TimedLoad(Load(t_ns=(self._begin_ns, *t_ns.tolist()), launches=launches), exact)

    def _check_alive(self) -> None:
        lost_s = self._gpu.scenario.faults.lost_after_s
        if lost_s is not None and self._clock.now_ns() * 1e-9 >= self._gpu.start_s + lost_s:
            raise DeviceError(f"CUDA error: GPU is lost, as the scenario's faults.lost_after_s = {lost_s:g} has it")
