"""One kind of GPU in a cluster: what its calibration predicts, its links, its power, what its maker publishes."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np

from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.cost.spans import Span
from flopwatt.errors import InputError
from flopwatt.runs import gpus


class Link(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a GPU is connected by, and what is published of it in a server, from links.toml.

    node: GPUs of one server. node_bytes_per_s, network_bytes_per_s: of one GPU, in one direction. server_w: of the
    rest of a server at most, a GPU. usd_per_hour: of one GPU. sources: what each figure is from.
    """

    gpu: str
    node: int
    node_bytes_per_s: float
    network_bytes_per_s: float
    server_w: float | None = None
    usd_per_hour: float | None = None
    sources: dict[str, str]
    confidence: Literal["checked", "unverified"]


LINK_NUMBERS: Final = {
    "node": "node", "node_bytes_per_s": "node", "network_bytes_per_s": "network", "server_w": "server_w",
}  # fmt: skip
"""Numbers of a link that a user may state instead, and under which name each has its source."""


class Gemm(NamedTuple):
    """A GEMM to price."""

    m: int
    n: int
    k: int
    batch: int
    dtype: str
    layout: str


class Priced(msgspec.Struct, frozen=True):
    """Time of one GEMM in seconds, and its energy in joules; None where the calibration has no watts."""

    time_s: Span
    energy_j: Span | None


class Machine:
    """A GPU with its calibration and links; remembers every GEMM that it has priced."""

    def __init__(self, calibration: Calibration, spec: gpus.GpuSpec, link: Link) -> None:
        self.calibration = calibration
        self.spec = spec
        self.link = link
        self._priced: dict[Gemm, Priced] = {}

    @property
    def name(self) -> str:
        """The GPU's name as its driver reports it."""
        return self.calibration.file.gpu

    @property
    def unvalidated(self) -> bool:
        """Whether its calibration is a spec sheet alone."""
        return self.calibration.file.unvalidated

    def peak(self, precision: str) -> float:
        """Dense peak in FLOP/s at the datasheet's clock. Raises InputError where it has none."""
        peak = self.spec.peak_flop_per_s(precision)
        if peak is None:
            raise InputError(f"{self.name} has no {precision} tensor cores: choose another --precision")
        return peak

    def dtype(self, precision: str) -> str:
        """The number format that its calibration has for a precision. Raises InputError where it has none."""
        wanted = {"fp8": ("fp8_e4m3",), "bf16": ("bf16", "fp16"), "fp16": ("fp16", "bf16")}[precision]
        found = next((one for one in wanted if one in self.calibration.dtypes), None)
        if found is None:
            raise InputError(
                f"the calibration of {self.name} has no {precision}, but {', '.join(self.calibration.dtypes)}: "
                "measure it, or choose another --precision"
            )
        return found

    def learn(self, wanted: Iterable[Gemm]) -> None:
        """Predicts all GEMMs not yet known, in one call a number format and layout."""
        groups: dict[tuple[str, str | None], list[Gemm]] = {}
        for gemm in set(wanted) - self._priced.keys():
            groups.setdefault((gemm.dtype, self._layout(gemm)), []).append(gemm)
        for (dtype, layout), members in groups.items():
            sizes = np.array([(gemm.m, gemm.n, gemm.k, gemm.batch) for gemm in members]).T
            found = self.calibration.predict(*sizes[:3], batch=sizes[3], dtype=dtype, layout=layout)
            times = zip(found.time_s.tolist(), found.time_s_low.tolist(), found.time_s_high.tolist(), strict=True)
            joules = _joules(found.energy_j, found.energy_j_low, found.energy_j_high, len(members))
            for gemm, time_s, energy in zip(members, times, joules, strict=True):
                self._priced[gemm] = Priced(Span(*time_s), energy)

    def gemm(self, gemm: Gemm) -> Priced:
        """Time and energy of a GEMM that was learnt."""
        return self._priced[gemm]

    def _layout(self, gemm: Gemm) -> str | None:
        """The GEMM's layout where it was measured, else the one that was."""
        domain = self.calibration.fitted(gemm.dtype).domain
        return gemm.layout if domain is not None and gemm.layout in domain.layouts else None


def machine(calibration: Calibration) -> Machine:
    """The machine of a calibration of kernels. Raises InputError for another kind, or a GPU without known links."""
    if calibration.file.kind != "kernel":
        raise InputError(
            f"a price is built from single GEMMs: give a calibration of kernels, not {calibration.file.kind}"
        )
    name = calibration.file.gpu
    spec = gpus.find(name)
    link = next((one for one in links() if spec is not None and one.gpu == spec.name), None)
    if spec is None or link is None:
        raise InputError(
            f"{name}: no link speeds are known of it: choose one of {', '.join(one.gpu for one in links())}"
        )
    return Machine(calibration, spec, link)


def relinked(one: Machine, stated: Mapping[str, float]) -> Machine:
    """The machine with numbers of LINK_NUMBERS as stated."""
    sources = one.link.sources | dict.fromkeys((LINK_NUMBERS[name] for name in stated), "stated")
    return Machine(one.calibration, one.spec, msgspec.structs.replace(one.link, sources=sources, **stated))


def from_spec_sheet(gpu: str) -> Machine:
    """A machine without measurements, marked unvalidated. Raises InputError for a GPU without published figures."""
    from flopwatt.analysis.calibrate import calibrating

    return machine(Calibration(calibrating.from_spec_sheet(gpu, version="")))  # which no file will hold


def from_file(path: str | Path) -> Machine:
    """The machine of a calibration file. Raises CalibrationError, InputError."""
    from flopwatt.analysis.calibrate.files import load_calibration

    return machine(load_calibration(path))


@cache
def links() -> tuple[Link, ...]:
    """Links of every GPU in links.toml."""
    raw = tomllib.loads((files("flopwatt.analysis.cost") / "links.toml").read_text(encoding="utf-8"))
    return msgspec.convert(raw["link"], tuple[Link, ...])


def _joules(value: object, low: object, high: object, count: int) -> list[Span | None]:
    if value is None:
        return [None] * count
    columns = (np.asarray(column).tolist() for column in (value, low, high))
    return [Span(*row) for row in zip(*columns, strict=True)]
