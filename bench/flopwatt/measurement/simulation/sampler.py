"""The simulated sampler: the same poller that reads real sensors, made up for lazily in virtual time."""

from __future__ import annotations

from flopwatt.measurement.clock import Clock, VirtualClock
from flopwatt.measurement.power.dense import DensePoller
from flopwatt.measurement.power.polling import Poller
from flopwatt.measurement.power.sampler import Samples
from flopwatt.measurement.simulation.gpu import SimulatedGpu
from flopwatt.measurement.simulation.sensor import SimulatedSensor


class VirtualSampler:
    """A `Sampler` beside a virtual clock: each poll that was due since the last look happens now, at its own time.

    clock: the one the load moves. The poller has a second one, which only polls move, so that both pass in parallel.
    """

    source = "simulated"

    def __init__(self, gpu: SimulatedGpu, clock: Clock) -> None:
        self._gpu = gpu
        self._clock = clock
        self._own_clock = VirtualClock(clock.now_ns())
        self._sensor = SimulatedSensor(gpu, self._own_clock)
        self._poller: Poller | DensePoller | None = None
        self._due_ns = 0

    def start(self, *, dense: bool = False) -> None:
        """Begins polling afresh."""
        now_ns = self._clock.now_ns()
        self._gpu.set_sampled(now_ns * 1e-9, True)
        self._own_clock.sleep_ns(now_ns - self._own_clock.now_ns())
        self._poller = DensePoller(self._sensor, self._own_clock) if dense else Poller(self._sensor, self._own_clock)
        self._due_ns = now_ns

    def peek(self) -> Samples:
        """What has been polled so far."""
        return self._catch_up().samples()

    def stop(self) -> Samples:
        """Ends polling and returns all of it."""
        poller = self._catch_up()
        self._own_clock.sleep_ns(self._clock.now_ns() - self._own_clock.now_ns())
        poller.finish()
        samples = poller.samples()
        self._gpu.set_sampled(self._clock.now_ns() * 1e-9, False)
        self._poller = None
        return samples

    def close(self) -> None:
        """Nothing to end: it is no process."""

    def _catch_up(self) -> Poller | DensePoller:
        assert self._poller is not None, "start the sampler before asking it"
        now_ns, clock = self._clock.now_ns(), self._own_clock
        while self._due_ns <= now_ns:
            clock.sleep_ns(self._due_ns - clock.now_ns())
            # A poller that asks for an instant already gone gets the next one, as it would in real time.
            self._due_ns = max(self._poller.poll(), clock.now_ns() + 1)
        return self._poller
