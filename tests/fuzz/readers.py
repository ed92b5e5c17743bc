"""Everything in flopwatt that reads what others wrote, as functions of bytes, with valid examples to start from.

A reader returns for any input, or raises FlopwattError with one printable line. Whatever it shows of the input on a
terminal holds no control character.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import mutators

from flopwatt.errors import FlopwattError
from flopwatt.runs.records import Environment


@dataclass(frozen=True)
class Reader:
    """read: gets the path of a file with the input. suffix: of that file's name. words: what the format is made of.

    weight: its share of all inputs; a slow reader gets a smaller one. mutator: changes a value and keeps the grammar.
    """

    read: Callable[[Path], None]
    seeds: Callable[[], Iterable[bytes]]
    suffix: str = ""
    words: tuple[str, ...] = ()
    weight: int = 8
    mutator: mutators.Mutator | None = None


class Finding(AssertionError):
    """A reader broke its word."""


def assert_plain(text: str) -> None:
    """No escape sequence, bell or other control character of the input reaches a terminal."""
    found = [char for char in text if not char.isprintable() and char not in "\n\t"]
    if found:
        raise Finding(f"control characters in the output: {found[:5]!r}")


def run_file(path: Path) -> None:
    """As `show` and `check` read it: every statistic, table and verdict of a run file, and all of it as data."""
    from rich.console import Console

    from flopwatt.commands.check import check_files
    from flopwatt.commands.show import show

    shown = io.StringIO()
    console = Console(file=shown, width=120, color_system=None, force_terminal=False)
    with contextlib.redirect_stdout(shown):
        show([path], "table", None, console)
        check_files([path], console)
    with contextlib.redirect_stdout(io.StringIO()) as data:
        show([path], "json", None, console)
        json.loads(data.getvalue())
        show([path], "csv", None, console)
        show([path], "parquet", path.with_suffix(".parquet"), console)
    assert_plain(shown.getvalue())


def compared(path: Path) -> None:
    """A run file as `compare` reads it, against a sound one and the other way round."""
    from rich.console import Console

    from flopwatt.commands.compare import Request, compare

    sound = path.parent / "sound.jsonl"
    if not sound.exists():
        sound.write_bytes(golden_runs()[0])
    shown = io.StringIO()
    console = Console(file=shown, width=120, color_system=None, force_terminal=False)
    for base, new in ((path, sound), (sound, path)):
        compare(Request(base=[base], new=[new], allow_mixed="origin,regime,inputs,cache,dtype"), "table", None, console)
    assert_plain(shown.getvalue())


def imported(format: str) -> Callable[[Path], None]:
    """A foreign table of that format, imported, and shown if that went well."""

    def read(path: Path) -> None:
        from rich.console import Console

        from flopwatt.commands.importing import Request, import_table

        output = path.parent / f"{format}.jsonl"
        output.unlink(missing_ok=True)
        shown = io.StringIO()
        console = Console(file=shown, width=120, color_system=None, force_terminal=False)
        try:
            import_table(Request(format, path, output, gpu="NVIDIA H100 80GB HBM3"), console)
        except FlopwattError:
            if output.exists():
                raise Finding("a refused table left a run file behind") from None
            raise
        assert_plain(shown.getvalue())
        run_file(output)

    return read


def suite(path: Path) -> None:
    """A suite file, planned."""
    from flopwatt.runs.plan import Choices, build
    from flopwatt.runs.suites import load_suite

    build([load_suite(path)], Choices(backends=("torch",)))
    load_suite(path, device_kind="cpu")


def model(path: Path) -> None:
    """A model file or a Hugging Face config.json, with the GEMMs of a step."""
    from flopwatt.runs.suites import load_model, suite_from_model

    suite_from_model(load_model(path))


def scenario(path: Path) -> None:
    """A scenario file."""
    from flopwatt.measurement.simulation.loading import load_scenario

    load_scenario(path)


def sensor_store(path: Path) -> None:
    """A remembered sensor, as another program may have left it: never an error."""
    from flopwatt.measurement import identity_store

    stored = path.parent / "flopwatt" / "sensors"
    stored.mkdir(parents=True, exist_ok=True)
    target = identity_store._path("board", "version")
    target.write_bytes(path.read_bytes())
    identity_store.recall("board", "version", "nvml")


COMMANDS = (("run", "--plan"), ("show",), ("check",), ("run", "--plan", "--simulate", "h100"))
"""What the words of an input are given to. None of these may write a file."""


class NoWorker:
    """Stands in for the measuring process, of which a plan only wants to know the machine."""

    def __init__(self) -> None:
        environment = Environment(kind="cuda", gpu="NVIDIA H100 80GB HBM3", sm_count=132, memory_bytes=85_000_000_000)
        self.hello = SimpleNamespace(environment=environment)

    def close(self) -> None:
        """Nothing to end."""

    kill = close


def command_line(path: Path) -> None:
    """Words, one a line, after a command that the first byte chooses."""
    from flopwatt import cli
    from flopwatt.commands import run

    run._start = lambda spec, log: NoWorker()  # type: ignore[assignment,return-value]
    data = path.read_bytes()
    if not data:
        return
    words = [os.fsdecode(word) for word in data[1:].split(b"\n") if b"\0" not in word]
    said, complaints = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complaints):
        code = cli._guarded([*COMMANDS[data[0] % len(COMMANDS)], *words], debug=False)
    if code not in (0, 1, 2, 3):
        raise Finding(f"exit code {code}")
    assert_plain(said.getvalue() + complaints.getvalue())
    if "fault in flopwatt" in complaints.getvalue():
        raise Finding(complaints.getvalue())
    if code == 2 and complaints.getvalue().count("\n") != 1:
        raise Finding(f"not one line: {complaints.getvalue()!r}")


def shipped(package: str, suffix: str) -> list[bytes]:
    """The files with that suffix in a package folder."""
    folder = resources.files(package)
    return [entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(suffix)]


def golden_runs() -> list[bytes]:
    """A real run's first lines, and one of each schema version."""
    files = sorted(Path(__file__).parents[1].glob("runs/golden/*.jsonl"))
    short = [b"".join(path.read_bytes().splitlines(keepends=True)[:6]) for path in files]
    assert short, "no golden run files"
    return short


