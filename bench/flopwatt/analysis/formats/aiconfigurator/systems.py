"""A system folder for aiconfigurator: its GEMM table from a calibration, the rest from what is published.

It looks a GEMM up by (m, n, k): where a row has them, its answer is that row's latency; in between, it interpolates the
share of a roofline that the rows around reach. It never answers less than that roofline, max(2mnk ÷ peak,
bytes ÷ mem_bw), whose peak is therefore the one that a calibration never passes. Watts are a GEMM's mean; it counts
operations without watts as 0 W, and prints none at all where such operations take over 10 % of the time.
To run whole models it needs tables of attention and communication too, which are copied from a system that it ships.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from flopwatt.analysis.calibrate.chip import chip_of
from flopwatt.analysis.calibrate.predictor import Calibration
from flopwatt.analysis.cost.machine import Link
from flopwatt.analysis.formats.aiconfigurator.tables import (
    DTYPES,
    FILE_NAME,
    PACKAGE,
    below,
    in_package,
    origin,
    package,
)
from flopwatt.analysis.formats.exporting import gemms
from flopwatt.analysis.formats.exporting.conditions import Stated, Value, cited
from flopwatt.analysis.formats.exporting.export import Consumer, Export, check_kind, published, published_link
from flopwatt.analysis.formats.exporting.gemms import Predicted
from flopwatt.errors import InputError
from flopwatt.runs import gpus
from flopwatt.runs.suites import Model

CONSUMER: Final = Consumer(
    name="aiconfigurator",
    source="github.com/ai-dynamo/aiconfigurator 0.12, systems/ and its GEMM table",
    formula="a GEMM takes the table's latency and draws its power; between rows, the interpolated share of a roofline",
    takes=("kernel", "layer"),
)
STACK: Final = "vllm"
"""Whose table it is where no system gives the rest: aiconfigurator knows stacks alone."""

_VERSION: Final = re.compile(r"[0-9][\w+-]*(\.[\w+-]+)*", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Base:
    """A shipped system whose other tables are copied: its name, stack and version, its YAML, and the files."""

    system: str
    stack: str
    version: str
    spec: Mapping[str, Any]
    files: Mapping[str, bytes]


def export(calibration: Calibration, models: tuple[Model, ...], base: str | None) -> Export:
    """The folder to give with --systems-paths. models: whose weights are in the table exactly.

    base: SYSTEM[/STACK[/VERSION]] of the installed package, whose other tables are copied; None writes GEMMs alone.
    Raises InputError for another kind, a GPU that nothing is published of, no format that fits, or no such base.
    """
    check_kind(CONSUMER, calibration.file.kind)
    spec = published(calibration, CONSUMER)
    link = published_link(spec, CONSUMER)
    shipped = None if base is None else _base(base, spec)
    dtypes, notes = _formats(calibration)
    predicted = [gemms.predict(calibration, dtype, gemms.table(models, dtype)) for dtype in dtypes]
    name = spec.name.lower().replace("-", "_")
    if not _measured_watts(calibration, predicted):
        notes += ("no power column: the calibration rests on no measured watts",)
    stack, version = (shipped.stack, shipped.version) if shipped else (STACK, _version(calibration.file.flopwatt))
    where = f"data/{name}/gemm/{stack}/{version}"
    system, stated = _system(name, calibration, spec, link, shipped)
    files = {
        f"{name}.yaml": system,
        f"{where}/{FILE_NAME}": _table(calibration, predicted, stack, version),
        f"{where}/collection_meta.yaml": _meta(stack, version),
    }
    if shipped:
        files |= {f"data/{name}/{path}": content for path, content in shipped.files.items()}
        source, licence = origin()
        lender = f"{source}, {shipped.system}/{stack}/{version}"
        notes += (f"tables other than gemm are copied unchanged from {lender}, licence: {licence}",)
    else:
        notes += ("GEMMs alone: a model needs attention and communication too, which --base SYSTEM copies",)
    return Export(
        consumer=CONSUMER,
        kind=calibration.file.kind,
        files=files,
        predicted=predicted,
        usage=f"aiconfigurator cli estimate --systems-paths DIR --system {name} --backend {stack} --model …",
        stated=stated,
        notes=notes,
    )


def _formats(calibration: Calibration) -> tuple[list[str], tuple[str, ...]]:
    """The formats that the table can hold without calling one kind another, and why others are left out."""
    wanted, notes = [], []
    for dtype in calibration.dtypes:
        if dtype == "fp8_e4m3" and calibration.kind(dtype) == "kernel":
            notes.append("fp8 left out: their row is a layer with its quantisation, the calibration's a GEMM alone")
        elif dtype in _NAMES:
            wanted.append(dtype)
        else:
            notes.append(f"{dtype} left out: the table has no such format")
    if not wanted:
        raise InputError(f"{CONSUMER.name} can be given none of {', '.join(calibration.dtypes)}: {notes[0]}")
    return wanted, tuple(notes)


_NAMES: Final = {ours: theirs for theirs, ours in DTYPES.items() if theirs in ("bfloat16", "fp8")}


def _table(calibration: Calibration, predicted: list[Predicted], stack: str, version: str) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    powered = _measured_watts(calibration, predicted)
    tables = []
    for one in predicted:
        count, found, sizes = len(one.found), one.found, one.shapes
        columns: dict[str, Any] = {
            "framework": [stack.upper()] * count,
            "version": [version] * count,
            "device": [calibration.file.gpu] * count,
            "op_name": ["gemm"] * count,
            "kernel_source": ["flopwatt"] * count,
            "gemm_dtype": [_NAMES[one.dtype]] * count,
            **{axis: getattr(sizes, axis).astype(np.int64) for axis in ("m", "n", "k")},
            "latency": found.time_s * 1e3,
        }
        if powered:
            limit_w = calibration.fitted(one.dtype).limit_w
            columns |= {"power": found.power_w, "power_limit": np.full(count, limit_w, dtype=float)}
        tables.append(pa.table(columns))
    sink = io.BytesIO()
    parquet.write_table(pa.concat_tables(tables), sink)
    return sink.getvalue()


def _measured_watts(calibration: Calibration, predicted: list[Predicted]) -> bool:
    """Whether the watts of every format rest on measured ones, for the table has no word for any other."""
    return all(one.found.power_w is not None and calibration.fitted(one.dtype).power_points for one in predicted)


def _system(
    name: str, calibration: Calibration, spec: gpus.GpuSpec, link: Link, base: _Base | None
) -> tuple[bytes, dict[str, Stated]]:
    """The system's YAML, and which of its figures were not measured."""
    ours = {"gpu": _gpu(calibration, spec), "node": _node(link)}
    rest, other = _NEUTRAL, "neutral: adds no time to a GEMM, takes no memory"
    if base:
        rest, other = base.spec, f"{PACKAGE}, systems/{base.system}.yaml"
    stated: dict[str, Stated] = {}
    lines = ["# written by flopwatt: conditions.json says what these numbers hold for", f"data_dir: data/{name}"]
    for section in ("gpu", "node", "misc"):
        known = ours.get(section, {})
        theirs = {key: value for key, value in rest[section].items() if key not in known}
        stated |= {f"{section}.{key}": Stated(value=_plain(value), source=other) for key, value in theirs.items()}
        stated |= {f"{section}.{key}": figure for key, figure in known.items()}
        values = {**theirs, **{key: figure.value for key, figure in known.items()}}
        lines += [f"{section}:", *(f"  {key}: {_yaml(value)}" for key, value in values.items())]
    return ("\n".join(lines) + "\n").encode(), stated


