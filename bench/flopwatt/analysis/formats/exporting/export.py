"""An export, complete in memory: the consumer's files, and what goes into the sidecar beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.calibrate.records import Kind
from flopwatt.analysis.cost.machine import Link, links
from flopwatt.analysis.formats.exporting import conditions
from flopwatt.analysis.formats.exporting.conditions import Conditions, Stated
from flopwatt.analysis.formats.exporting.gemms import Predicted
from flopwatt.errors import InputError
from flopwatt.runs import gpus


@dataclass(frozen=True, slots=True)
class Consumer:
    """A program that reads an export. formula: what it does with the numbers. takes: the kinds it can use."""

    name: str
    source: str
    formula: str
    takes: tuple[Kind, ...]


@dataclass(frozen=True, slots=True)
class Export:
    """What an exporter hands over to be written.

    files: contents by path, relative to the output; a single one under "" is the output itself. kind: of the numbers,
    the calibration's unless a model-level prediction made another of them. usage: how the consumer is given it.
    """

    consumer: Consumer
    kind: Kind
    files: Mapping[str, bytes]
    predicted: Sequence[Predicted]
    usage: str
    stated: Mapping[str, Stated] = field(default_factory=dict)
    notes: Sequence[str] = ()


def check_kind(consumer: Consumer, kind: Kind, remedy: str = "choose another --to", of: str = "") -> None:
    """Raises InputError where the consumer would take these numbers for those of another kind. of: which format's."""
    if kind not in consumer.takes:
        wants, whose = " or ".join(consumer.takes), f"{of} is" if of else "are"
        raise InputError(
            f"{consumer.name} takes {wants} figures, and this calibration's {whose} of kind {kind}: {remedy}"
        )


def published(calibration: Calibration, consumer: Consumer) -> gpus.GpuSpec:
    """What is published of the calibration's GPU. Raises InputError where that is nothing."""
    spec = gpus.find(calibration.file.gpu)
    if spec is None:
        raise InputError(
            f"{consumer.name} needs the memory and peaks of {calibration.file.gpu}, of which none are published here: "
            "export --to csv or json"
        )
    return spec


def published_link(spec: gpus.GpuSpec, consumer: Consumer) -> Link:
    """What the GPU is connected by in its server. Raises InputError where that is not known."""
    found = next((link for link in links() if link.gpu == spec.name), None)
    if found is None:
        raise InputError(
            f"{consumer.name} needs link speeds, and none are published here of {spec.name}: export --to csv or json"
        )
    return found


def describe(export: Export, to: str, calibration: Calibration, digest: str, version: str) -> Conditions:
    """The sidecar. digest: SHA-256 of the calibration file. version: of flopwatt, which exports it."""
    file = calibration.file
    return Conditions(
        flopwatt=version,
        to=to,
        consumer=f"{export.consumer.name} ({export.consumer.source})",
        formula=export.consumer.formula,
        kind=export.kind,
        gpu=file.gpu,
        unvalidated=file.unvalidated,
        origin=file.origin,
        identity=file.identity,
        state=file.state,
        calibration={"sha256": digest, "created": file.created, "flopwatt": file.flopwatt, "commit": file.commit},
        numbers=tuple(conditions.numbers(calibration, predicted) for predicted in export.predicted),
        stated=dict(export.stated),
        notes=tuple(export.notes),
        sources=file.sources,
    )
