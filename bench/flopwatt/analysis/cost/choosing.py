"""Which layouts are possible, which of them is fastest, and which comes nearest to one that is not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from flopwatt.analysis.cost import memory
from flopwatt.analysis.cost.architecture import Architecture
from flopwatt.analysis.cost.assumptions import Assumptions
from flopwatt.analysis.cost.layout import RECOMPUTE, SHARD, Attention, Layout, Recompute, Shard, indivisible, stages
from flopwatt.analysis.cost.machine import Machine
from flopwatt.analysis.cost.pricing import Price, Request, price_all
from flopwatt.errors import LayoutRefused

LARGE_PARAMETERS: Final = 100e9
"""Where the usual batch becomes that of a larger model."""

MOST_BATCH: Final = 1.5
"""How far the batch of a layout may exceed the usual one."""

TENSOR: Final = (1, 2, 4, 8)
CHUNKS: Final = (1, 2, 3, 4, 5, 6, 7, 8)
MICRO_BATCHES: Final = (1, 2, 4, 8, 16)
"""What is tried where nothing is fixed: tensor parallelism within a server alone."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What a user fixes of a layout; None is free. seq: None for the model's own."""

    gpus: int
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    vp: int | None = None
    micro_batch: int | None = None
    global_batch: int | None = None
    seq: int | None = None
    recompute: Recompute | None = None
    shard: Shard | None = None
    attention: Attention = "flash"


class Refusal(msgspec.Struct, frozen=True):
    """Why a layout cannot be. needed_bytes: of a GPU's memory, where that alone is why."""

    reason: str
    needed_bytes: float = math.inf


def refusal(architecture: Architecture, layout: Layout, machine: Machine, assumptions: Assumptions) -> Refusal | None:
    """Why a layout cannot be; None where it can."""
    reason = next(indivisible(architecture, layout), None)
    if reason is not None:
        return Refusal(reason)
    needed = memory.needed(architecture, layout, assumptions).total
    usable = assumptions["usable_memory"].value * machine.spec.memory_bytes
    if needed <= usable:
        return None
    shown = f"memory does not fit: {needed / 2**30:.0f} GiB needed of {usable / 2**30:.0f} GiB usable on a GPU"
    return Refusal(shown, needed)


def choose(request: Request, wanted: Wanted) -> Price:
    """The fastest possible layout of what is wanted, priced; `request` gives the rest.

    Raises LayoutRefused, with the reason and the nearest layout that works, where none is possible.
    """
    architecture, machine, assumptions = request.architecture, request.machine, request.assumptions
    found = list(_possible(architecture, wanted, machine, assumptions))
    if not found:
        raise LayoutRefused(_refused(request, wanted))
    prices = price_all([msgspec.structs.replace(request, layout=layout) for layout in found])
    return min(prices, key=_s_per_token)


def batch_sequences(architecture: Architecture, wanted: Wanted, assumptions: Assumptions) -> float:
    """Sequences of one step: as stated, else those of the usual number of tokens."""
    if wanted.global_batch is not None:
        return wanted.global_batch
    large = architecture.total_parameters >= LARGE_PARAMETERS
    tokens = assumptions["large_batch_tokens" if large else "batch_tokens"].value
    return tokens / (wanted.seq or architecture.model.seq)


def _possible(
    architecture: Architecture, wanted: Wanted, machine: Machine, assumptions: Assumptions
) -> Iterator[Layout]:
    for layout in _candidates(architecture, wanted, assumptions):
        if refusal(architecture, layout, machine, assumptions) is None:
            yield layout


def _candidates(architecture: Architecture, wanted: Wanted, assumptions: Assumptions) -> Iterator[Layout]:
    """Every layout of the wanted GPUs that keeps what is fixed, possible or not."""
    layers = architecture.model.num_layers
    sequences = batch_sequences(architecture, wanted, assumptions)
    for tp, pp in itertools.product(_one_of(wanted.tp, TENSOR), _one_of(wanted.pp, range(1, layers + 1))):
        dp, left = divmod(wanted.gpus, tp * pp)
        if left or (wanted.dp is not None and dp != wanted.dp) or (wanted.pp is None and stages(layers, pp) is None):
            continue
        kinds = itertools.product(
            _one_of(wanted.vp, CHUNKS if pp > 1 else (1,)), _one_of(wanted.micro_batch, MICRO_BATCHES),
            _one_of(wanted.recompute, RECOMPUTE), _one_of(wanted.shard, _shards(dp)),
        )  # fmt: skip
        for vp, micro_batch, recompute, shard in kinds:
            yield Layout(
                tp=tp, pp=pp, dp=dp, vp=vp, micro_batch=micro_batch, recompute=recompute, shard=shard,
                global_batch=_batch(sequences, dp * micro_batch * (pp if vp > 1 else 1), wanted.global_batch),
                seq=wanted.seq or architecture.model.seq, attention=wanted.attention,
            )  # fmt: skip


