"""Prices of training runs on a terminal, as rows of data, and as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from flopwatt.analysis.cost import validation
from flopwatt.analysis.cost.assumptions import Assumptions
from flopwatt.analysis.cost.pricing import Energy, Price
from flopwatt.analysis.cost.spans import Span
from flopwatt.runs import gpus

MWH_J: Final = 3.6e9

Quantity = Callable[[Price], "Span | None"]


def _energy(price: Price) -> Energy:
    return price.measured or price.tdp


QUANTITIES: Final[tuple[tuple[str, str, Quantity], ...]] = (
    ("step_s", "one step (s)", lambda price: price.step_total_s),
    ("tflops_per_gpu", "TFLOPS a GPU", lambda price: price.flop_per_s_per_gpu.scaled(1e-12)),
    ("mfu", "MFU", lambda price: price.mfu),
    ("goodput", "goodput", lambda price: price.goodput),
    ("days", "days", lambda price: price.days),
    ("gpu_hours", "GPU-hours", lambda price: price.gpu_hours_total),
    ("gpu_energy_measured_mwh", "GPU energy, measured basis (MWh)",
     lambda price: price.measured.gpus_j.scaled(1 / MWH_J) if price.measured else None),
    ("gpu_energy_tdp_mwh", "GPU energy, TDP basis (MWh)", lambda price: price.tdp.gpus_j.scaled(1 / MWH_J)),
    ("server_energy_mwh", "rest of the servers (MWh)", lambda price: _energy(price).servers_j.scaled(1 / MWH_J)),
    ("overhead_energy_mwh", "facility overhead (MWh)", lambda price: _energy(price).facility_j.scaled(1 / MWH_J)),
    ("facility_energy_mwh", "facility energy, the sum (MWh)", lambda price: _energy(price).total_j.scaled(1 / MWH_J)),
    ("usd", "dollars", lambda price: price.usd),
    ("tco2", "t CO2", lambda price: price.tco2),
)  # fmt: skip
"""Name in data, name for people, and value."""

DETAILS: Final = ("step_s", "goodput", "server_energy_mwh", "overhead_energy_mwh")
"""Quantities that a table of many runs leaves out."""

COLUMNS: Final = (
    "gpu", "unvalidated", "model", "approximation", "precision", "tokens", "gpus", "layout", "tp", "pp", "dp", "vp",
    "micro_batch", "global_batch", "seq", "recompute", "shard", "attention", "energy_basis",
    *(name + end for name, _, _ in QUANTITIES for end in ("", "_low", "_high")),
)  # fmt: skip

LAYOUT_TITLES: Final = ("layout", "batch", "micro-batch", "recompute, sharded")

COLUMNS_MOST: Final = 4
"""Runs that stand beside each other on a terminal; more are rows."""

LINK_TITLES: Final = ("GPU", "name", "what", "figure", "confidence", "source")

ASSUMPTION_TITLES: Final = ("name", "value", "low to high", "unit", "what", "confidence", "source")

PART_NAMES: Final = {
    "gemm_forward": "GEMMs, forward",
    "gemm_input_grad": "GEMMs, input gradient",
    "gemm_weight_grad": "GEMMs, weight gradient",
    "attention": "attention",
    "recompute": "recomputation",
    "memory_bound": "memory-bound operations",
    "optimizer": "optimizer",
    "host": "waiting for the host",
    "tensor_parallel": "tensor parallelism, exposed",
    "pipeline_transfer": "pipeline transfers, exposed",
    "pipeline_bubble": "pipeline bubble",
    "data_parallel": "data parallelism, exposed",
    "stragglers": "stragglers",
    "lost_to_failures": "failures, restarts, checkpoints",
}


def flat(price: Price) -> dict[str, Any]:
    """One row of COLUMNS."""
    layout = price.layout
    row: dict[str, Any] = {name: getattr(price, name) for name in COLUMNS[:6]}
    row |= {name: getattr(layout, name) for name in ("gpus", *COLUMNS[8:18])} | {"layout": layout.words()}
    row["energy_basis"] = "measured" if price.measured else "tdp"
    for name, _, quantity in QUANTITIES:
        span = quantity(price)
        for end, value in (("", "value"), ("_low", "low"), ("_high", "high")):
            row[name + end] = None if span is None else float(f"{getattr(span, value):.6g}")
    return row


def document(prices: Sequence[Price], assumptions: Assumptions) -> dict[str, Any]:
    """Everything: prices with their parts, and the assumptions. Parts add up to their totals."""
    return {
        "kind": "end_to_end",
        "prices": [
            flat(price)
            | {"step_parts_s": price.step_s, "gpu_hour_parts": price.gpu_hours, "energy_parts_j": _energy(price)}
            for price in prices
        ],
        "links": {price.gpu: price.link for price in prices},
        "assumptions": assumptions.table,
    }


def print_prices(prices: Sequence[Price], assumptions: Assumptions, console: Console) -> None:
    """Totals, where the hours go, and what all of it rests on."""
    first = prices[0]
    console.print(f"{first.model}, {tokens(first)}, {first.precision}", highlight=False)
    for remark in remarks(prices):
        console.print(remark, highlight=False)
    if len(prices) > COLUMNS_MOST:
        _print_rows(prices, console)
    else:
        _print_columns(prices, console)
        _print_parts(prices, console)
    _print_assumptions(prices, assumptions, console)
    console.print(_trust(), highlight=False)


def remarks(prices: Sequence[Price]) -> list[str]:
    """What to know before believing, one sentence each."""
    told = [f"approximation: {prices[0].approximation}"] if prices[0].approximation else []
    names = dict.fromkeys(price.gpu for price in prices if price.unvalidated)
    told += [f"unvalidated: {name} is priced from its spec sheet, no GEMM of it was measured" for name in names]
    unsure = {gpu_name(price) for price in prices if price.link.confidence == "unverified"}
    if unsure:
        told.append(f"unverified: link speeds and server power of {', '.join(sorted(unsure))} were not checked")
    if any(price.measured is None for price in prices):
        told.append("no watts in the calibration: energy on the TDP basis alone")
    unpriced = dict.fromkeys(gpu_name(price) for price in prices if price.usd is None)
    if unpriced:
        told.append(f"no rent is known of {', '.join(unpriced)}: give --price USD_PER_HOUR or GPU=USD_PER_HOUR")
    return told


def tokens(price: Price) -> str:
    """How many the run trains on."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if price.tokens >= size:
            return f"{price.tokens / size:,.4g} {word} tokens"
    return f"{price.tokens:,.4g} tokens"


