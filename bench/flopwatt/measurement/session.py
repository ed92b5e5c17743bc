"""How measuring into a run file begins: a new one with its header, an old one with what it lacks, on the same board."""

from __future__ import annotations

import re
import uuid
from typing import Final

import msgspec

from flopwatt import __version__
from flopwatt.errors import RunFileError
from flopwatt.measurement.messages import Hello, RigSpec
from flopwatt.measurement.runner import now
from flopwatt.runs.plan import Plan
from flopwatt.runs.records import SCHEMA_VERSION, Environment, Event, Planned, Policy, RunHeader
from flopwatt.runs.store import RunFile

NAME_MOST: Final = 80
"""Characters of a file's name that tell what was measured."""


def header(hello: Hello, plan: Plan, policy: Policy) -> RunHeader:
    """The first line of a new run file."""
    return RunHeader(
        schema=SCHEMA_VERSION,
        id=uuid.uuid4().hex,
        created=now(),
        origin=hello.origin,
        flopwatt=__version__,
        plan=plan.cases,
        suites=plan.suites,
        policy=policy,
    )


def default_name(hello: Hello, plan: Plan) -> str:
    """A file name that says what and when: `h100-80gb-hbm3-quick-20261122-093000.jsonl`."""
    return f"{slug([*device_words(hello), *(suite.name for suite in plan.suites)])}-{stamp()}.jsonl"


def stamp() -> str:
    """The time, UTC, as it stands in names: `20261122-093000`."""
    return re.sub(r"[-:]", "", now()).replace("T", "-").rstrip("Z")


def device_words(hello: Hello) -> list[str]:
    """What a file's name says of the device: its origin where that is not `measured`, and the GPU."""
    gpu = hello.environment.gpu if hello.environment.kind == "cuda" else "cpu"
    origin = [] if hello.origin == "measured" else [hello.origin]
    return [*origin, gpu.removeprefix("NVIDIA ")]


def slug(words: list[str]) -> str:
    """Each word once, in characters that every file system and shell takes as they are."""
    return re.sub(r"[^a-z0-9.]+", "-", "-".join(dict.fromkeys(words)).lower()).strip("-")[:NAME_MOST]


def pending(run_file: RunFile) -> list[Planned]:
    """What the plan still lacks."""
    done = {(record.case_id, record.process) for record in run_file.records}
    return [p for p in run_file.header.plan if (p.case_id, p.process) not in done]


def spec_like(before: RunFile, spec: RigSpec, process: int) -> RigSpec:
    """The rig to resume on. A simulated run resumes on its scenario, a measured one never does. Raises RunFileError."""
    simulated = before.header.origin == "simulated"
    if simulated != (spec.scenario is not None):
        remedy = "add --simulate with its scenario" if simulated else "leave --simulate out"
        raise RunFileError(f"{before.path} is a {before.header.origin} run: {remedy}")
    return msgspec.structs.replace(spec, seed=before.header.policy.seed, process=process, idle=True)


def same_board(before: RunFile, hello: Hello) -> None:
    """Raises RunFileError where the run was measured on another board than this one."""
    boards = {(s.board_id, s.environment.gpu) for s in before.segments}
    if boards and (hello.board_id, hello.environment.gpu) not in boards:
        raise RunFileError(
            f"{before.path} was measured on another board ({before.segments[-1].environment.gpu}): "
            "resume it there, or start a new run here"
        )


def resumed(before: Environment, after: Environment) -> Event | None:
    """A remark where what changes figures differs between the last segment's machine and this one."""
    names = [name for name in ("driver", "power_limit_mw", "vbios") if getattr(before, name) != getattr(after, name)]
    packages = sorted(before.versions.keys() | after.versions.keys())
    names += [name for name in packages if before.versions.get(name) != after.versions.get(name)]
    if not names:
        return None
    changed = ", ".join(name.removesuffix("_mw").replace("_", " ") for name in names)
    message = f"resumed with another {changed}: compare the two segments before trusting their sum"
    return Event(at=now(), what="environment", message=message)
