"""Suites: named lists of GEMMs to measure together, shipped as TOML, derived from a model, or a user's own file.

A suite file is TOML. Its GEMMs come either from `[[gemm]]` tables,

    description = "the two GEMMs of my adapter"
    tokens = 4096                 # tokens of one step: gives joules per token, and makes the totals a headline
    [[gemm]]
    m = 4096                      # required: m, n, k
    n = 64
    k = 4096
    batch = 1                     # independent GEMMs of this shape
    layout = "nt"                 # nn, nt, tn; default nn, for fp8 and int8 nt
    role = "adapter_down"         # a name of your own
    phase = "forward"             # forward, input_grad, weight_grad
    count = 64                    # how often one step runs it
    dtype = "bf16"                # default: what the command line asks for; also out_dtype and scaling

or from a model, by shipped name or by a file's path relative to this one:

    model = "llama-3.1-8b"
    seq = 4096                    # these three replace the model's own
    micro_batch = 2
    tensor_parallel = 4
    layers = 1                    # count only so many layers
    lm_head = false               # leave out the LM head,
    attention = false             # attention's batched GEMMs,
    sequence = false              # or the replay of one layer's GEMMs in order

Beside either: `name` (default the file's name), `description`, `effort` (fast, normal, publish), `regimes` (default
["sustained"]), `in_order` (measure the GEMMs as they are listed, not the largest first). Keys in a `[cpu]` table
replace those of the file where a CPU is measured.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from flopwatt.errors import InputError, SuiteError
from flopwatt.runs.records import EffortName, Phase, Regime, SequenceItem
from flopwatt.runs.suites.files import complaint, convert, read_toml
from flopwatt.runs.suites.model import Model, Name, Size, list_models, load_model
from flopwatt.runs.suites.transformer import SuiteItem, make_problem, sequence, training_gemms
from flopwatt.text import printable
from gemmkernels.problem import DTYPES, Problem, ProblemError

_SHIPPED: Final = Path(str(files("flopwatt.runs.suites")))
_SHAPE: Final = re.compile(r"-?[0-9]{1,18}(?:[xX×]-?[0-9]{1,18}){2,3}")
_MODEL_KEYS: Final = ("seq", "micro_batch", "tensor_parallel", "layers", "lm_head", "attention", "sequence")

DeviceKind: TypeAlias = Literal["cuda", "cpu"]


@dataclass(frozen=True, slots=True)
class Suite:
    """GEMMs to measure together.

    effort, regimes: what the suite asks for where the command line is silent. sequence: one layer's GEMMs to replay
    in order, empty for none. tokens: tokens of one step, which `count` of each item refers to, or None. model: the
    model it derives from. layers: how many of the model's layers the counts cover. dtype: the format it was asked for.
    in_order: its items are to be measured as they are listed, so that a budget cuts off the last.
    """

    name: str
    description: str
    items: tuple[SuiteItem, ...]
    effort: EffortName | None = None
    regimes: tuple[Regime, ...] = ("sustained",)
    sequence: tuple[SequenceItem, ...] = ()
    tokens: int | None = None
    model: str | None = None
    layers: int | None = None
    dtype: str | None = None
    in_order: bool = False

    @property
    def headline_flop(self) -> int:
        """Floating-point operations of one step's headline GEMMs."""
        return sum(item.flop for item in self.items if item.headline)


class _Gemm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    m: Size
    n: Size
    k: Size
    batch: Size = 1
    layout: Literal["nn", "nt", "tn"] | None = None
    dtype: str | None = None
    out_dtype: str = ""
    scaling: str | None = None
    role: Name = "gemm"
    phase: Phase | None = None
    count: Annotated[int, msgspec.Meta(ge=1, le=2**40)] = 1


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Name | None = None
    description: str = ""
    effort: EffortName | None = None
    regimes: Annotated[tuple[Regime, ...], msgspec.Meta(min_length=1)] = ("sustained",)
    gemm: tuple[_Gemm, ...] = ()
    tokens: Size | None = None
    model: str | None = None
    seq: Size | None = None
    micro_batch: Size | None = None
    tensor_parallel: Size | None = None
    layers: Size | None = None
    lm_head: bool | None = None
    attention: bool | None = None
    sequence: bool | None = None
    in_order: bool = False


class _SuiteFile(_Body, frozen=True, kw_only=True, forbid_unknown_fields=True):
    cpu: dict[str, Any] = msgspec.field(default_factory=dict)


def list_suites(*, dtype: str = "bf16", device_kind: DeviceKind = "cuda") -> tuple[Suite, ...]:
    """Every shipped suite, those from files first, then one a model."""
    return tuple(load_suite(name, dtype=dtype, device_kind=device_kind) for name in _names())


def load_suite(name_or_path: str | Path, *, dtype: str = "bf16", device_kind: DeviceKind = "cuda") -> Suite:
    """A suite by its shipped name (a model's name is one) or by its TOML file.

    dtype: of every GEMM whose file does not fix one. device_kind: `cpu` applies the file's `[cpu]` table.
    Raises SuiteError for an unknown name or a malformed file, InputError for an unknown dtype.
    """
    _check_dtype(dtype)
    text = str(name_or_path)
    if text in list_models():
        return suite_from_model(load_model(text), dtype=dtype)
    if text in _names():
        return _from_file(_SHIPPED / f"{text}.toml", f"{text}.toml", dtype, device_kind)
    path = Path(name_or_path)
    if path.suffix.lower() == ".toml":
        return _from_file(path, path, dtype, device_kind)
    raise complaint(
        f"unknown suite {text!r}", f"choose one of {', '.join(_names())}, or give the path of a .toml suite file"
    )