def _one_of(fixed: int | str | None, free: Sequence[object]) -> Sequence:  # type: ignore[type-arg]
    return free if fixed is None else (fixed,)


def _shards(dp: int) -> Sequence[Shard]:
    return SHARD[1:] if dp > 1 else SHARD[:1]


def _batch(sequences: float, multiple: int, stated: int | None) -> int:
    """The stated batch, or the multiple nearest to the usual one; at most half as much again, or it is refused."""
    if stated is not None:
        return stated
    nearest = round(sequences / multiple) * multiple
    return nearest if 0 < nearest <= MOST_BATCH * sequences else math.floor(sequences)


def _refused(request: Request, wanted: Wanted) -> str:
    architecture, machine, assumptions = request.architecture, request.machine, request.assumptions
    tried = list(_candidates(architecture, wanted, assumptions))
    if not tried:
        fixed = " × ".join(f"{name}={getattr(wanted, name)}" for name in ("tp", "pp", "dp") if getattr(wanted, name))
        reason = f"{fixed or 'no layout'} does not make {wanted.gpus} GPUs"
    else:
        reasons = [refusal(architecture, one, machine, assumptions) for one in tried]
        reason = min((one for one in reasons if one), key=lambda one: one.needed_bytes).reason
    near = _nearest(request, wanted)
    remedy = f"the nearest that works is {near.gpus} GPUs as {near.words()}" if near else "no layout of it works"
    return f"{architecture.name} on {wanted.gpus} {machine.name}: {reason}; {remedy}"


def _nearest(request: Request, wanted: Wanted) -> Layout | None:
    """The possible layout nearest to what was wanted: other degrees first, then another number of GPUs.

    Of those equally near, the fastest.
    """
    free = msgspec.structs.replace(
        wanted, tp=None, pp=None, dp=None, vp=None, micro_batch=None, recompute=None, shard=None
    )
    for gpus in (wanted.gpus, _nearest_gpus(request, free)):
        if gpus is None:
            return None
        asked = msgspec.structs.replace(free, gpus=gpus)
        found = list(_possible(request.architecture, asked, request.machine, request.assumptions))
        if found:
            least = min(_distance(one, wanted) for one in found)
            near = [one for one in found if _distance(one, wanted) == least]
            prices = price_all([msgspec.structs.replace(request, layout=layout) for layout in near])
            return min(prices, key=_s_per_token).layout
    return None


def _nearest_gpus(request: Request, free: Wanted) -> int | None:
    """The number of GPUs nearest to the wanted one, in doublings, on which some layout is possible.

    Tried are layouts that take the least memory that any of the same degrees does.
    """
    model = request.architecture.model
    sequences = batch_sequences(request.architecture, free, request.assumptions)
    leanest: list[Layout] = []
    for tp, pp in itertools.product(TENSOR, range(1, model.num_layers + 1)):
        if stages(model.num_layers, pp) is None:
            continue
        for dp in _replicas(free.gpus / (tp * pp), sequences, free.global_batch):
            leanest.append(Layout(
                tp=tp, pp=pp, dp=dp, recompute="full", shard=_shards(dp)[-1], seq=free.seq or model.seq,
                global_batch=_batch(sequences, dp, free.global_batch), attention=free.attention,
            ))  # fmt: skip
    leanest.sort(key=lambda one: abs(math.log2(one.gpus / free.gpus)))
    possible = (
        one.gpus for one in leanest if refusal(request.architecture, one, request.machine, request.assumptions) is None
    )
    return next(possible, None)


def _replicas(wanted: float, sequences: float, stated: int | None) -> Iterator[int]:
    """Data-parallel degrees to try: those next to the wanted one that the batch allows, and powers of two."""
    most = stated or max(1, math.floor(MOST_BATCH * sequences))
    powers = (2**power for power in range(most.bit_length()))
    near = min(max(1, math.floor(wanted)), most)
    for dp in {near, min(near + 1, most), most, *powers}:
        if stated is None or stated % dp == 0:
            yield dp
    if stated is not None:
        below = (dp for dp in range(near, 0, -1) if stated % dp == 0)
        above = (dp for dp in range(near + 1, stated + 1) if stated % dp == 0)
        yield from itertools.chain(itertools.islice(below, 1), itertools.islice(above, 1))


def _s_per_token(price: Price) -> float:
    return price.step_total_s.value / price.layout.tokens


def _distance(layout: Layout, wanted: Wanted) -> float:
    """How far a layout is from what was fixed, in doublings of its degrees; another way of sharding counts as one."""
    far = 0.0
    for name in ("tp", "pp", "dp", "vp", "micro_batch"):
        fixed = getattr(wanted, name)
        far += abs(math.log2(getattr(layout, name) / fixed)) if fixed else 0.0
    for name in ("recompute", "shard"):
        fixed = getattr(wanted, name)
        far += fixed is not None and getattr(layout, name) != fixed
    return far