def _gpu(calibration: Calibration, spec: gpus.GpuSpec) -> dict[str, Stated]:
    """Its memory, its power and its peaks, which are those of the highest clock, as no prediction passes them."""
    source = cited(spec.source, spec.confidence)
    clocked = f"at {spec.max_clock_hz / 1e9:g} GHz, its highest: {source}" if spec.max_clock_hz else source
    figures = {
        "mem_bw": Stated(value=round(spec.mem_bytes_per_s), source=source),
        "mem_capacity": Stated(value=spec.memory_bytes, source=source),
        "power": Stated(value=spec.tdp_w, source=source),
        "sm_version": Stated(value=_sm(spec), source=source),
    }
    fitted = {one.dtype: one.chip for one in calibration.file.fitted}
    for key, dtype in (("bfloat16", "bf16"), ("fp8", "fp8_e4m3"), ("int8", "int8")):
        chip = fitted.get(dtype) or chip_of(spec, dtype)
        if chip is not None:
            figures[f"{key}_tc_flops"] = Stated(value=round(chip.flop_per_s), source=clocked)
    return figures


def _node(link: Link) -> dict[str, Stated]:
    source = cited("; ".join(f"{what}: {link.sources[what]}" for what in ("node", "network")), link.confidence)
    figures = {
        "num_gpus_per_node": link.node,
        "inter_node_bw": round(link.network_bytes_per_s),
        "intra_node_bw": round(link.node_bytes_per_s),
    }
    return {key: Stated(value=value, source=source) for key, value in figures.items()}