def suite_from_model(model: Model, *, dtype: str = "bf16") -> Suite:
    """The suite of one training step of `model`, named after it. Raises SuiteError."""
    _check_dtype(dtype)
    return Suite(
        dtype=dtype,
        name=model.name,
        description=f"{model.name}, one training step: {model.tokens} tokens, tensor parallel {model.tensor_parallel}",
        items=training_gemms(model, dtype=dtype),
        effort="normal",
        sequence=sequence(model, dtype=dtype),
        tokens=model.tokens,
        model=model.name,
        layers=model.num_layers,
    )


def suite_from_shapes(shapes: Sequence[str], *, dtype: str = "bf16") -> Suite:
    """The suite `shape` of the GEMMs given on the command line, in that order. Raises InputError."""
    problems = (parse_shape(shape, dtype=dtype) for shape in shapes)
    return Suite(
        dtype=dtype,
        name="shape",
        description="shapes from the command line",
        items=tuple(SuiteItem(problem, "gemm", None, 1, headline=False) for problem in problems),
    )


def parse_shape(text: str, *, dtype: str = "bf16", layout: str = "nn") -> Problem:
    """A Problem from `MxNxK` or `BATCHxMxNxK`; fp8 and int8 are `nt` whatever `layout` says. Raises InputError."""
    shown = repr(text if len(text) <= 60 else text[:59] + "…")
    if not _SHAPE.fullmatch(text):
        raise InputError(f"shape {shown}: write MxNxK or BATCHxMxNxK with positive integers, such as 4096x4096x4096")
    *batch, m, n, k = (int(size) for size in re.split("[xX×]", text))
    try:
        return make_problem(m, n, k, batch=batch[0] if batch else 1, dtype=dtype, layout=layout)
    except ProblemError as error:
        raise InputError(f"shape {shown}: {error}") from error


def _names() -> tuple[str, ...]:
    return (*sorted(path.stem for path in _SHIPPED.glob("*.toml")), *list_models())


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise InputError(f"unknown dtype {dtype!r}: choose one of {', '.join(DTYPES)}")


def _from_file(path: Path, where: object, dtype: str, device_kind: DeviceKind) -> Suite:
    raw = read_toml(path)
    body: _Body = convert(raw, _SuiteFile, where)
    on_cpu = raw.pop("cpu", {})
    if on_cpu and device_kind == "cpu":
        where = f"{where} with [cpu]"
        body = convert(raw | on_cpu, _Body, where)
    suite = _derived(body, path, where, dtype) if body.model else _listed(body, where, dtype)
    return replace(
        suite,
        name=body.name or printable(path.stem),
        description=body.description or suite.description,
        effort=body.effort,
        regimes=tuple(dict.fromkeys(body.regimes)),
        in_order=body.in_order,
    )


def _derived(body: _Body, path: Path, where: object, dtype: str) -> Suite:
    for key in ("gemm", "tokens"):
        if getattr(body, key):
            raise complaint(where, f"key {key!r} beside 'model', which says it already: remove one of them")
    try:
        model = load_model(body.model or "", base=path.parent).with_(
            seq=body.seq, micro_batch=body.micro_batch, tensor_parallel=body.tensor_parallel
        )
        whole = suite_from_model(model, dtype=dtype)
        items = training_gemms(
            model,
            dtype=dtype,
            layers=body.layers,
            lm_head=body.lm_head is not False,
            attention=body.attention is not False,
        )
    except SuiteError as error:
        raise complaint(where, str(error)) from error
    return replace(
        whole,
        items=items,
        sequence=() if body.sequence is False else whole.sequence,
        layers=body.layers or model.num_layers,
    )


def _listed(body: _Body, where: object, dtype: str) -> Suite:
    for key in _MODEL_KEYS:
        if getattr(body, key) is not None:
            raise complaint(where, f"key {key!r} without 'model', which it adjusts: add 'model' or remove it")
    if not body.gemm:
        raise complaint(where, "neither 'model' nor any [[gemm]]: add one of them")
    items = []
    for index, gemm in enumerate(body.gemm):
        try:
            problem = _problem(gemm, dtype)
        except ProblemError as error:
            raise complaint(where, f"in gemm[{index}]: {error}") from error
        items.append(SuiteItem(problem, gemm.role, gemm.phase, gemm.count, headline=body.tokens is not None))
    return Suite(name="", description="", items=tuple(items), tokens=body.tokens, dtype=dtype)


def _problem(gemm: _Gemm, dtype: str) -> Problem:
    usual = make_problem(gemm.m, gemm.n, gemm.k, batch=gemm.batch, dtype=gemm.dtype or dtype)
    return replace(
        usual,
        layout=gemm.layout or usual.layout,
        out_dtype=gemm.out_dtype,
        scaling=gemm.scaling or usual.scaling,
    )
