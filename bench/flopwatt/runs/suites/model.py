"""A dense transformer as the sizes that fix its GEMMs, read from TOML model files or a Hugging Face config.json."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec

from flopwatt.errors import SuiteError
from flopwatt.runs.suites.files import complaint, convert, read_toml

_SHIPPED: Final = Path(str(files("flopwatt.runs.suites"))) / "models"

Size = Annotated[int, msgspec.Meta(ge=1, le=2**24)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+\Z")]


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dense decoder-only transformer and how it is trained: everything its GEMM shapes follow from.

    hidden_size: width of the residual stream. intermediate_size: width inside the feed-forward block, of one of the
    two branches when `gated_mlp` (SwiGLU, GeGLU). num_kv_heads: less than num_heads under grouped-query attention.
    head_dim: width of one head, which need not be hidden_size / num_heads. vocab_size: as published, before padding.
    tied_embeddings: whether the LM head shares the embedding's weights, which changes no GEMM. seq: tokens of one
    sequence. micro_batch: sequences of one micro-batch. tensor_parallel: ranks that share each layer.
    source: where the sizes are published.

    Raises SuiteError where the heads or the feed-forward width cannot be shared out.
    """

    name: Name
    source: Annotated[str, msgspec.Meta(min_length=1)]
    hidden_size: Size
    intermediate_size: Size
    num_heads: Size
    num_kv_heads: Size
    head_dim: Size
    num_layers: Size
    vocab_size: Size
    gated_mlp: bool
    tied_embeddings: bool
    seq: Size
    micro_batch: Size = 1
    tensor_parallel: Size = 1

    def __post_init__(self) -> None:
        tp = self.tensor_parallel
        if self.num_heads % self.num_kv_heads:
            raise SuiteError(
                f"num_kv_heads = {self.num_kv_heads} does not divide num_heads = {self.num_heads}: correct one of them"
            )
        for key in ("num_heads", "intermediate_size"):
            if getattr(self, key) % tp:
                raise SuiteError(
                    f"{key} = {getattr(self, key)} cannot be split over tensor_parallel = {tp}: choose a divisor of it"
                )
        if self.num_kv_heads % tp and tp % self.num_kv_heads:
            raise SuiteError(
                f"num_kv_heads = {self.num_kv_heads} can be neither split nor copied evenly over "
                f"tensor_parallel = {tp}: choose a divisor or a multiple of it"
            )

    @property
    def tokens(self) -> int:
        """Tokens of one micro-batch."""
        return self.micro_batch * self.seq

    @property
    def padded_vocab_size(self) -> int:
        """The vocabulary rounded up to a multiple of 128 × tensor_parallel, as Megatron-LM pads it."""
        multiple = 128 * self.tensor_parallel
        return -(-self.vocab_size // multiple) * multiple

    @property
    def kv_heads_per_rank(self) -> int:
        """K/V heads that one rank computes; with fewer K/V heads than ranks, several ranks hold a copy of one."""
        return max(1, self.num_kv_heads // self.tensor_parallel)

    def with_(
        self, *, seq: int | None = None, micro_batch: int | None = None, tensor_parallel: int | None = None
    ) -> Model:
        """The same model trained otherwise; None keeps a value. Raises SuiteError for values it cannot have."""
        changes = {"seq": seq, "micro_batch": micro_batch, "tensor_parallel": tensor_parallel}
        raw = msgspec.structs.asdict(self) | {key: value for key, value in changes.items() if value is not None}
        return build_model(raw, f"model {self.name}")


def build_model(raw: dict[str, Any], where: object) -> Model:
    """A Model from its fields. Raises SuiteError naming `where` and the key at fault."""
    return convert(raw, Model, where)


def list_models() -> tuple[str, ...]:
    """Names of the shipped models, sorted."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.toml")))


def load_model(name_or_path: str | Path, *, base: Path | None = None) -> Model:
    """A model by its shipped name, by a .toml model file or by a Hugging Face config.json.

    A relative path is taken from `base`, by default the working directory. Raises SuiteError.
    """
    text = str(name_or_path)
    if text in list_models():
        return build_model(read_toml(_SHIPPED / f"{text}.toml"), f"{text}.toml")
    path = Path(base or "", name_or_path)
    suffix = path.suffix.lower()
    if suffix == ".toml":
        return build_model(read_toml(path), path)
    if suffix == ".json":
        from flopwatt.runs.suites.huggingface import from_hf_config

        return from_hf_config(path)
    raise complaint(
        f"unknown model {text!r}",
        f"choose one of {', '.join(list_models())}, or give the path of a .toml model file or a config.json",
    )
