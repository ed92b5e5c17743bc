"""Published training steps as requests to price, each with its measured figure."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

from flopwatt.analysis.cost.architecture import Architecture, flop_per_sequence, load
from flopwatt.analysis.cost.assumptions import defaults
from flopwatt.analysis.cost.layout import Layout
from flopwatt.analysis.cost.machine import Machine, relinked
from flopwatt.analysis.cost.pricing import Price, Request
from flopwatt.analysis.cost.spans import exactly
from flopwatt.runs.suites import Model

DATA: Final = Path(__file__).resolve().parents[1] / "data"
TOKENS: Final = 1e12
"""Of the whole run, which changes nothing of a step."""

STACK_2021: Final = {"tensor_overlap": 0.0, "data_overlap": 0.0, "pipeline_overlap": 0.0, "gradient_bytes": 2.0}
"""Megatron-LM and Megatron-DeepSpeed of 2021 hide no communication, and reduce gradients in half precision."""

MPT_SIZES: Final = {
    "1b": (2048, 16, 24), "3b": (2560, 20, 32), "7b": (4096, 32, 32),
    "13b": (5120, 40, 40), "30b": (7168, 56, 48), "70b": (8192, 64, 80),
}  # fmt: skip
"""Hidden size, heads and layers: scripts/train/yamls/pretrain of llm-foundry."""


class Row(NamedTuple):
    """One published step. model: what a split keeps together. measured_s: seconds; label: for people."""

    model: str
    label: str
    request: Request
    measured_s: float


@cache
def gpt(hidden: int, heads: int, layers: int, seq: int, vocabulary: int, tied: bool) -> Architecture:
    """A GPT without gates, four times as wide inside."""
    model = Model(
        name=f"gpt-{hidden}x{layers}", source="bench/benchmarks/data/README.md", hidden_size=hidden,
        intermediate_size=4 * hidden, num_heads=heads, num_kv_heads=heads, head_dim=hidden // heads, num_layers=layers,
        vocab_size=vocabulary, gated_mlp=False, tied_embeddings=tied, seq=seq,
    )  # fmt: skip
    return Architecture(model=model)


def llm_foundry(machines: Mapping[str, Machine]) -> list[Row]:
    """FSDP runs of MPT models; seconds from the published utilisation."""
    rows = []
    for raw in _read(DATA / "llm_foundry.csv"):
        machine, gpus, micro_batch = machines[raw["gpu"]], int(raw["gpus"]), int(raw["micro_batch"])
        architecture = gpt(*MPT_SIZES[raw["model"]], 2048, 50368, True)
        layout = Layout(
            dp=gpus, micro_batch=micro_batch, global_batch=micro_batch * gpus * int(raw["grad_accum"]),
            seq=int(raw["seq"]), recompute=raw["recompute"], shard="full",
        )  # type: ignore[arg-type] # fmt: skip
        flop = flop_per_sequence(architecture.model, layout.seq) * layout.global_batch
        measured_s = flop / gpus / (float(raw["mfu_percent"]) / 100 * machine.peak("bf16"))
        request = Request(machine=machine, architecture=architecture, layout=layout, tokens=TOKENS)
        rows.append(Row(raw["model"], f"{raw['model']} {raw['seq']} on {gpus} {raw['gpu']}", request, measured_s))
    return rows


def vtrain_single(machine: Machine, path: Path) -> list[Row]:
    """One server, from vTrain's file: replicas reduce half-precision gradients after the last micro-batch.

    Activations are recomputed on all stages but the last, which with one stage is all there is.
    """
    rows = []
    for raw in _read(path):
        _, batch, micro_batch, hidden, heads, layers, seq, tp, dp, pp, time_ms = (float(text) for text in raw.values())
        layout = Layout(
            tp=int(tp), pp=int(pp), dp=int(dp), micro_batch=int(micro_batch), global_batch=int(batch), seq=int(seq),
            recompute="full", recompute_last=False, attention="unfused", sequence_parallel=False, shard="none",
        )  # fmt: skip
        architecture = gpt(int(hidden), int(heads), int(layers), int(seq), 50257, False)
        request = Request(machine=machine, architecture=architecture, layout=layout, tokens=TOKENS, precision="fp16")
        rows.append(Row(architecture.name, layout.words(), request, time_ms / 1e3))
    return rows


def vtrain_multi(machine: Machine) -> list[Row]:
    """Several servers with Megatron-DeepSpeed; tensor parallelism beyond one server left out."""
    rows = []
    for raw in _read(DATA / "vtrain_multi_node.csv"):
        sizes = {name: int(text) for name, text in raw.items() if name != "time_ms"}
        if sizes["tp"] > machine.link.node:
            continue
        layout = Layout(
            tp=sizes["tp"], pp=sizes["pp"], dp=sizes["dp"], micro_batch=sizes["micro_batch"], seq=sizes["seq"],
            global_batch=sizes["global_batch"], recompute="full", attention="unfused", sequence_parallel=False,
            shard="none",
        )  # fmt: skip
        architecture = gpt(sizes["hidden"], sizes["heads"], sizes["layers"], sizes["seq"], 50257, True)
        request = Request(machine=machine, architecture=architecture, layout=layout, tokens=TOKENS, precision="fp16")
        rows.append(Row(architecture.name, layout.words(), request, float(raw["time_ms"]) / 1e3))
    return rows


def published() -> list[dict[str, Any]]:
    """Entries of published_runs.toml."""
    return list(tomllib.loads((DATA / "published_runs.toml").read_text(encoding="utf-8"))["run"])


def request_of(entry: Mapping[str, Any], machine: Machine) -> Request:
    """The request of an entry of published_runs.toml; where its layout is not published, any will do."""
    layout = Layout(**entry.get("layout", {"global_batch": 1, "seq": 1}))
    architecture = gpt(*entry["gpt"], layout.seq, 51200, True) if "gpt" in entry else load(entry["model"])
    stack = {name: exactly(value) for name, value in STACK_2021.items()} if entry.get("stack") == 2021 else {}
    return Request(
        machine=relinked(machine, entry.get("links", {})), architecture=architecture, layout=layout, tokens=TOKENS,
        assumptions=defaults().with_(stack),
    )  # fmt: skip


def tflops(entry: Mapping[str, Any], request: Request, price: Price) -> float:
    """Predicted TFLOPS a GPU, counted as the entry counts: recomputed layers again where it does, the LM head never."""
    counted = 1.0
    if entry.get("recompute_counted"):
        model, seq = request.architecture.model, price.layout.seq
        head = 6 * seq * model.hidden_size * model.vocab_size / flop_per_sequence(model, seq)
        counted = (4 - head) / 3
    return price.flop_per_s_per_gpu.value * counted / 1e12


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))
