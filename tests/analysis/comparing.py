"""Run files made for comparisons: one launch time and one power a process, no noise within a process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))

from synthetic import header, measurement, record, segment

from flopwatt.runs.records import Case, Record, Segment, Use, case_id
from flopwatt.runs.samples import AggregateMeasurement
from flopwatt.runs.store import RunFile
from gemmkernels.problem import Problem


def case(m: int = 4096, **fields: object) -> Case:
    problem = Problem(m, 4096, 4096, layout="nt")
    return Case(**{"problem": problem, "backend": "torch", "effort": "fast", **fields})  # type: ignore[arg-type]


def of(
    what: Case | None = None,
    *,
    launch_ms: float = 1.0,
    watts: float = 500.0,
    process: int = 0,
    index: int = 0,
    **fields: object,
) -> Record:
    """One record of a case, as one process measured it."""
    what = what or case()
    return record(
        index,
        case=what,
        case_id=case_id(what),
        process=process,
        **{"measurement": measurement(launch_ms=launch_ms, watts=watts), **fields},
    )


def processes(launches_ms: Sequence[float], what: Case | None = None, **fields: object) -> list[Record]:
    """A case in several fresh processes."""
    return [
        of(what, launch_ms=launch_ms, process=number, index=number, **fields)
        for number, launch_ms in enumerate(launches_ms)
    ]


def imported(what: Case, time_s: float, index: int = 0, **fields: object) -> Record:
    """A row of somebody else's table."""
    return of(
        what, index=index, origin="imported", energy_status="unsupported",
        measurement=AggregateMeasurement(time_s=time_s), **fields,
    )  # fmt: skip


def run(name: str, *records: Record, machine: Segment | None = None, **fields: object) -> RunFile:
    """A run file in memory, whose id is its name."""
    origin = records[0].origin if records else "measured"
    return RunFile(
        Path(f"{name}.jsonl"), header(records, id=name, origin=origin, **fields), (machine or segment(),), records
    )


def use(suite: str = "tiny", count: int = 1, **fields: object) -> Use:
    return Use(**{"suite": suite, "role": "qkv", "phase": "forward", "count": count, **fields})  # type: ignore[arg-type]
