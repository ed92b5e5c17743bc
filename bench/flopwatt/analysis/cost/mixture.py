"""Mixtures of experts as the dense transformer of their active parameters: an approximation, and marked as one."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, NamedTuple

from flopwatt.analysis.cost.architecture import Architecture, parameters
from flopwatt.runs.suites.files import complaint, read_json
from flopwatt.runs.suites.huggingface import EXPERT_KEYS, from_config
from flopwatt.runs.suites.model import Model, build_model
from gemmkernels.problem import MAX_DIMENSION

_SHIPPED: Final = Path(str(files("flopwatt.analysis.cost"))) / "models"


class Experts(NamedTuple):
    """How a model_type names the number of its experts and the width of one. latent: whether its attention is (MLA)."""

    number: str
    width: str
    latent: bool = False


EXPERTS: Final = {
    "mixtral": Experts("num_local_experts", "intermediate_size"),
    "qwen2_moe": Experts("num_experts", "moe_intermediate_size"),
    "qwen3_moe": Experts("num_experts", "moe_intermediate_size"),
    "olmoe": Experts("num_experts", "intermediate_size"),
    "deepseek_v2": Experts("n_routed_experts", "moe_intermediate_size", latent=True),
    "deepseek_v3": Experts("n_routed_experts", "moe_intermediate_size", latent=True),
}
"""By `model_type`."""

_SHARED_WIDTH: Final = "shared_expert_intermediate_size"
_SHARED_COUNT: Final = "n_shared_experts"
_DENSE_LAYERS: Final = "first_k_dense_replace"

KV_HEADS: Final = 8
"""Of the grouped-query attention that stands for a latent one."""

APPROXIMATION: Final = (
    "a mixture of experts as the dense model of its active parameters: no routing, no exchange between experts"
)
LATENT: Final = f"{APPROXIMATION}, attention of as many parameters"


def shipped() -> tuple[str, ...]:
    """Names of the mixtures that have a file here."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def load(name_or_path: str | Path) -> Architecture | None:
    """A mixture by shipped name or Hugging Face config.json; None for what is no mixture. Raises SuiteError."""
    if str(name_or_path) in shipped():
        raw = tomllib.loads((_SHIPPED / f"{name_or_path}.toml").read_text(encoding="utf-8"))
        model = build_model(raw["model"], f"{name_or_path}.toml")
        return _architecture(model, raw["total_parameters"], LATENT)
    path = Path(name_or_path)
    if path.suffix.lower() != ".json":
        return None
    config = read_json(path)
    experts = EXPERTS.get(str(config.get("model_type")))
    return None if experts is None else _from_config(config, experts, path)


def _from_config(raw: dict[str, Any], keys: Experts, path: Path) -> Architecture:
    experts, used, width = (_size(raw, key, path) for key in (keys.number, "num_experts_per_tok", keys.width))
    if used > experts:
        raise complaint(path, f"key 'num_experts_per_tok' = {used} exceeds {keys.number!r} = {experts}: correct one")
    shared = _size(raw, _SHARED_WIDTH, path) if raw.get(_SHARED_WIDTH) else 0
    shared += width * _size(raw, _SHARED_COUNT, path) if raw.get(_SHARED_COUNT) else 0
    dense = {key: value for key, value in raw.items() if key not in EXPERT_KEYS}
    dense |= {"model_type": "llama", "intermediate_size": used * width + shared}
    if keys.latent:
        dense |= _grouped(raw, path)
    model = from_config(dense, path)
    first = _size(raw, _DENSE_LAYERS, path) if raw.get(_DENSE_LAYERS) else 0
    idle = (experts - used) * 3 * width * model.hidden_size * max(model.num_layers - first, 0)
    return _architecture(model, parameters(model) + idle, LATENT if keys.latent else APPROXIMATION)


def _grouped(raw: dict[str, Any], path: Path) -> dict[str, int]:
    """Heads of grouped-query attention that has, but for rounding, as many parameters as a config's latent attention.

    Latent attention projects to a low rank and from there to all heads, keys with a part of their own for positions
    (DeepSeek-V2, arXiv:2405.04434, section 2.1).
    """
    names = ("hidden_size", "num_attention_heads", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    hidden, heads, rank, plain, rotary, value = (_size(raw, name, path) for name in names)
    query, own = heads * (plain + rotary), raw.get("q_lora_rank")
    queries = hidden * query if own is None else _size(raw, "q_lora_rank", path) * (hidden + query)
    keys = hidden * (rank + rotary) + rank * heads * (plain + value)
    projections = (queries + keys + heads * value * hidden) / (2 * hidden * value)
    groups = max(round((projections - KV_HEADS) / KV_HEADS), 1)
    return {"num_attention_heads": groups * KV_HEADS, "num_key_value_heads": KV_HEADS, "head_dim": value}


def _architecture(model: Model, total: int, approximation: str) -> Architecture:
    return Architecture(model=model, other_parameters=max(total - parameters(model), 0), approximation=approximation)


def _size(raw: dict[str, Any], key: str, path: Path) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_DIMENSION:
        raise complaint(path, f"key {key!r} is {value!r}: give an integer from 1 to {MAX_DIMENSION}")
    return value
