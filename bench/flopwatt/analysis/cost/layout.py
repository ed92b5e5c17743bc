"""How a training step is spread over GPUs, and why some spreads cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from flopwatt.analysis.cost.architecture import Architecture
from flopwatt.errors import InputError

Recompute = Literal["none", "selective", "full"]
Shard = Literal["none", "optimizer", "full"]
Attention = Literal["flash", "unfused"]

RECOMPUTE: Final[tuple[Recompute, ...]] = ("none", "selective", "full")
SHARD: Final[tuple[Shard, ...]] = ("none", "optimizer", "full")

_DEGREE: Final = re.compile(r"\s*(tp|pp|dp|vp)\s*=\s*([1-9][0-9]{0,6})\s*")


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """One way to train on tp × pp × dp GPUs.

    tp, pp, dp: tensor-, pipeline- and data-parallel degrees. vp: model chunks a pipeline stage holds (interleaving).
    micro_batch: sequences of one micro-batch on one replica. global_batch: sequences of one step. seq: tokens of one
    sequence. recompute: activations made again in the backward pass: `none`, `selective` (what norms, activation
    functions and unfused scores put out) or `full` (whole layers). recompute_last: also on the last stage, whose
    backward pass follows at once. sequence_parallel: norms and residuals split over tp too. shard: what is split over
    dp: `none`, `optimizer` (its states) or `full` (parameters and gradients too, gathered for every micro-batch).
    attention: `flash` (fused, skips the masked half) or `unfused` (batched GEMMs and a softmax).
    """

    tp: int = 1
    pp: int = 1
    dp: int = 1
    vp: int = 1
    micro_batch: int = 1
    global_batch: int
    seq: int
    recompute: Recompute = "none"
    recompute_last: bool = True
    sequence_parallel: bool = True
    shard: Shard = "optimizer"
    attention: Attention = "flash"

    @property
    def gpus(self) -> int:
        """How many it takes."""
        return self.tp * self.pp * self.dp

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.global_batch * self.seq

    @property
    def micro_batches(self) -> int:
        """Micro-batches that each replica runs in one step."""
        return self.global_batch // (self.dp * self.micro_batch)

    def words(self) -> str:
        """tp, pp, dp and the rest, as one line."""
        interleaved = f", {self.vp} chunks a stage" if self.vp > 1 else ""
        return (
            f"tp={self.tp},pp={self.pp},dp={self.dp}{interleaved}, micro-batch {self.micro_batch}, "
            f"batch {self.global_batch} × {self.seq}, recompute {self.recompute}, sharded {self.shard}"
        )


def parse_degrees(text: str) -> dict[str, int]:
    """`tp=8,pp=16,dp=128`, and maybe `vp=4`, as a mapping. Raises InputError."""
    degrees: dict[str, int] = {}
    for part in text.split(","):
        found = _DEGREE.fullmatch(part)
        if not found or found[1] in degrees:
            raise InputError(f"--parallel {text!r}: write tp=8,pp=16,dp=128, each once; vp=4 interleaves")
        degrees[found[1]] = int(found[2])
    return degrees


def stages(layers: int, pp: int) -> tuple[int, int, int] | None:
    """Layers of the first, of an inner and of the last stage; None where they cannot be shared out.

    Equal shares; else one layer less on the first and on the last stage, which hold the embedding and the LM head, as
    Llama 3 405B was trained (arXiv:2407.21783).
    """
    if layers % pp == 0:
        return layers // pp, layers // pp, layers // pp
    if pp > 2 and (layers + 2) % pp == 0 and (layers + 2) // pp > 1:
        inner = (layers + 2) // pp
        return inner - 1, inner, inner - 1
    return None


def indivisible(architecture: Architecture, layout: Layout) -> Iterator[str]:
    """Why the degrees do not divide the model or the batch; nothing where they do."""
    model, tp, pp = architecture.model, layout.tp, layout.pp
    for what, size in (("heads", model.num_heads), ("feed-forward width", model.intermediate_size)):
        if size % tp:
            yield f"tp={tp} does not divide its {what}, {size}"
    if model.num_kv_heads % tp and tp % model.num_kv_heads:
        yield f"its {model.num_kv_heads} K/V heads can be neither split nor copied evenly over tp={tp}"
    shared = stages(model.num_layers, pp)
    if shared is None:
        yield f"pp={pp} does not divide its {model.num_layers} layers, nor {model.num_layers} + 2"
    elif layout.vp > 1 and (pp == 1 or max(shared) % layout.vp):
        yield f"{max(shared)} layers a stage are no {layout.vp} equal chunks" if pp > 1 else "vp needs a pipeline"
    replicas = layout.dp * layout.micro_batch
    if replicas > layout.global_batch:
        yield (
            f"more GPUs than batch: dp={layout.dp} × micro-batch {layout.micro_batch} exceeds the "
            f"{layout.global_batch} sequences of a step"
        )
    elif layout.global_batch % replicas:
        yield f"dp={layout.dp} × micro-batch {layout.micro_batch} does not divide the batch of {layout.global_batch}"
    elif layout.vp > 1 and layout.micro_batches % pp:
        yield f"interleaving runs micro-batches in groups of pp={pp}, of which {layout.micro_batches} is no multiple"
