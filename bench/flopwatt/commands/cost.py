"""`flopwatt cost`: what training a model on many GPUs takes in hours, energy, dollars and CO2, and on what it rests."""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import msgspec
from rich.console import Console

from flopwatt.analysis.cost import architecture, assumptions, machine
from flopwatt.analysis.cost.choosing import Wanted, choose
from flopwatt.analysis.cost.layout import Attention, Layout, Recompute, Shard, parse_degrees
from flopwatt.analysis.cost.pricing import Price
from flopwatt.analysis.cost.pricing import Request as PriceRequest
from flopwatt.analysis.cost.spans import Span
from flopwatt.analysis.report import cost as shown
from flopwatt.analysis.report.page import plotting, training_cost
from flopwatt.commands import pages
from flopwatt.commands.data import csv_rows
from flopwatt.commands.words import one_of
from flopwatt.errors import InputError, LayoutRefused

FORMATS: Final = ("table", "csv", "json")
PRECISIONS: Final = ("bf16", "fp16", "fp8")
SWEPT: Final = ("gpus", "tokens", "seq", "micro_batch", "global_batch")
POINTS_MOST: Final = 100_000

_SWEEP: Final = re.compile(r"\s*([a-z_]+)\s*=\s*([0-9.e+]+)\s*:\s*([0-9.e+]+)\s*:\s*([x+])([0-9.e+]+)\s*")


@dataclass(frozen=True, slots=True)
class Request:
    """The words of the command line. calibrations: files, or names of GPUs to price from their spec sheets."""

    calibrations: Sequence[str]
    model: str
    tokens: str
    gpus: int | None = None
    parallel: str | None = None
    precision: str = "bf16"
    seq: int | None = None
    micro_batch: int | None = None
    global_batch: int | None = None
    recompute: str | None = None
    shard: str | None = None
    attention: str = "flash"
    price: Sequence[str] = ()
    pue: str | None = None
    carbon: str | None = None
    goodput: str | None = None
    assume: Sequence[str] = ()
    sweep: Sequence[str] = ()


def cost(request: Request, format: str, output: Path | None, console: Console, log: Console) -> int:
    """Prices and prints; 1 where no point of a sweep is possible. Raises LayoutRefused for a single one, InputError."""
    one_of("format", format, FORMATS)
    if output is not None:
        pages.check(output)
    numbers = assumptions.parse(request.assume)
    links: dict[str, float] = {
        name: _of_link(name, numbers.pop(name)) for name in machine.LINK_NUMBERS if name in numbers
    }
    stated = _assumptions(request, numbers)
    machines = [machine.relinked(_machine(word), links) for word in request.calibrations]
    if not machines:
        raise InputError("cost needs a calibration: --calibration CAL.json, or the name of a GPU")
    prices = _prices_an_hour(request.price, machines)
    priced, refused = _priced(request, stated, machines, prices)
    for reason in refused:
        log.print(reason)
    if not priced:
        return 1
    if output is not None:
        pages.write(output, training_cost.page(priced, stated, plotting.library(), pages.made()).encode())
        log.print(f"written to {output}")
    if format == "json":
        sys.stdout.write(
            msgspec.json.format(msgspec.json.encode(shown.document(priced, stated)), indent=1).decode() + "\n"
        )
    elif format == "csv":
        csv_rows(sys.stdout, map(shown.flat, priced), shown.COLUMNS, ("gpu", "model", "approximation", "layout"))
    else:
        shown.print_prices(priced, stated, console)
    return 0


def _priced(
    request: Request, stated: assumptions.Assumptions, machines: Sequence[machine.Machine], prices: Mapping[str, Span]
) -> tuple[list[Price], list[str]]:
    model = architecture.load(request.model)
    wanted = _wanted(request)
    goodput = assumptions.parse_span(request.goodput, "--goodput") if request.goodput else None
    if goodput is not None and not 0.01 <= goodput.low <= goodput.high <= 1:
        raise InputError("--goodput: give a share of the time from 0.01 to 1, such as 0.9:0.8:0.95")
    priced, refused = [], []
    points = list(_points(request))
    for one, point in itertools.product(machines, points):
        tokens = float(point.get("tokens", _number(request.tokens, "--tokens")))
        sizes = {name: int(value) for name, value in point.items() if name != "tokens"}
        here = msgspec.structs.replace(wanted, **sizes)
        asked = PriceRequest(
            machine=one, architecture=model, layout=Layout(global_batch=1, seq=1), tokens=tokens,
            precision=request.precision, assumptions=stated, goodput=goodput, usd_per_hour=prices.get(one.name),
        )  # fmt: skip
        try:
            priced.append(choose(asked, here))
        except LayoutRefused as error:
            if len(points) * len(machines) == 1:
                raise
            refused.append(str(error))
    return priced, refused


