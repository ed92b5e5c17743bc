"""aiconfigurator's GEMM tables: latency of Y = X·Wᵀ by shape and quantisation, Parquet, one file a system and stack.

Columns: framework, version, device, op_name, kernel_source, gemm_dtype, m, n, k, latency (ms), and in some tables power
and power_limit (W). The rows were timed through each stack's own linear layer with weights stored [n, k], which is
layout `nt`. An fp8 row's time holds the quantisation of the activations too. Not in a table, and so unknown here: the
values of the operands (some stacks' bf16 weights were never initialised), whether they lay in L2, how long the GPU had
been at work, and the window of the watts, which is why those are refused.

Source: github.com/ai-dynamo/aiconfigurator, Apache-2.0; its tables are on PyPI as aiconfigurator-core.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata, util
from pathlib import Path
from typing import Any, Final

from flopwatt.analysis.formats.foreign import (
    TEXT_MOST,
    BadValue,
    Entry,
    Found,
    LeftOut,
    Machine,
    Table,
    judge_power,
    label,
    make_problem,
    seconds,
    watts,
    whole,
)
from flopwatt.errors import InputError
from flopwatt.runs.records import TIMED, Case
from flopwatt.runs.samples import AggregateMeasurement
from flopwatt.text import printable, shortened
from gemmkernels.problem import Problem

PACKAGE: Final = "aiconfigurator-core"
FILE_NAME: Final = "gemm_perf.parquet"
BATCH_ROWS: Final = 8192
FILES_MOST: Final = 100

ROWS_MOST: Final = 5_000_000
GROUP_BYTES_MOST: Final = 256 * 2**20
"""What a file may unfold to: a kilobyte of Parquet can stand for a billion rows, or for a cell of gigabytes."""

DTYPES: Final[Mapping[str, str]] = {
    "bfloat16": "bf16", "bf16": "bf16", "float16": "fp16", "fp16": "fp16", "fp8": "fp8_e4m3",
}  # fmt: skip

INEXPRESSIBLE: Final[Mapping[str, str]] = {
    "fp8_block": "fp8 with one scale a block",
    "nvfp4": "4-bit floats",
    "mxfp4": "4-bit floats",
    "int8_wo": "int8 weights on 16-bit activations",
    "int4_wo": "int4 weights on 16-bit activations",
    "sq": "int8 with SmoothQuant scales",
}

_TEXT: Final = ("gemm_dtype", "device", "op_name", "framework", "version", "kernel_source")
_WHOLE: Final = ("m", "n", "k")
_REAL: Final = ("latency", "power", "power_limit")
_REQUIRED: Final = ("device", "gemm_dtype", "m", "n", "k", "latency")


def open_table(path: Path) -> Table:
    """The GEMM tables at a Parquet file or folder, or at `SYSTEM[/STACK[/VERSION]]` of the installed package.

    Raises InputError where there are none. Reading the rows raises it for a file that is none of these tables.
    """
    if path.exists():
        files = [path] if path.is_file() else below(path)
        source, licence = f"aiconfigurator: {_shown(files)}", None
    else:
        files = below(in_package(path))
        source, licence = origin()
        source = f"{source}: {_shown(files)}"
    return Table(_rows(files), source, licence)


def origin() -> tuple[str, str | None]:
    """What the installed package is, and its licence."""
    return f"PyPI {PACKAGE} {metadata.version(PACKAGE)}", metadata.metadata(PACKAGE)["License-Expression"] or None


def below(folder: Path) -> list[Path]:
    """The GEMM tables in a folder and under it. Raises InputError for none, or too many to be one system's."""
    files = sorted(path for path in folder.glob(f"**/{FILE_NAME}") if path.is_file())
    if not files:
        raise InputError(f"{folder}: no {FILE_NAME} in it: give such a file, or a system's folder")
    if len(files) > FILES_MOST:
        raise InputError(f"{folder}: {len(files)} tables in it: give one system's folder")
    return files


def package() -> Path:
    """The folder `systems` of the installed package. Raises InputError where it is not installed."""
    spec = util.find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        raise InputError("the public tables are not installed: pip install 'flopwatt[reference]'")
    return Path(spec.submodule_search_locations[0]) / "systems"


def in_package(path: Path) -> Path:
    """The folder of a system's GEMM tables, or of one stack and version of it, in the installed package."""
    try:
        data = package() / "data"
    except InputError:
        raise InputError(
            f"{path}: no such file: give a {FILE_NAME}, or install the public tables "
            "with pip install 'flopwatt[reference]' and name a system, such as h100_sxm"
        ) from None
    system, *stack = path.parts or ("",)
    folder = data / system / "gemm" / Path(*stack)
    if ".." in path.parts or path.is_absolute() or not folder.is_dir():
        known = ", ".join(sorted(found.parent.name for found in data.glob("*/gemm")))
        raise InputError(
            f"{path}: neither a file nor a system of {PACKAGE}: choose one of {known}, or its /STACK/VERSION"
        )
    return folder


def _shown(files: Sequence[Path]) -> str:
    """The files by the part of their path that says what they are, which names no machine."""
    shown = []
    for file in files:
        parts = file.parts
        start = parts.index("gemm", -4) - 1 if "gemm" in parts[-4:] and len(parts) > 4 else len(parts) - 1
        shown.append("/".join(parts[start:]))
    return shortened(printable(", ".join(shown)), 600)


