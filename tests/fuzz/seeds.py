"""Valid inputs of every reader, from which fuzzing starts."""

from __future__ import annotations

import json
import sys
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec

sys.path.append(str(Path(__file__).parents[1] / "runs"))
sys.path.append(str(Path(__file__).parents[1] / "measurement"))

from synthetic import PROBLEM, header, measurement, record, segment

from flopwatt.runs.account import Account, Fate, SharedPlan
from flopwatt.runs.records import Case, End, Event, Record, Segment, SensorIdentity, SequenceItem, case_id, encode
from flopwatt.runs.samples import AggregateMeasurement, RawMeasurement, SlowTrace, Window


def shipped(package: str, suffix: str) -> list[bytes]:
    """The files with that suffix in a package folder."""
    folder = resources.files(package)
    return [entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(suffix)]


def run_files() -> list[bytes]:
    """A run file's first lines of each schema version, and one of each kind of measurement."""
    files = sorted(Path(__file__).parents[1].glob("runs/golden/*.jsonl"))
    golden = [b"".join(path.read_bytes().splitlines(keepends=True)[:6]) for path in files]
    assert golden, "no golden run files"
    return [*golden, _run(_burst(), _refused()), _run(_by_readings(), with_=_identified()), _run(_sequence()), _table()]


def _run(*records: Record, with_: Segment | None = None, origin: str = "measured") -> bytes:
    end = End(at="2026-11-22T09:10:00Z", reason="done", idle_after_w=72.0)
    event = Event(at="2026-11-22T09:05:00Z", what="throttling", message="the power cap acted")
    lines = [header(records, origin=origin), with_ or segment(), *records, event, end]
    return b"".join(encode(line) + b"\n" for line in lines)


def _burst() -> Record:
    raw = measurement(seconds=0.025, tick_ms=5)
    both = (Window(load=0, start_ns=5_000_000, end_ns=25_000_000), Window(load=1, start_ns=0, end_ns=20_000_000))
    raw = msgspec.structs.replace(raw, loads=raw.loads * 2, windows=both, counter=None, flags=("over_25_ms",))
    case = Case(problem=PROBLEM, backend="torch", effort="fast", regime="burst", inputs="zeros")
    return record(1, case=case, case_id=case_id(case), energy_status="refused", measurement=raw)


def _refused() -> Record:
    failed = {"status": "failed", "reason": "the worker was killed", "energy_status": "unsupported"}
    return record(2, measurement=None, process=1, **failed)


def _by_readings() -> Record:
    """Watts from readings alone, running averages and what was read once a second beside them."""
    raw = measurement(seconds=5.0)
    assert raw.power is not None
    power = msgspec.structs.replace(raw.power, average_mw=raw.power.instant_mw)
    slow = SlowTrace(t_ns=(0, 2 * 10**9), power_limit_mw=(700_000, 700_000), thermal_violation_ns=(0, 0))
    return record(3, measurement=msgspec.structs.replace(raw, counter=None, power=power, slow=slow))


def _identified() -> Segment:
    known = SensorIdentity(
        source="nvml", method="measured", update_period_s=0.1, window_s=0.025, average_window_s=1.0, delay_s=0.01,
        counter_covers_all_time=False, rise_s=0.02, gain_uncertainty=0.05,
    )  # fmt: skip
    return segment(sensor=known)


def _sequence() -> Record:
    items = tuple(SequenceItem(problem=PROBLEM, role=role, phase="forward") for role in ("qkv", "out"))
    case = Case(sequence=items, backend="torch", effort="fast", config={"BLOCK_M": 128, "split": True})
    raw: RawMeasurement = measurement(seconds=3.0)
    return record(4, case=case, case_id=case_id(case), measurement=raw)


def _table() -> bytes:
    aggregate = AggregateMeasurement(
        time_s=1e-3, time_s_low=0.9e-3, time_s_high=1.1e-3, power_w=500.0, power_w_low=490.0, power_w_high=510.0,
        energy_j=0.5, window_s=10.0, power_limit_w=700.0, clock_hz=1.5e9, temp_c=60.0, throttle_power=0.5,
    )  # fmt: skip
    return _run(record(5, origin="imported", measurement=aggregate), origin="imported")


def fleet_account() -> bytes:
    """An account of two simulated GPUs, one of them lost."""
    plan = header([record(1)])
    return msgspec.json.encode(
        Account(
            created=plan.created, mode="together", policy=plan.policy, scenarios=("h100",), simulated=(1, 2),
            plans=(SharedPlan(dtype="bf16", cases=plan.plan, suites=plan.suites),),
            gpus=(
                Fate(accelerator="h100", node=0, gpu=0, became="done", board_id="0" * 12, file="sound.jsonl"),
                Fate(accelerator="h100", node=0, gpu=1, became="lost", reason="its node died"),
            ),
        )
    )  # fmt: skip


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


