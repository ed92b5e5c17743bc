"""A transformer as a price sees it: its GEMM sizes, its parameters, its floating-point operations a token."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from flopwatt.errors import SuiteError
from flopwatt.runs.suites import Model, linear_parameters, load_model, training_gemms

UNVERIFIED: Final = "unverified:"
"""How the source of a model begins whose sizes are not published as text."""


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    """A model to train.

    model: the dense transformer that a token passes through. other_parameters: those a token does not use, which only
    take memory and communication (the idle experts of a mixture). approximation: what is not as in the real model;
    None where nothing is.
    """

    model: Model
    other_parameters: int = 0
    approximation: str | None = None

    @property
    def name(self) -> str:
        """The model's own."""
        return self.model.name

    @property
    def active_parameters(self) -> int:
        """Parameters that a token uses: linear layers, embeddings and norms; the vocabulary unpadded."""
        return parameters(self.model)

    @property
    def total_parameters(self) -> int:
        """All parameters, those of idle experts included."""
        return self.active_parameters + self.other_parameters


def load(name_or_path: str | Path) -> Architecture:
    """An architecture by a shipped name, a TOML model file or a Hugging Face config.json. Raises SuiteError.

    Mixtures of experts become the dense transformer of their active parameters, and say so, as do sizes that the source
    of a model calls unverified.
    """
    from flopwatt.analysis.cost import mixture

    found = mixture.load(name_or_path)
    if found is not None:
        return found
    try:
        model = load_model(name_or_path)
    except SuiteError as error:
        if Path(name_or_path).suffix:
            raise
        raise SuiteError(f"{error}; or a mixture of experts: {', '.join(mixture.shipped())}") from None
    return Architecture(model=model, approximation=model.source if model.source.startswith(UNVERIFIED) else None)


@cache
def parameters(model: Model) -> int:
    """Parameters of a dense model: linear layers, one or two embedding tables, two norms a layer and a last one."""
    whole = unsplit(model)
    padding = (whole.padded_vocab_size - whole.vocab_size) * whole.hidden_size
    linear = linear_parameters(whole) - padding
    embedding = 0 if model.tied_embeddings else model.vocab_size * model.hidden_size
    return linear + embedding + (2 * model.num_layers + 1) * model.hidden_size


@cache
def flop_per_sequence(model: Model, seq: int) -> int:
    """Floating-point operations to train on one sequence of `seq` tokens, as the suite generator counts them.

    Forward and both gradients of all linear layers, of the LM head and of attention, whose masked half is counted, as
    in published MFU; nothing recomputed.
    """
    whole = unsplit(model).with_(seq=seq, micro_batch=1)
    return sum(item.flop for item in training_gemms(whole))


def unsplit(model: Model) -> Model:
    """The same model on one rank."""
    return model.with_(tensor_parallel=1)