def hugging_face() -> list[bytes]:
    """Two kinds of config.json: a Llama and a GPT-2."""
    llama = {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_hidden_layers": 32, "max_position_embeddings": 8192, "vocab_size": 128256,
    }  # fmt: skip
    gpt2 = {
        "model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024, "vocab_size": 50257,
    }  # fmt: skip
    return [json.dumps(config).encode() for config in (llama, gpt2)]


LISTED_SUITE = b"""tokens = 64
[[gemm]]
m = 64
n = 32
k = 16
layout = "nt"
role = "adapter"
phase = "forward"
count = 3
dtype = "fp8_e4m3"
scaling = "row"
"""

SENSOR = b"""{"format":1,"board_id":"board","version":"version","identity":{"source":"nvml","method":"measured",
"update_period_s":0.1,"window_s":0.025,"counter_tick_s":0.1,"gain_uncertainty":0.05}}"""

CUTLASS = b"""Problem,Provider,OperationKind,Operation,Disposition,Status,gemm_kind,m,n,k,A,B,C,D,batch_count,Runtime
1,CUTLASS,gemm,cutlass_tensorop_f16,passed,success,universal,128,256,512,f16:row,f16:column,f32:row,f32:row,1,1.0
2,CUTLASS,gemm,cutlass_tensorop_bf16,failed,success,universal,64,64,64,bf16:column,bf16:row,f32:row,bf16:row,2,0.5
"""

TIDY = b"""gpu,m,n,k,dtype,layout,backend,regime,inputs,status,time_s,power_w,window_s,energy_status,origin
NVIDIA H100 80GB HBM3,4096,4096,4096,bf16,nt,torch,sustained,normal,ok,0.0002,690,10,ok,measured
NVIDIA H100 80GB HBM3,64,64,64,fp8_e4m3,nt,torch-fp8,burst,zeros,failed,,,,unsupported,imported
"""


def parquet_tables() -> list[bytes]:
    """A table of the columns that aiconfigurator knows, plain and compressed, with and without watts."""
    import pyarrow as pa
    from pyarrow import parquet

    columns = {
        "framework": ["VLLM"] * 3, "version": ["0.24.0"] * 3, "device": ["NVIDIA H100 80GB HBM3"] * 3,
        "op_name": ["gemm"] * 3, "kernel_source": ["default"] * 3, "gemm_dtype": ["bfloat16", "fp8", "nvfp4"],
        "m": [128, 0, 64], "n": [256, 64, 64], "k": [512, 64, 64], "latency": [0.01, 0.5, 1.0],
    }  # fmt: skip
    tables = []
    for extra, compression in (({}, "NONE"), ({"power": [300.0, 1.0, 2.0], "power_limit": [700.0] * 3}, "SNAPPY")):
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.table({**columns, **extra}), sink, compression=compression)
        tables.append(sink.getvalue().to_pybytes())
    return tables


