"""Run files with known figures: 1 ms a launch, 500 W, a counter that ticks every 100 ms."""

from __future__ import annotations

from pathlib import Path

from flopwatt.runs.records import (
    Case,
    Environment,
    Planned,
    Record,
    RunHeader,
    Segment,
    SensorIdentity,
    SuiteFact,
    Use,
    case_id,
)
from flopwatt.runs.samples import CounterTrace, Load, PowerTrace, RawMeasurement, Window
from flopwatt.runs.store import RunWriter
from gemmkernels.problem import Problem

MS = 1_000_000
PROBLEM = Problem(4096, 4096, 4096, layout="nt")
H100 = Environment(kind="cuda", gpu="NVIDIA H100 80GB HBM3", sm_count=132, memory_bytes=85_000_000_000)


def measurement(
    *,
    seconds: float = 2.6,
    watts: float = 500.0,
    launch_ms: float = 1.0,
    tick_ms: int = 100,
    instant_w: float | None = None,
    ramp_w: float = 0.0,
    bracket_ms: float = 1.0,
    reasons: int = 0x4,
) -> RawMeasurement:
    """A steady load from 0, its one window the whole of it. ramp_w: rise of power over the window."""
    end_ms = round(seconds * 1000)
    edges = range(tick_ms, end_ms, tick_ms)
    energy, total = [0], 0.0
    for edge in edges:
        total += (watts + ramp_w * (edge - tick_ms / 2) / end_ms) * tick_ms
        energy.append(round(total))
    polls = range(0, end_ms, 50)
    shown = watts if instant_w is None else instant_w
    half = round(bracket_ms * MS / 2)
    return RawMeasurement(
        timer="cuda-graph",
        origin_ns=10**12,
        loads=(
            Load(
                t_ns=tuple(t * MS for t in range(0, end_ms + 1, 10)),
                launches=tuple(round(t / launch_ms) for t in range(0, end_ms + 1, 10)),
            ),
        ),
        windows=(Window(load=0, start_ns=0, end_ns=end_ms * MS),),
        counter=CounterTrace(
            before_ns=(0, *(e * MS - half for e in edges)),
            t_ns=(0, *(e * MS + half for e in edges)),
            energy_mj=tuple(energy),
        ),
        power=PowerTrace(
            t_ns=tuple(t * MS for t in polls),
            instant_mw=tuple(round((shown + ramp_w * t / end_ms) * 1000) for t in polls),
            clock_mhz=(1500,) * len(polls),
            temp_c=(60,) * len(polls),
            reasons=(reasons,) * len(polls),
        ),
        sensor_source="nvml",
    )


def record(index: int = 0, problem: Problem = PROBLEM, **fields: object) -> Record:
    case = Case(problem=problem, backend="torch", effort="fast")
    defaults: dict[str, object] = {
        "id": f"{index:032x}",
        "case_id": case_id(case),
        "segment": 0,
        "origin": "measured",
        "started": "2026-11-22T09:00:00Z",
        "case": case,
        "uses": (Use(suite="tiny", role="qkv", phase="forward", count=32),),
        "status": "ok",
        "energy_status": "ok",
        "measurement": measurement(),
    }
    return Record(**{**defaults, **fields})  # type: ignore[arg-type]


def header(records: tuple[Record, ...] = (), **fields: object) -> RunHeader:
    plan = tuple(Planned(case_id=r.case_id, case=r.case, uses=r.uses, process=r.process) for r in records)
    defaults: dict[str, object] = {
        "schema": 1,
        "id": "f" * 32,
        "created": "2026-11-22T09:00:00Z",
        "origin": "measured",
        "flopwatt": "0.1.0",
        "plan": plan,
        "suites": (SuiteFact(name="tiny", model="tiny", tokens=1000),),
    }
    return RunHeader(**{**defaults, **fields})  # type: ignore[arg-type]


def segment(**fields: object) -> Segment:
    defaults: dict[str, object] = {
        "segment": 0,
        "started": "2026-11-22T09:00:00Z",
        "environment": H100,
        "board_id": "0123456789ab",
        "sensor": SensorIdentity(source="nvml", gain_uncertainty=0.05),
        "idle_w": 70.0,
    }
    return Segment(**{**defaults, **fields})  # type: ignore[arg-type]


def write(path: Path, *records: Record) -> Path:
    with RunWriter.create(path, header(records)) as writer:
        writer.append(segment())
        for one in records:
            writer.append(one)
    return path
