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
    if len(prices) > 4:
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
    if any(price.usd is None for price in prices):
        told.append("no price is known of every GPU: give --price USD_PER_HOUR or --price GPU=USD_PER_HOUR")
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


def _head(price: Price) -> str:
    return f"{price.layout.gpus:,} × {gpu_name(price)}{' (unvalidated)' if price.unvalidated else ''}"


def _print_columns(prices: Sequence[Price], console: Console) -> None:
    table = Table(title="what it takes; in brackets, if every input stood at its good or bad end", title_justify="left")
    table.add_column("")
    for price in prices:
        table.add_column(_head(price), justify="right")
    for name, title in (("layout", "layout"), ("batch", "batch"), ("memory", "recompute, sharded")):
        table.add_row(title, *(_layout_words(price)[name] for price in prices))
    for _, title, quantity in QUANTITIES:
        spans = [quantity(price) for price in prices]
        if any(spans):
            table.add_row(title, *(between(span) for span in spans))
    console.print(table)


def _layout_words(price: Price) -> dict[str, str]:
    layout = price.layout
    chunks = f" vp={layout.vp}" if layout.vp > 1 else ""
    return {
        "layout": f"tp={layout.tp} pp={layout.pp} dp={layout.dp}{chunks}",
        "batch": f"{layout.global_batch:,} × {layout.seq:,}, micro-batch {layout.micro_batch}",
        "memory": f"{layout.recompute}, {layout.shard}",
    }


def _print_parts(prices: Sequence[Price], console: Console) -> None:
    table = Table(title="where the GPU-hours go", title_justify="left")
    table.add_column("")
    for price in prices:
        table.add_column(_head(price), justify="right")
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
    table = Table(title="what it takes; --format csv or json gives the ranges", title_justify="left")
    chosen = [one for one in QUANTITIES if one[0] not in DETAILS and any(one[2](p) for p in prices)]
    table.add_column("GPUs")
    table.add_column("layout")
    for _, title, _ in chosen:
        table.add_column(title, justify="right")
    for price in prices:
        spans = [quantity(price) for _, _, quantity in chosen]
        table.add_row(
            _head(price), _layout_words(price)["layout"], *(_number(span.value) if span else "" for span in spans)
        )
    console.print(table)


def _print_assumptions(prices: Sequence[Price], assumptions: Assumptions, console: Console) -> None:
    for title, titles, rows in (
        ("links and servers; --assume states another speed", LINK_TITLES, link_rows(prices)),
        (
            "assumptions, each an option: --assume NAME=VALUE:LOW:HIGH",
            ASSUMPTION_TITLES,
            assumption_rows(prices, assumptions),
        ),
    ):
        table = Table(title=title, title_justify="left")
        for name in titles:
            table.add_column(name, overflow="fold")
        for cells in rows:
            table.add_row(*cells)
        console.print(table)


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


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