def mixtures() -> list[bytes]:
    """Two kinds of config.json of mixtures of experts: a Mixtral, and a DeepSeek with latent attention."""
    mixtral = {
        "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_hidden_layers": 32, "max_position_embeddings": 8192, "vocab_size": 32000,
        "num_local_experts": 8, "num_experts_per_tok": 2,
    }  # fmt: skip
    deepseek = {
        "model_type": "deepseek_v3", "hidden_size": 2048, "num_attention_heads": 16, "num_hidden_layers": 27,
        "max_position_embeddings": 8192, "vocab_size": 102400, "n_routed_experts": 64, "num_experts_per_tok": 6,
        "n_shared_experts": 2, "moe_intermediate_size": 1408, "first_k_dense_replace": 1, "q_lora_rank": 512,
        "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    }  # fmt: skip
    return [json.dumps(config).encode() for config in (mixtral, deepseek)]


@cache
def calibrations() -> list[bytes]:
    """A calibration with a tree, a process, a prior, watts and a domain; and one from a spec sheet."""
    from flopwatt.analysis.calibrate.calibrating import from_spec_sheet
    from flopwatt.analysis.calibrate.features import SMOOTH_FEATURES
    from flopwatt.analysis.calibrate.forest import Forest
    from flopwatt.analysis.calibrate.power import POWER_SMOOTH_COLUMNS
    from flopwatt.analysis.calibrate.records import Domain, Quantity, Residual, Transfer
    from flopwatt.analysis.calibrate.smooth import Process

    sheet = from_spec_sheet("H100-SXM5-80GB", "0.1.0")
    plain = next(one for one in sheet.fitted if one.dtype == "bf16")
    tree = msgspec.convert(STUMP, type=Forest)

    def process(columns: int) -> Process:
        flat = (0.5,) * columns
        return Process(offset=flat, length=flat, points=(flat, flat), weight=(0.1, -0.1), variance=0.01)

    lent = Transfer(gpu="NVIDIA A100-SXM4-80GB", chip=plain.chip, core=plain.core, trees=Forest(), weight=0.5)
    interval = msgspec.structs.replace(plain.time.interval, spread=tree)
    time = Residual(
        constant=0.01, transfers=(lent,), trees=tree, process=process(SMOOTH_FEATURES + 1), process_share=0.5
    )
    columns = SMOOTH_FEATURES + 1 + POWER_SMOOTH_COLUMNS
    power = Residual(trees=tree, process=process(columns), process_share=0.2)
    full = msgspec.structs.replace(
        plain, time=Quantity(residual=time, interval=interval), power=Quantity(residual=power, interval=interval),
        energy_interval=interval, idle_w=70.0, limit_w=700.0, points=2, left_out={"failed": 1},
        domain=Domain(low=(0, 6, 6, 0, 20), high=(14, 14, 14, 0, 43), layouts=("nt",)), sustained_flop_per_s=6e14,
        shapes=((64, 64, 64, 1), (128, 64, 64, 1)), layouts=("nt", "nt"),
        measured_s=(1e-5, 2e-5), held_out_s=(1e-5, 2e-5),
    )  # fmt: skip
    files = (msgspec.structs.replace(sheet, fitted=(full,)), msgspec.structs.replace(sheet, fitted=(plain,)))
    return [msgspec.json.encode(file) for file in files]


def predicted_shapes() -> list[bytes]:
    """Shapes to predict, with and without the columns that may be left out."""
    return [b"m,n,k\n4096,4096,4096\n1,8192,1024\n", b"m,n,k,batch,dtype,layout\n64,64,64,8,bf16,nt\n8,16,32,,,\n"]


def tuning_store() -> list[bytes]:
    """Two entries of a tuning store."""
    from tuned_entries import SMALL, WIDE, entry, problem

    from flopwatt.measurement.tuned.store import FORMAT

    entries = (entry(problem(), WIDE), entry(problem(m=128), SMALL, origin="measured"))
    return [msgspec.json.encode({"format": FORMAT, "entries": entries})]


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


STUMP = {
    "trees": [{"feature": [0], "threshold": [12.0], "left": [-1], "right": [-2], "value": [0.01, -0.01]}],
    "scale": 1.0,
}

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

RESULTS_INDEX = b"""[[file]]
path = "h100/run.jsonl"
command = "flopwatt run --suite quick -o results/h100/run.jsonl"
shows = "what the quick suite takes"
"""

COMMAND_WORDS = [
    b"\0--suite\nquick",
    b"\0--shape\n64x64x64\n--dtype\nbf16\n--effort\nfast",
    b"\0--budget\n10m\n--inputs\nsparse:0.5\n--seed\n7",
    b"\1--format\njson\nx.jsonl",
    b"\3--model\nllama-3.1-8b\n--seq\n4096\n--tp\n2",
    b"\4sound.jsonl\nsound.jsonl\n--metric\nenergy\n--threshold\n2%",
    b"\5--shape\n64x64x64\n--format\ncsv",
    b"\6sound.jsonl\n--price\nH100=2.5",
    b"\7csv\ntable.csv\n--gpu\nH100\n-o\nimported.jsonl",
    b"\10--gpu\nH100-SXM5-80GB\n-o\nfitted.json",
]