def gpu_name(price: Price) -> str:
    """The GPU without its maker."""
    return price.gpu.removeprefix("NVIDIA ")


def _name_with_doubt(price: Price) -> str:
    return f"{gpu_name(price)}{' (unvalidated)' if price.unvalidated else ''}"


def _print_columns(prices: Sequence[Price], console: Console) -> None:
    table = _columns("what it takes; in brackets, if every input stood at its good or bad end", prices)
    for title, cells in zip(LAYOUT_TITLES, zip(*map(_layout_words, prices), strict=True), strict=True):
        table.add_row(title, *cells)
    for _, title, quantity in QUANTITIES:
        spans = [quantity(price) for price in prices]
        if any(spans):
            table.add_row(title, *(between(span) for span in spans))
    console.print(table)


def _layout_words(price: Price) -> tuple[str, ...]:
    """A cell for each of LAYOUT_TITLES."""
    layout = price.layout
    chunks = f" vp={layout.vp}" if layout.vp > 1 else ""
    return (
        f"tp={layout.tp} pp={layout.pp} dp={layout.dp}{chunks}",
        f"{layout.global_batch:,} × {layout.seq:,}",
        f"{layout.micro_batch}",
        f"{layout.recompute}, {layout.shard}",
    )


def _print_parts(prices: Sequence[Price], console: Console) -> None:
    table = _columns("where the GPU-hours go", prices)
    sums = [price.gpu_hours_total for price in prices]
    for part, title in PART_NAMES.items():
        spans = [price.gpu_hours[part] for price in prices]
        if any(span.high > 0 for span in spans):
            cells = (
                f"{span.value:,.0f}  {span.value / whole.value:5.1%}" for span, whole in zip(spans, sums, strict=True)
            )
            table.add_row(title, *cells)
    table.add_row("all", *(f"{whole.value:,.0f} {1:6.1%}" for whole in sums), style="bold")
    console.print(table)


def _trust() -> str:
    told = "; ".join(f"{one.what}: {one.mape:.1f} % over {one.rows}" for one in validation.results()[:2])
    return f"mean error where somebody measured: {told}; more in docs/cost.md"


