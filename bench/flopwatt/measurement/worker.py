"""The measuring process: the only one that touches CUDA. Reused from case to case, replaced when it dies.

`python -m flopwatt.measurement.worker FD PARENT` speaks over the inherited socket FD; see messages.py. It dies with
PARENT, its process id.
"""

from __future__ import annotations

import signal
import socket
import sys
import traceback
from contextlib import closing
from types import FrameType
from typing import TYPE_CHECKING

import msgspec

from flopwatt.errors import DeviceError, FlopwattError
from flopwatt.measurement.case import Again, measure_case
from flopwatt.measurement.identify import identify_sensor, with_sampling_effect
from flopwatt.measurement.identity_store import recall, remember
from flopwatt.measurement.messages import (
    Broken,
    Channel,
    Done,
    Hello,
    Identified,
    Identify,
    IdleRead,
    Measure,
    Refusal,
    Request,
    RigSpec,
)
from flopwatt.measurement.orphans import die_with_parent
from flopwatt.text import anonymous

if TYPE_CHECKING:
    from flopwatt.measurement.rig import Rig


def main() -> None:
    """Serves one command line until it closes its end."""
    die_with_parent(int(sys.argv[2]))
    # The command line's to handle: a service manager sends them to every process, and a case would be lost to it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _let_pass)  # not SIG_IGN, which compilers started from here would inherit
    with closing(Channel(socket.socket(fileno=int(sys.argv[1])))) as channel:
        _answer_to(channel)


def _answer_to(channel: Channel) -> None:
    """Opens the rig that the command line asks for, says what it is, and serves."""
    try:
        rig = open_rig(channel.receive(RigSpec))
    except FlopwattError as error:
        channel.send(Refusal(kind=type(error).__name__, message=str(error)))
        return
    try:
        channel.send(
            Hello(
                origin=rig.origin,
                environment=rig.environment,
                board_id=rig.board_id,
                sensor=rig.sensor,
                idle_w=rig.idle_w,
                idle_context_w=rig.idle_context_w,
            )
        )
        _serve(rig, channel)
    except (EOFError, OSError):
        pass  # the command line closed its end: nobody is left to answer
    finally:
        rig.close()


def _let_pass(number: int, frame: FrameType | None) -> None:
    """Does nothing."""


def open_rig(spec: RigSpec) -> Rig:
    """The real machine, or the simulated one of a scenario. Raises DeviceError or SuiteError."""
    if spec.scenario is not None:
        from flopwatt.measurement.simulation.loading import load_scenario
        from flopwatt.measurement.simulation.rig import SimulatedRig
        from flopwatt.measurement.tuned.lookup import Tuned

        rig = SimulatedRig(
            load_scenario(spec.scenario),
            seed=spec.seed,
            board=spec.board,
            process=spec.process,
            idle=spec.idle,
            shared=spec.shared,
        )
        # Not in the rig: what one machine has stored must not change a simulation that a program makes for itself.
        rig.sensor = recall(rig.board_id, rig.sensor_version, rig.sensor.source) or rig.sensor
        rig.tuned = Tuned(rig.environment, rig.origin)
        return rig
    try:
        from flopwatt.measurement.hardware import HardwareRig
    except ModuleNotFoundError as error:
        raise DeviceError(f"{error.name} is not installed: pip install 'flopwatt[measure]'") from None
    return HardwareRig.open(spec.device, shared=spec.shared, idle=spec.idle)


def _serve(rig: Rig, channel: Channel) -> None:
    while True:
        request: Request = channel.receive(Request)
        try:
            answer = _answer(rig, request)
        except Exception as error:
            again: Again | None = "memory" if is_out_of_memory(error) else None
            fatal = again is not None or is_fatal(error)
            channel.send(Broken(message=one_line(error), traceback=traceback.format_exc(), fatal=fatal, again=again))
            if fatal:
                return
        else:
            channel.send(answer)
        finally:
            rig.release()


def _answer(rig: Rig, request: Request) -> Done | Identified | IdleRead:
    if isinstance(request, Measure):
        return _measured(rig, request)
    return _identified(rig) if isinstance(request, Identify) else IdleRead(idle_w=rig.idle_after())


def _measured(rig: Rig, request: Measure) -> Done:
    begun = rig.clock.now_ns()
    outcome = measure_case(rig, request.case, seed=request.seed, soak=request.soak)
    return Done(outcome=outcome, elapsed_s=(rig.clock.now_ns() - begun) * 1e-9)


def _identified(rig: Rig) -> Identified:
    begun = rig.clock.now_ns()
    rig.sensor = msgspec.structs.replace(with_sampling_effect(rig, identify_sensor(rig)), idle_w=rig.idle_w)
    not_stored = remember(rig.board_id, rig.sensor_version, rig.sensor)
    return Identified(identity=rig.sensor, elapsed_s=(rig.clock.now_ns() - begun) * 1e-9, not_stored=not_stored)


def is_fatal(error: Exception) -> bool:
    """Whether the CUDA context may be corrupt after this error, being sticky and asynchronous."""
    text = f"{type(error).__name__}: {error}"
    return "CUDA" in text or "cuda" in text


def is_out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, of the device or the host: some of it may be held for as long as this process lives."""
    return type(error).__name__ in ("OutOfMemoryError", "MemoryError")


def one_line(error: BaseException) -> str:
    """An exception as one line, without this machine's paths and names: its type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {anonymous(lines[0])}" if lines else type(error).__name__


if __name__ == "__main__":
    main()