def _wanted(request: Request) -> Wanted:
    for word, name, known in (
        (request.recompute, "--recompute", get_args(Recompute)), (request.shard, "--shard", get_args(Shard)),
        (request.attention, "--attention", get_args(Attention)), (request.precision, "--precision", PRECISIONS),
    ):  # fmt: skip
        if word is not None and word not in known:
            raise InputError(f"{name} {word!r}: choose one of {', '.join(known)}")
    degrees = parse_degrees(request.parallel) if request.parallel else {}
    gpus = request.gpus
    if {"tp", "pp", "dp"} <= degrees.keys() and gpus is None:
        gpus = degrees["tp"] * degrees["pp"] * degrees["dp"]
    for name in ("gpus", "seq", "micro_batch", "global_batch"):
        value = getattr(request, name)
        if value is not None and not 1 <= value <= 10**7:
            raise InputError(f"--{name.replace('_', '-')} {value}: give a whole number from 1 to 10,000,000")
    if gpus is None and not any(word.strip().startswith("gpus") for word in request.sweep):
        raise InputError("on how many GPUs: give --gpus N, --parallel tp=8,pp=16,dp=128 or --sweep gpus=1024:65536:x2")
    fixed: dict[str, Any] = {
        name: getattr(request, name)
        for name in ("seq", "micro_batch", "global_batch", "recompute", "shard", "attention")
    }
    return Wanted(gpus=gpus or 1, **(fixed | degrees))


def _points(request: Request) -> Iterator[dict[str, float]]:
    """Every combination of what is swept; one without anything where nothing is."""
    axes = [_axis(word) for word in request.sweep]
    names = [name for name, _ in axes]
    if len(set(names)) < len(names):
        raise InputError(f"--sweep: {names[0]} is swept twice: once is enough")
    count = 1
    for _, values in axes:
        count *= len(values)
    if count > POINTS_MOST:
        raise InputError(f"--sweep: {count:,} points: at most {POINTS_MOST:,}")
    for point in itertools.product(*(values for _, values in axes)):
        yield dict(zip(names, point, strict=True))


def _axis(word: str) -> tuple[str, list[float]]:
    found = _SWEEP.fullmatch(word)
    if not found or found[1] not in SWEPT:
        raise InputError(f"--sweep {word!r}: write {' or '.join(SWEPT)} as gpus=1024:65536:x2 or gpus=8:64:+8")
    first, last, step = (_number(found[place], f"--sweep {word!r}") for place in (2, 3, 5))
    values: list[float] = []
    value = first
    while value <= last * (1 + 1e-9) and len(values) <= POINTS_MOST:
        values.append(value)
        following = value * step if found[4] == "x" else value + step
        if following <= value:
            raise InputError(f"--sweep {word!r}: a step of {found[4]}{found[5]} gets nowhere")
        value = following
    if not values:
        raise InputError(f"--sweep {word!r}: there is nothing from {found[2]} to {found[3]}")
    return found[1], values


def _of_link(name: str, span: Span) -> float:
    if span.low < span.high or span.value < 1:
        raise InputError(f"--assume {name}: a link has one speed, above 0, and no range: give a number alone")
    return int(span.value) if name == "node" else span.value


def _assumptions(request: Request, stated: dict[str, Span]) -> assumptions.Assumptions:
    for name in ("pue", "carbon"):
        text = getattr(request, name)
        if text is not None:
            stated[name] = assumptions.parse_span(text, f"--{name}")
    return assumptions.defaults().with_(stated)


def _machine(word: str) -> machine.Machine:
    return machine.from_file(word) if Path(word).exists() or word.endswith(".json") else machine.from_spec_sheet(word)


def _prices_an_hour(words: Iterable[str], machines: Sequence[machine.Machine]) -> dict[str, Span]:
    """Dollars an hour by GPU: one price for all, or GPU=PRICE, where the name may be a part of it."""
    found: dict[str, Span] = {}
    for word in words:
        name, _, text = word.rpartition("=")
        span = assumptions.parse_span(text, f"--price {word!r}")
        matching = [one.name for one in machines if name.strip().casefold() in one.name.casefold()]
        if not matching:
            raise InputError(f"--price {word!r}: no such GPU here, but {', '.join(one.name for one in machines)}")
        found.update(dict.fromkeys(matching, span))
    return found


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1e18:
        raise InputError(f"{where}: {text!r} is no positive number: write 15.6e12")
    return number
