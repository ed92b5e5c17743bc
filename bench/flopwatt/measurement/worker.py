"""The measuring process: the only one that touches CUDA. Reused from case to case, replaced when it dies.

`python -m flopwatt.measurement.worker FD` speaks over the inherited socket FD; see messages.py.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Final

from flopwatt.errors import DeviceError, FlopwattError
from flopwatt.measurement.case import measure_case
from flopwatt.measurement.messages import Broken, Channel, Done, Hello, Measure, Refusal, RigSpec

if TYPE_CHECKING:
    from flopwatt.measurement.rig import Rig

_PR_SET_PDEATHSIG: Final = 1


def main() -> None:
    """Serves one command line until it closes its end."""
    _die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command line's to handle
    channel = Channel(socket.socket(fileno=int(sys.argv[1])))
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


def open_rig(spec: RigSpec) -> Rig:
    """The real machine, or the simulated one of a scenario. Raises DeviceError or SuiteError."""
    if spec.scenario is not None:
        from flopwatt.measurement.simulation.loading import load_scenario
        from flopwatt.measurement.simulation.rig import SimulatedRig

        return SimulatedRig(
            load_scenario(spec.scenario), seed=spec.seed, process=spec.process, idle=spec.idle, shared=spec.shared
        )
    try:
        from flopwatt.measurement.hardware import HardwareRig
    except ModuleNotFoundError as error:
        raise DeviceError(f"{error.name} is not installed: pip install 'flopwatt[measure]'") from None
    return HardwareRig.open(spec.device, shared=spec.shared, idle=spec.idle)


def _serve(rig: Rig, channel: Channel) -> None:
    while True:
        request: Measure = channel.receive(Measure)
        begun = rig.clock.now_ns()
        try:
            outcome = measure_case(rig, request.case, seed=request.seed, soak=request.soak)
        except Exception as error:
            fatal = is_fatal(error)
            channel.send(Broken(message=one_line(error), traceback=traceback.format_exc(), fatal=fatal))
            if fatal:
                return
        else:
            channel.send(Done(outcome=outcome, elapsed_s=(rig.clock.now_ns() - begun) * 1e-9))
        finally:
            rig.release()


def is_fatal(error: Exception) -> bool:
    """Whether the CUDA context may be corrupt after this error, so that only a new process can go on.

    Out of memory is not: PyTorch's allocator recovers. Any other CUDA error is, being sticky and asynchronous.
    """
    if type(error).__name__ in ("OutOfMemoryError", "MemoryError"):
        return False
    text = f"{type(error).__name__}: {error}"
    return "CUDA" in text or "cuda" in text


def one_line(error: BaseException) -> str:
    """An exception as one line: its type and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _die_with_parent() -> None:
    """Asks the kernel to kill this process when its parent dies, so that no orphan keeps a GPU busy."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() == 1:
        sys.exit(0)  # the parent died before the request took effect


if __name__ == "__main__":
    main()
