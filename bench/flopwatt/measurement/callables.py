"""`flopwatt.measure`: a user's own kernel, checked, timed and metered like any backend."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flopwatt import __version__
from flopwatt.errors import InputError
from flopwatt.measurement.case import Outcome, measure_prepared
from flopwatt.measurement.hardware import HardwareRig
from flopwatt.measurement.rig import CaseSkipped
from flopwatt.measurement.runner import now
from flopwatt.runs.records import (
    EFFORTS,
    REGIMES,
    SCHEMA_VERSION,
    Case,
    EffortName,
    Record,
    Regime,
    RunHeader,
    Segment,
    case_id,
)
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import frame
from gemmkernels.backend import Config, Device, Launch
from gemmkernels.problem import Problem

if TYPE_CHECKING:
    import pandas as pd

Kernel = Callable[[Any, Any, Any], object]
PARAMETERS: Final = 3


@dataclass(frozen=True, slots=True)
class _CallableBackend:
    kernel: Kernel
    SUMMARY: str = "a Python callable"

    def supports(self, problem: Problem, device: Device) -> str | None:
        return None

    def configs(self, problem: Problem, device: Device) -> Sequence[Config]:
        return [{}]

    def prepare(self, problem: Problem, config: Config, device: Device) -> Launch:
        def launch(operands: Any) -> None:
            self.kernel(operands.a, operands.b, operands.out)

        return launch


def measure(
    kernel: Kernel,
    problem: Problem,
    *,
    regime: Regime = "sustained",
    effort: EffortName = "fast",
    inputs: str = "normal",
    device: str = "auto",
    seed: int = 0,
    shared: bool = False,
) -> pd.DataFrame:
    """Checks, times and meters `kernel(a, b, out)`, which writes a @ b into `out`; one tidy row.

    a [M,K], b [K,N], out [M,N] are PyTorch tensors on the device, strided as `problem.layout` says, with the batch in
    front where there is one; fp8 and int8 operands come without scales. The kernel must launch on the current stream.
    A wrong result gives a row with status `failed`, its reason, and no TFLOPS. It runs in this process: one that
    faults takes the process with it, and PyTorch's settings (TF32, threads) stay as the measurement set them. shared:
    measure although another process, or in a container this one, is on the GPU. `flopwatt.load` lists the columns.

    Raises InputError for a kernel with other parameters, DeviceError for a device that is not there.
    """
    if _parameter_count(kernel) != PARAMETERS:
        raise InputError("a kernel takes (a, b, out) and writes a @ b into out: wrap yours so")
    if regime not in REGIMES or effort not in EFFORTS:
        raise InputError(f"regime is one of {', '.join(REGIMES)}, effort one of {', '.join(EFFORTS)}")
    name = getattr(kernel, "__name__", "callable")
    case = Case(problem=problem, backend=name, regime=regime, effort=effort, inputs=inputs)
    rig = HardwareRig.open(device, shared=shared, idle=False)
    started = now()
    try:
        outcome = _outcome(rig, case, kernel, seed)
        segment = Segment(
            segment=0, started=started, environment=rig.environment, board_id=rig.board_id, sensor=rig.sensor
        )
    finally:
        rig.close()
    return frame([_run_file(outcome, segment, case_id(case))])


def _parameter_count(kernel: Kernel) -> int | None:
    """How many parameters a callable takes; None for a built-in that does not say."""
    try:
        return len(inspect.signature(kernel).parameters)
    except ValueError:
        return None


def _outcome(rig: HardwareRig, case: Case, kernel: Kernel, seed: int) -> Outcome:
    try:
        prepared = rig.prepared(rig.bench.prepare(case, _CallableBackend(kernel), seed))
    except CaseSkipped as skipped:
        return Outcome("skipped", case, str(skipped), energy_reason="not measured")
    return measure_prepared(rig, case, prepared, seed=seed)


def _run_file(outcome: Outcome, segment: Segment, identity: str) -> RunFile:
    """The measurement as a run of one record, which lives in memory only."""
    header = RunHeader(
        schema=SCHEMA_VERSION, id=uuid.uuid4().hex, created=segment.started, origin="measured", flopwatt=__version__
    )
    record = Record(
        id=uuid.uuid4().hex,
        case_id=identity,
        segment=0,
        origin="measured",
        started=segment.started,
        case=outcome.case,
        status=outcome.status,
        reason=outcome.reason,
        energy_status=outcome.energy_status,
        energy_reason=outcome.energy_reason,
        correctness=outcome.correctness,
        settings=outcome.settings,
        input_audit=outcome.input_audit,
        measurement=outcome.measurement,
    )
    return RunFile(Path(), header, (segment,), (record,))