def _rows(files: Sequence[Path]) -> Iterator[Found]:
    for file in files:
        yield from _file_rows(file)


def _file_rows(path: Path) -> Iterator[Found]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path, memory_map=False, pre_buffer=False) as table:
            columns = _columns(table.schema_arrow, path)
            _check_size(table.metadata, path)
        texts = [name for name in columns if name in _TEXT]
        with parquet.ParquetFile(path, memory_map=False, pre_buffer=False, read_dictionary=texts) as table:
            for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
                values = {name: _values(batch.column(name)) for name in columns}
                for cells in zip(*values.values(), strict=True):
                    yield _found(dict(zip(columns, cells, strict=True)))
    # RuntimeError: what Parquet's own checks raise through the reader.
    except (pa.ArrowException, OSError, UnicodeDecodeError, RuntimeError) as error:
        what = shortened(printable(" ".join(str(error).split())), 160)
        raise InputError(f"{path}: not a whole Parquet file ({what}): fetch it again") from None


def _check_size(facts: Any, path: Path) -> None:
    """Raises InputError for a file that would unfold to more than any table of GEMMs holds."""
    if facts.num_rows > ROWS_MOST:
        raise InputError(f"{path}: {facts.num_rows:,} rows, over the {ROWS_MOST:,} that are read: split the table")
    for index in range(facts.num_row_groups):
        # Not column by column: asked for one that is broken, pyarrow ends the process instead of raising.
        size = facts.row_group(index).total_byte_size
        if size > GROUP_BYTES_MOST:
            raise InputError(
                f"{path}: a row group of {size >> 20} MiB uncompressed, over the {GROUP_BYTES_MOST >> 20} that are "
                "read: not a GEMM table of aiconfigurator"
            )


def _values(column: Any) -> list[Any]:
    """A column's cells. Of text only as much as shows that it is too long, and each distinct text once."""
    from pyarrow import compute, types

    if not types.is_dictionary(column.type) or not types.is_string(column.type.value_type):
        cells: list[Any] = column.to_pylist()
        return cells
    column.validate(full=True)  # an index into nowhere is a broken file
    words = compute.utf8_slice_codeunits(column.dictionary, 0, TEXT_MOST + 1).to_pylist()
    return [None if index is None else words[index] for index in column.indices.to_pylist()]


def _columns(schema: Any, path: Path) -> list[str]:
    """The columns to read of an Arrow schema. Raises InputError where one is missing or holds something else."""
    from pyarrow import types as kinds

    for name in _REQUIRED:
        if schema.names.count(name) != 1:
            raise InputError(f"{path}: no column {name!r}: not a GEMM table of aiconfigurator")
    columns = [name for name in (*_TEXT, *_WHOLE, *_REAL) if schema.names.count(name) == 1]
    for name in columns:
        kind = schema.field(name).type
        if kinds.is_dictionary(kind):
            kind = kind.value_type
        if name in _TEXT:
            right = kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)
        else:
            right = kinds.is_integer(kind) or kinds.is_floating(kind)
        right = right or (kinds.is_null(kind) and name not in _REQUIRED)
        if not right:
            raise InputError(f"{path}: column {name!r} holds {kind}: not a GEMM table of aiconfigurator")
    return columns


def _found(row: Mapping[str, Any]) -> Found:
    try:
        return _entry(row)
    except BadValue as error:
        return LeftOut(str(error))


def _entry(row: Mapping[str, Any]) -> Entry:
    if row.get("op_name") not in (None, "gemm"):
        raise BadValue("not a GEMM")
    gpu = label(row["device"], "device")
    if gpu is None:
        raise BadValue("no GPU named")
    problem = _problem(row)
    framework = (label(row.get("framework"), "framework") or "unknown").lower()
    config = {name: text for name in ("version", "kernel_source") if (text := label(row.get(name), name)) is not None}
    measurement = AggregateMeasurement(
        time_s=seconds(row["latency"], "latency", 1e-3),
        power_w=_known(row, "power"),
        power_limit_w=_known(row, "power_limit"),
    )
    energy_status, energy_reason = judge_power(measurement)
    return Entry(
        machine=Machine(gpu, ((framework, config["version"]),) if "version" in config else ()),
        case=Case(
            problem=problem,
            backend=framework,
            config=dict(config) or None,
            regime="unknown",
            inputs="unknown",
            cache="unknown",
        ),
        measurement=measurement,
        energy_status=energy_status,
        energy_reason=energy_reason,
        settings={TIMED: "quantisation of the activations and GEMM"} if problem.dtype == "fp8_e4m3" else {},
    )


def _problem(row: Mapping[str, Any]) -> Problem:
    name = label(row["gemm_dtype"], "gemm_dtype") or ""
    if name in INEXPRESSIBLE:
        raise BadValue(f"{name}: a run file has no name for {INEXPRESSIBLE[name]}")
    if name not in DTYPES:
        raise BadValue(f"gemm_dtype {name!r} is not known")
    m, n, k = (whole(row[size], size) for size in _WHOLE)
    if m == 0:
        raise BadValue("m = 0")
    return make_problem(m, n, k, dtype=DTYPES[name], layout="nt")


def _known(row: Mapping[str, Any], name: str) -> float | None:
    """A power that makes sense; None for any other, which costs the row its watts and not its time."""
    try:
        return watts(row.get(name), name)
    except BadValue:
        return None