def _version(word: str) -> str:
    """The version that a calibration names, which becomes a folder; 0 for a word that is no version."""
    return word if _VERSION.fullmatch(word) else "0"


def _sm(spec: gpus.GpuSpec) -> int:
    return int(spec.arch.removeprefix("sm_"))


_NEUTRAL: Final[Mapping[str, Mapping[str, Any]]] = {
    "gpu": {"mem_bw_empirical_scaling_factor": 1.0, "mem_empirical_constant_latency": 0.0},
    "node": {"pcie_bw": 32_000_000_000, "p2p_latency": 0.0},
    "misc": {"nccl_mem": {1: 0, 2: 0, 4: 0, 8: 0}, "other_mem": 0, "nccl_version": "none"},
}


def _plain(value: Any) -> Value:
    return _yaml(value) if isinstance(value, Mapping) else value


def _yaml(value: object) -> str:
    """A scalar or flat mapping in YAML's flow style, with whole numbers as keys where they are."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float):
        return np.format_float_positional(value, trim="0")  # YAML 1.1 reads 3e-06 as a word
    return json.dumps(value)


def _meta(stack: str, version: str) -> bytes:
    """What aiconfigurator looks for beside a table: that it is whole, and not from its own collector."""
    return (
        f"schema_version: 1\nprovenance: legacy\nruntime:\n  framework: {stack}\n  version: {json.dumps(version)}\n"
        "tables:\n  gemm_perf:\n    status: complete\n"
    ).encode()


def _base(name: str, spec: gpus.GpuSpec) -> _Base:
    """The tables of a shipped system, without its GEMMs.

    Raises InputError where it is none, has several stacks, or is of another architecture than `spec`.
    """
    found = below(in_package(Path(name)))
    choices = [file.parent.relative_to(package() / "data") for file in found]
    words = ["/".join((one.parts[0], *one.parts[2:])) for one in choices]
    if len(found) > 1:
        raise InputError(f"--base {name}: several stacks or versions in it: choose one of {', '.join(words)}")
    system, stack, version = words[0].split("/")
    yaml = msgspec.yaml.decode((package() / f"{system}.yaml").read_bytes())
    if yaml["gpu"]["sm_version"] != _sm(spec):
        raise InputError(f"--base {name}: its attention is of another architecture than {spec.name}: choose its own")
    data = package() / "data" / system
    folders = [one for one in data.glob(f"*/{stack}/{version}") if one.parent.parent.name != "gemm"]
    folders += data.glob(f"comm/nccl/{yaml['misc']['nccl_version']}")
    files = {
        file.relative_to(data).as_posix(): file.read_bytes()
        for folder in sorted(folders)
        for file in sorted(folder.iterdir())
        if file.is_file()
    }
    return _Base(system, stack, version, yaml, files)
