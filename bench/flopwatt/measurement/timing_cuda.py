"""Times launches on a GPU: CUDA graphs keep it busy without gaps, events say when each mark's launches completed.

Events are read on the device's own clock. Two anchors, one before and one after the load, tie it to CLOCK_MONOTONIC:
an event is recorded and waited for between two readings of the clock, so that its instant is known to half the
bracket. Marks in between are interpolated, and the disagreement of the anchors is stored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch

from flopwatt.measurement.clock import Clock
from flopwatt.measurement.timing import TimedLoad
from flopwatt.runs.effort import MS
from flopwatt.runs.samples import ClockMap, Load

ANCHOR_TRIES: Final = 7
QUEUE_NS: Final = 20 * MS
"""Work kept queued ahead of the device: longer than any pause of this process that the scheduler may cause."""

GRAPH_LAUNCHES_MAX: Final = 2048
POLL_NS: Final = 200_000
WARM_NS: Final = 20 * MS
WARM_MARK_NS: Final = 2 * MS


class _Anchor(NamedTuple):
    """An event and the monotonic instant at which it was recorded, ± half_width_ns."""

    event: Any
    t_ns: int
    half_width_ns: int


class CudaTimer:
    """Replays `step(i)`, i cycling through `sets` operand sets, as CUDA graphs; plain launches if capture fails.

    step must launch on the current stream and not wait.
    """

    def __init__(self, step: Callable[[int], None], sets: int, clock: Clock) -> None:
        self.name = "cuda-graph"
        self._step = step
        self._sets = sets
        self._clock = clock
        self._launch_ns = 1
        self._marks: list[Any] = []
        self._launches: list[int] = []
        self._completed = 0
        self._replays: list[Callable[[], None]] = []
        self._per_replay = 1
        self._replayed = 0
        self._replays_per_mark = 1
        self._prepared_for: int | None = None
        self._depth = 2
        self._first: _Anchor | None = None

    def warm_up(self) -> int:
        """Every operand set once, then replays for about 20 ms; ns of one launch, as replayed, by events."""
        cold_ns, warm_ns = self._time(self._each_set), self._time(self._each_set)
        self._launch_ns = max(1, round(min(cold_ns, warm_ns) / self._sets))
        self._prepare_replays(max(1, round(WARM_MARK_NS / self._launch_ns)))
        mark_ns = self._time(self._replay_mark)
        marks = max(1, min(round(WARM_NS / mark_ns), WARM_NS // WARM_MARK_NS))
        elapsed_ns = self._time(lambda: self._replay_marks(marks))
        self._launch_ns = max(1, round(elapsed_ns / (marks * self._replays_per_mark * self._per_replay)))
        return self._launch_ns

    def run(self, marks: int, launches_per_mark: int) -> TimedLoad:
        self._begin(launches_per_mark)
        for _ in range(marks):
            self._enqueue_mark()
        return self.end()

    def begin(self, launches_per_mark: int) -> None:
        self._begin(launches_per_mark)
        for _ in range(self._depth):
            self._enqueue_mark()

    def pump(self) -> None:
        while self._completed < len(self._marks) and self._marks[self._completed].query():
            self._completed += 1
        if len(self._marks) - self._completed >= self._depth:
            self._clock.sleep_ns(POLL_NS)
            return
        while len(self._marks) - self._completed < self._depth:
            self._enqueue_mark()

    def end(self) -> TimedLoad:
        torch.cuda.synchronize()
        last = self._anchor()
        first = self._first
        assert first is not None, "end without begin"
        device_ns = first.event.elapsed_time(last.event) * 1e6
        monotonic_ns = last.t_ns - first.t_ns
        scale = monotonic_ns / device_ns
        t_ns = tuple(first.t_ns + round(first.event.elapsed_time(mark) * 1e6 * scale) for mark in self._marks)
        clock_map = ClockMap(
            first_half_width_ns=first.half_width_ns,
            last_half_width_ns=last.half_width_ns,
            drift_ns=round(monotonic_ns - device_ns),
        )
        return TimedLoad(Load(t_ns=t_ns, launches=tuple(self._launches)), clock_map)

    def _begin(self, launches_per_mark: int) -> None:
        self._prepare_replays(launches_per_mark)
        torch.cuda.synchronize()
        self._first = self._anchor()
        self._completed = 0
        self._replayed = 0
        self._launches = [0]
        start = _event()
        start.record()
        self._marks = [start]

    def _enqueue_mark(self) -> None:
        self._replay_mark()
        mark = _event()
        mark.record()
        self._marks.append(mark)
        self._launches.append(self._replayed * self._per_replay)

    def _each_set(self) -> None:
        for index in range(self._sets):
            self._step(index)

    def _replay_marks(self, count: int) -> None:
        for _ in range(count):
            self._replay_mark()

    def _replay_mark(self) -> None:
        for _ in range(self._replays_per_mark):
            self._replays[self._replayed % len(self._replays)]()
            self._replayed += 1

    def _time(self, launch: Callable[[], object]) -> float:
        """Device nanoseconds of what `launch` starts, from an idle device."""
        torch.cuda.synchronize()
        start, stop = _event(), _event()
        start.record()
        launch()
        stop.record()
        stop.synchronize()
        elapsed_ns: float = start.elapsed_time(stop) * 1e6
        return elapsed_ns

    def _prepare_replays(self, launches_per_mark: int) -> None:
        """Graphs whose replay in turn uses the operand sets in turn; never more launches a mark than asked for.

        A mark of many launches replays one graph that goes through the sets whole times. A shorter one has a graph
        for each place in the rotation at which it can begin.
        """
        if launches_per_mark == self._prepared_for:
            return
        sets = self._sets
        if launches_per_mark >= sets:
            self._per_replay = min(launches_per_mark, GRAPH_LAUNCHES_MAX) // sets * sets or sets
            starts = [0]
        else:
            self._per_replay = launches_per_mark
            rotation = math.lcm(launches_per_mark, sets)
            # Where the exact rotation is long, the sets left over at its end are simply not used.
            end = rotation if rotation <= GRAPH_LAUNCHES_MAX else sets // launches_per_mark * launches_per_mark
            starts = list(range(0, end, launches_per_mark))
        self._replays = [self._capture(range(start, start + self._per_replay)) for start in starts]
        self._replays_per_mark = max(1, launches_per_mark // self._per_replay)
        mark_ns = self._replays_per_mark * self._per_replay * self._launch_ns
        self._depth = max(2, 1 + QUEUE_NS // mark_ns)
        self._prepared_for = launches_per_mark

    def _capture(self, indices: range) -> Callable[[], None]:
        def launch_each() -> None:
            for index in indices:
                self._step(index % self._sets)

        if self.name == "cuda-event":
            return launch_each
        graph: Any = torch.cuda.CUDAGraph()
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        try:
            # Not torch.cuda.graph: when capture fails, that leaves its stream current.
            with torch.cuda.stream(stream):
                graph.capture_begin()
                try:
                    launch_each()
                finally:
                    graph.capture_end()
        except RuntimeError as error:
            # Ending a broken capture raises in its turn, on top of what broke it.
            if isinstance(error, torch.OutOfMemoryError) or isinstance(error.__context__, torch.OutOfMemoryError):
                raise
            torch.cuda.synchronize()
            self.name = "cuda-event"  # this kernel cannot be captured
            return launch_each
        torch.cuda.current_stream().wait_stream(stream)
        replay: Callable[[], None] = graph.replay
        return replay

    def _anchor(self) -> _Anchor:
        best: _Anchor | None = None
        for _ in range(ANCHOR_TRIES):
            event = _event()
            before = self._clock.now_ns()
            event.record()
            event.synchronize()
            after = self._clock.now_ns()
            half = (after - before + 1) // 2
            if best is None or half < best.half_width_ns:
                best = _Anchor(event, before + half, half)
        assert best is not None
        return best


def _event() -> Any:
    # Any: PyTorch declares no types for its events
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
