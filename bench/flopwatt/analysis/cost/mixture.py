"""Mixtures of experts as the dense transformer of their active parameters: an approximation, and marked as one."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from flopwatt.analysis.cost.architecture import Architecture, parameters
from flopwatt.runs.suites.files import complaint, read_json
from flopwatt.runs.suites.huggingface import EXPERT_KEYS, from_config
from flopwatt.runs.suites.model import Model, build_model

_SHIPPED: Final = Path(str(files("flopwatt.analysis.cost"))) / "models"

EXPERTS: Final = {
    "mixtral": ("num_local_experts", "intermediate_size"),
    "qwen2_moe": ("num_experts", "moe_intermediate_size"),
    "qwen3_moe": ("num_experts", "moe_intermediate_size"),
    "olmoe": ("num_experts", "intermediate_size"),
}
"""How a model_type names the number of its experts and the width of one."""

_SHARED_KEY: Final = "shared_expert_intermediate_size"

APPROXIMATION: Final = (
    "a mixture of experts as the dense model of its active parameters: no routing, no exchange between experts"
)


def shipped() -> tuple[str, ...]:
    """Names of the mixtures that have a file here."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def load(name_or_path: str | Path) -> Architecture | None:
    """A mixture by shipped name or Hugging Face config.json; None for what is no mixture. Raises SuiteError."""
    if str(name_or_path) in shipped():
        raw = tomllib.loads((_SHIPPED / f"{name_or_path}.toml").read_text(encoding="utf-8"))
        model = build_model(raw["model"], f"{name_or_path}.toml")
        return _architecture(model, raw["total_parameters"], raw["approximation"])
    path = Path(name_or_path)
    if path.suffix.lower() != ".json":
        return None
    raw = read_json(path)
    keys = EXPERTS.get(str(raw.get("model_type")))
    return None if keys is None else _from_config(raw, keys, path)


def _from_config(raw: dict[str, Any], keys: tuple[str, str], path: Path) -> Architecture:
    experts, used, width = (_size(raw, key, path) for key in (keys[0], "num_experts_per_tok", keys[1]))
    shared = _size(raw, _SHARED_KEY, path) if raw.get(_SHARED_KEY) else 0
    if used > experts:
        raise complaint(path, f"key 'num_experts_per_tok' = {used} exceeds {keys[0]!r} = {experts}: correct one")
    dense = {key: value for key, value in raw.items() if key not in EXPERT_KEYS}
    dense |= {"model_type": "llama", "intermediate_size": used * width + shared}
    model = from_config(dense, path)
    idle = (experts - used) * 3 * width * model.hidden_size * model.num_layers
    return _architecture(model, parameters(model) + idle, APPROXIMATION)


def _architecture(model: Model, total: int, approximation: str) -> Architecture:
    return Architecture(model=model, other_parameters=max(total - parameters(model), 0), approximation=approximation)


def _size(raw: dict[str, Any], key: str, path: Path) -> int:
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise complaint(path, f"key {key!r} is {value!r}: give a positive integer")
    return value