def _print_rows(prices: Sequence[Price], console: Console) -> None:
    """One table a GPU, with columns no wider than they need be: they fit a narrow terminal."""
    console.print("what it takes; --format csv or json gives the ranges")
    for gpu in dict.fromkeys(price.gpu for price in prices):
        members = [price for price in prices if price.gpu == gpu]
        layouts = [price.layout for price in members]
        columns = {
            "GPUs": [f"{one.gpus:,}" for one in layouts],
            "tp·pp·dp·vp": [f"{one.tp}·{one.pp}·{one.dp}·{one.vp}" for one in layouts],
        }
        for name, title, quantity in QUANTITIES:
            spans = [quantity(price) for price in members]
            if name not in DETAILS and any(spans):
                columns[title] = [_short(span.value) if span else "" for span in spans]
        table = _table(_name_with_doubt(members[0]))
        table.padding = (0, 1, 0, 0)
        for title, cells in columns.items():
            table.add_column(title, justify="right", width=max(map(len, (*title.split(), *cells))))
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        console.print(table)


def _columns(title: str, prices: Sequence[Price]) -> Table:
    """A table with a column for each price."""
    table = _table(title, "")
    for price in prices:
        table.add_column(f"{price.layout.gpus:,} × {_name_with_doubt(price)}", justify="right")
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name, no_wrap=name == "name", overflow="fold")
    return table


def _print_assumptions(prices: Sequence[Price], assumptions: Assumptions, console: Console) -> None:
    links = _table("links and servers; --assume states another speed", "GPU", "name", "figure", "what")
    for gpu, name, what, figure, confidence, source in link_rows(prices):
        links.add_row(gpu, name, figure, f"{what}; {_from(confidence, source)}")
    numbers = _table("assumptions, each an option: --assume NAME=VALUE:LOW:HIGH", "name", "value (range)", "what")
    for name, value, range_, unit, what, confidence, source in assumption_rows(prices, assumptions):
        ends = f" ({range_})" if range_ else ""
        numbers.add_row(name, f"{value}{ends} {unit}", f"{what}; {_from(confidence, source)}")
    for table in (links, numbers):
        console.print()
        console.print(table)


def _from(confidence: str, source: str) -> str:
    return source if source.startswith(confidence) else f"{confidence}: {source}"


def assumption_rows(prices: Sequence[Price], assumptions: Assumptions) -> Iterator[tuple[str, ...]]:
    """Name, value, range, unit, meaning, confidence and source of each that these prices rest on."""
    specs = (gpus.find(price.gpu) for price in prices)
    for name, one in assumptions.used(spec.arch for spec in specs if spec is not None).items():
        range_ = f"{one.low:.4g} to {one.high:.4g}" if one.low < one.high else ""
        yield name, f"{one.value:.4g}", range_, one.unit, one.meaning, one.confidence, one.source


def link_rows(prices: Sequence[Price]) -> Iterator[tuple[str, ...]]:
    """GPU, what, figure and source of the links, server and rent of each GPU."""
    for gpu, link in {gpu_name(price): price.link for price in prices}.items():
        gb_per_s, network = link.node_bytes_per_s / 1e9, link.network_bytes_per_s / 1e9
        server, rent = link.server_w, link.usd_per_hour
        for name, source, what, figure in (
            ("node_bytes_per_s", "node", f"NVLink, one way, {link.node} GPUs a server", f"{gb_per_s:.4g} GB/s"),
            ("network_bytes_per_s", "network", "network of one GPU, one way", f"{network:.4g} GB/s"),
            ("server_w", "server_w", "rest of the server at most, a GPU", f"{server:.4g} W" if server else ""),
            ("--price", "usd_per_hour", "rent of an hour, where none is given", f"${rent:.2f}" if rent else ""),
        ):
            if figure:
                yield gpu, name, what, figure, link.confidence, link.sources.get(source, "")


def between(span: Span | None) -> str:
    """Value and ends for people; nothing where it is not known."""
    if span is None:
        return ""
    if span.low == span.high:
        return _number(span.value)
    return f"{_number(span.value)} ({_number(span.low)} to {_number(span.high)})"


def _short(value: float) -> str:
    """A number for a narrow column."""
    return f"{value / 1e6:,.4g} M" if value >= 1e6 else _number(value)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
