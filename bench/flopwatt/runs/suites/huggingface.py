"""Reads the config.json of a Hugging Face model into a Model, for the dense decoder architectures named here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flopwatt.runs.suites.files import complaint, read_json
from flopwatt.runs.suites.model import Model, build_model
from flopwatt.text import printable

DEFAULT_MAX_SEQ: Final = 8192
"""A context window is often far longer than the sequences a model was trained on; `--seq` says otherwise."""


@dataclass(frozen=True, slots=True)
class _Architecture:
    """How one model_type names its sizes, and what its library assumes where config.json is silent.

    An empty key means the sizes follow from others: kv_heads from heads, head_dim from hidden / heads.
    need_*: the library assumes a number of its own there, so the file has to say it.
    """

    hidden: str = "hidden_size"
    intermediate: str = "intermediate_size"
    heads: str = "num_attention_heads"
    kv_heads: str = "num_key_value_heads"
    layers: str = "num_hidden_layers"
    positions: str = "max_position_embeddings"
    head_dim: str = "head_dim"
    gated: bool = True
    tied: bool = False
    need_kv_heads: bool = False
    need_head_dim: bool = False
    inner_is_4x: bool = False


_LLAMA: Final = _Architecture()
_GEMMA: Final = _Architecture(tied=True, need_kv_heads=True, need_head_dim=True)

ARCHITECTURES: Final[dict[str, _Architecture]] = {
    "llama": _LLAMA,
    "mistral": _Architecture(need_kv_heads=True),
    "qwen2": _Architecture(need_kv_heads=True),
    "qwen3": _Architecture(need_kv_heads=True, need_head_dim=True),
    "gemma": _GEMMA,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "granite": _LLAMA,
    "olmo": _LLAMA,
    "olmo2": _LLAMA,
    "phi3": _LLAMA,
    "gpt2": _Architecture(
        hidden="n_embd",
        intermediate="n_inner",
        heads="n_head",
        kv_heads="",
        layers="n_layer",
        positions="n_positions",
        head_dim="",
        gated=False,
        tied=True,
        inner_is_4x=True,
    ),
    "gpt_neox": _Architecture(kv_heads="", head_dim="", gated=False),
    "opt": _Architecture(intermediate="ffn_dim", kv_heads="", head_dim="", gated=False, tied=True),
}
"""By `model_type`, as the classes of the transformers library define it."""

EXPERT_KEYS: Final = (
    "num_local_experts",
    "num_experts",
    "n_routed_experts",
    "moe_num_experts",
    "moe_intermediate_size",
)
"""Keys that make a config.json a mixture of experts."""


def from_hf_config(
    path: str | Path, *, seq: int | None = None, micro_batch: int = 1, tensor_parallel: int = 1
) -> Model:
    """The Model that a Hugging Face config.json describes.

    seq defaults to the context window, at most `DEFAULT_MAX_SEQ`. head_dim is taken as the file gives it (it need not
    be hidden / heads: Gemma and Qwen3 differ) and follows from hidden / heads only where the library does so too.
    Raises SuiteError, naming the key, for a missing or wrong one, a mixture of experts, a multimodal wrapper or an
    architecture not in `ARCHITECTURES`.
    """
    path = Path(path)
    return from_config(read_json(path), path, seq=seq, micro_batch=micro_batch, tensor_parallel=tensor_parallel)


def from_config(
    raw: dict[str, Any], path: Path, *, seq: int | None = None, micro_batch: int = 1, tensor_parallel: int = 1
) -> Model:
    """The Model that a config.json already read describes; path: where it lies. As `from_hf_config`."""
    config = _Config(path, raw)
    arch = config.architecture()
    hidden, heads = config.size(arch.hidden), config.size(arch.heads)
    config.refuse_embedding_projection(hidden)
    sizes = {
        "name": printable(config.name()),
        "source": printable(f"Hugging Face {path.name}, model_type {config.raw['model_type']}"),
        "hidden_size": hidden,
        "intermediate_size": config.size(arch.intermediate, default=4 * hidden if arch.inner_is_4x else None),
        "num_heads": heads,
        "num_kv_heads": config.size(arch.kv_heads, default=None if arch.need_kv_heads else heads),
        "head_dim": config.head_dim(arch, hidden, heads),
        "num_layers": config.size(arch.layers),
        "vocab_size": config.size("vocab_size"),
        "gated_mlp": arch.gated,
        "tied_embeddings": config.flag("tie_word_embeddings", default=arch.tied),
        "seq": seq if seq is not None else min(config.size(arch.positions), DEFAULT_MAX_SEQ),
        "micro_batch": micro_batch,
        "tensor_parallel": tensor_parallel,
    }
    return build_model(sizes, path)


@dataclass(frozen=True, slots=True)
class _Config:
    """The parsed file, and the questions asked of it. `null` counts as absent, as the library treats it."""

    path: Path
    raw: dict[str, Any]

    def architecture(self) -> _Architecture:
        known = ", ".join(ARCHITECTURES)
        model_type = self.raw.get("model_type")
        if not isinstance(model_type, str):
            raise complaint(self.path, f"missing key 'model_type': add it, one of {known}")
        for key in EXPERT_KEYS:
            if self.raw.get(key) not in (None, 0, 1):
                raise complaint(
                    self.path, f"key {key!r} makes it a mixture of experts, not supported: give a dense model"
                )
        if isinstance(self.raw.get("text_config"), dict):
            raise complaint(
                self.path, "key 'text_config' makes it a multimodal model: save that object as a config.json of its own"
            )
        if model_type not in ARCHITECTURES:
            raise complaint(
                self.path,
                f"model_type {model_type!r} is not supported: write a .toml model file, or use one of {known}",
            )
        return ARCHITECTURES[model_type]

    def size(self, key: str, *, default: int | None = None) -> int:
        value = self.raw.get(key) if key else None
        if value is None and default is not None:
            return default
        if value is None:
            raise complaint(self.path, f"missing key {key!r}: add it")
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise complaint(self.path, f"key {key!r} is {value!r}: give a positive integer")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        value = self.raw.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise complaint(self.path, f"key {key!r} is {value!r}: give true or false")
        return value

    def head_dim(self, arch: _Architecture, hidden: int, heads: int) -> int:
        if arch.need_head_dim or (arch.head_dim and self.raw.get(arch.head_dim) is not None):
            return self.size(arch.head_dim)
        if hidden % heads:
            raise complaint(
                self.path, f"key {arch.hidden!r} = {hidden} is no multiple of {arch.heads!r} = {heads}: correct one"
            )
        return hidden // heads

    def refuse_embedding_projection(self, hidden: int) -> None:
        if self.size("word_embed_proj_dim", default=hidden) != hidden:
            raise complaint(
                self.path,
                "key 'word_embed_proj_dim' differs from 'hidden_size', not supported: write a .toml model file",
            )

    def name(self) -> str:
        given = self.raw.get("_name_or_path")
        if isinstance(given, str) and given.strip("/ "):
            return given.rstrip("/ ").rsplit("/", 1)[-1]
        if self.path.stem != "config":
            return self.path.stem
        # A repository is usually downloaded as its folder, where every file is called config.json. A home folder's
        # name is a person's, and stays out of run files.
        folder = self.path.resolve().parent
        return str(self.raw["model_type"]) if folder in (Path.home(), Path("/")) else folder.name