WORDS = [
    b"\0--suite\nquick",
    b"\0--shape\n64x64x64\n--dtype\nbf16\n--effort\nfast",
    b"\0--budget\n10m\n--inputs\nsparse:0.5\n--seed\n7",
    b"\1--format\njson\nx.jsonl",
    b"\3--model\nllama-3.1-8b\n--seq\n4096\n--tp\n2",
]

READERS: dict[str, Reader] = {
    "run-file": Reader(
        run_file,
        golden_runs,
        ".jsonl",
        ('"type":"record"', '"measurement":', '"kind":"aggregate"', '"origin":"imported"', "1e308", "\\u001b[31m"),
        mutator=mutators.json_lines,
    ),
    "compare": Reader(
        compared,
        golden_runs,
        ".jsonl",
        ('"type":"record"', '"kind":"aggregate"', "1e308", "null"),
        mutator=mutators.json_lines,
    ),
    "csv": Reader(
        imported("csv"),
        lambda: [TIDY],
        ".csv",
        ("nan", "1e999", '"', "-1", "tflops_per_w", "power_w_low"),
        mutator=mutators.comma_separated,
    ),
    "cutlass-csv": Reader(
        imported("cutlass-profiler"),
        lambda: [CUTLASS],
        ".csv",
        ("f16:row", ":column", "s8:", "e4m3:", "nan", '"'),
        mutator=mutators.comma_separated,
    ),
    "parquet": Reader(
        imported("aiconfigurator"),
        parquet_tables,
        ".parquet",
        ("PAR1", "latency", "ARROW:schema"),
        mutator=mutators.parquet,
    ),
    "suite": Reader(
        suite,
        lambda: [LISTED_SUITE, *shipped("flopwatt.runs.suites", ".toml")],
        ".toml",
        ("[[gemm]]", "[cpu]", "model = ", "count = ", "regimes = ", "1e400", "16777216"),
        mutator=mutators.toml,
    ),
    "model": Reader(
        model,
        lambda: shipped("flopwatt.runs.suites.models", ".toml"),
        ".toml",
        ("num_heads = ", "1e400"),
        mutator=mutators.toml,
    ),
    "config-json": Reader(
        model, hugging_face, ".json", ('"model_type":', '"gemma"', '"head_dim":', "null"), mutator=mutators.one_json
    ),
    "scenario": Reader(
        scenario,
        lambda: shipped("flopwatt.measurement.simulation.scenarios", ".toml"),
        ".toml",
        ("[power]", "[[", "inf"),
        mutator=mutators.toml,
    ),
    "sensor-store": Reader(
        sensor_store, lambda: [SENSOR], ".json", ('"identity":', "1e999"), mutator=mutators.one_json
    ),
    "command-line": Reader(
        command_line,
        lambda: WORDS,
        words=("--suite\n", "--model\n", "--shape\n", "--dtype\n", "--inputs\n", "--processes\n", "--seq\n", "--help"),
        weight=1,
    ),
}

MODULES = (
    "flopwatt.analysis.formats.aiconfigurator",
    "flopwatt.commands.check",
    "flopwatt.commands.compare",
    "flopwatt.commands.importing",
    "flopwatt.commands.request",
    "flopwatt.commands.run",
    "flopwatt.commands.show",
    "flopwatt.measurement.identity_store",
    "flopwatt.measurement.simulation.loading",
)
"""What the readers use, to be instrumented before they run: coverage guides what is tried next."""


def read(reader: Reader, path: Path, data: bytes) -> None:
    """One input through one reader. Raises Finding, or whatever the reader lets through."""
    path.write_bytes(data)
    try:
        reader.read(path)
    except FlopwattError as error:
        # The command line prints it through `printable`; what it must be by itself is short and of one line.
        if len(str(error)) > 2000:
            raise Finding(f"a message of {len(str(error))} characters") from error
