"""How much faster newer GPUs are than the A100 in the imported tables, by dtype and size, and what nameplates promise.

Ratios are within one stack: two stacks differ from each other on the same GPU and shape. The tables hold no intervals
and, for the A100, no watts: its TFLOPS/W stays unknown here, and the ratio of nameplates is called just that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import geometric_mean, quantiles
from typing import Final, NamedTuple

from flopwatt.runs import gpus
from flopwatt.runs.store import RunFile
from flopwatt.runs.tidy import Row, run_rows

BASE: Final = "A100-SXM4-80GB"
HELD_AGAINST: Final = ("H100-SXM5-80GB", "H200-SXM5-141GB", "B200-SXM6-180GB")
NEW: Final = "H100-SXM5-80GB"

EDGES_GFLOP: Final = (16, 64, 256)
"""Sizes of a GEMM between which ratios are told apart: below the first, launch and tail are a good part of the time."""

SPREAD_LEAST: Final = 10
"""Ratios from which on the middle 80 % of them are told."""

Shape = tuple[int, int, int]


class Spread(NamedTuple):
    """The geometric mean of ratios, and the ends of the middle 80 % of them: of few ratios, of all."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Speedups:
    """Base time ÷ new time over the shapes that two tables share, by GFLOP bin; empty bins are left empty."""

    stack: str
    gpu: str
    dtypes: tuple[str, str]
    bins: tuple[tuple[float, ...], ...]

    @property
    def of_largest(self) -> Spread | None:
        """Over the largest GEMMs, which neither launch nor tail hold up; None where the tables share none."""
        return spread(self.bins[-1]) if self.bins[-1] else None


class Times:
    """Seconds of one GEMM by GPU entry, stack, dtype and shape, from imported run files."""

    def __init__(self, runs: Sequence[RunFile]) -> None:
        self._times: dict[tuple[str, str, str], dict[Shape, float]] = defaultdict(dict)
        self.suite_rows: dict[Shape, Row] = {}
        for run in runs:
            names = {s.environment.gpu: s.environment.spec or s.environment.gpu for s in run.segments}
            for row in run_rows(run):
                self._add(row, names)

    def _add(self, row: Row, names: Mapping[str, str]) -> None:
        if row["time_s"] is None or row["m"] is None or row["batch"] != 1 or row["layout"] != "nt":
            return
        shape = row["m"], row["n"], row["k"]
        self._times[names[row["gpu"]], row["backend"], row["dtype"]].setdefault(shape, row["time_s"])
        if row["headline"] and row["suite"] and row["phase"] == "forward":
            self.suite_rows.setdefault(shape, row)

    @property
    def stacks(self) -> list[str]:
        """The stacks that the base was measured with."""
        return sorted({stack for gpu, stack, _ in self._times if gpu == BASE})

    def of(self, gpu: str, stack: str, dtype: str) -> Mapping[Shape, float]:
        """Seconds by shape; empty where there is no such table."""
        return self._times.get((gpu, stack, dtype), {})

    def speedups(self, stack: str, gpu: str, dtypes: tuple[str, str]) -> Speedups | None:
        """Of one GPU over the base within a stack, None where they share no shape. dtypes: the base's, the new's."""
        old, new = self.of(BASE, stack, dtypes[0]), self.of(gpu, stack, dtypes[1])
        bins: list[list[float]] = [[] for _ in range(len(EDGES_GFLOP) + 1)]
        for shape, time_s in old.items():
            if shape in new:
                gflop = 2e-9 * shape[0] * shape[1] * shape[2]
                bins[sum(gflop >= edge for edge in EDGES_GFLOP)].append(time_s / new[shape])
        return Speedups(stack, gpu, dtypes, tuple(map(tuple, bins))) if any(bins) else None


def speed_lines(runs: Sequence[RunFile]) -> Iterator[str]:
    """The section on time: speedups by size, then the suites' own GEMMs. Markdown, nothing without the base's table."""
    times = Times(runs)
    found = [
        speedups
        for gpu in HELD_AGAINST
        for dtypes in (("bf16", "bf16"), ("bf16", "fp8_e4m3"))
        for stack in times.stacks
        if (speedups := times.speedups(stack, gpu, dtypes)) is not None
    ]
    if not found:
        return
    yield "## Newer GPUs beside the A100, in time"
    yield ""
    yield (
        f"Base time ÷ new time of the forward GEMMs that two imported tables share, the base an {BASE} in bf16 (it has "
        "no fp8): geometric mean, and in brackets the middle 80 % of the shapes. One number a shape and no interval is "
        "published; versions of a stack differ between GPUs; whether operands lay in L2, what values they had (vLLM's "
        "bf16 weights were never initialised) and how warm the GPU was is unknown. An fp8 row's time holds the "
        "quantisation of its activations."
    )
    yield ""
    yield "| GPU | dtype | stack | shapes | " + " | ".join(_bin_names()) + " |"
    yield "|---|---|---|---|" + "---|" * (len(EDGES_GFLOP) + 1)
    for one in found:
        shapes = sum(map(len, one.bins))
        cells = " | ".join(map(_spread, one.bins))
        yield f"| {one.gpu} | {_dtype(one.dtypes[1])} | {one.stack} | {shapes} | {cells} |"
    yield ""
    yield from _suite_lines(times)


def _suite_lines(times: Times) -> Iterator[str]:
    """The GEMMs of the transformer suites that the tables hold exactly."""
    yield (
        "Of the suites' training GEMMs the tables hold only these, all forward: they know no other layout, and no "
        f"shape in between is made up. Microseconds on an {BASE} and an {NEW}, and the ratio:"
    )
    yield ""
    yield "| suite, GEMM | M×N×K | stack | A100 bf16 | H100 bf16 | ratio | H100 fp8 | ratio |"
    yield "|---|---|---|---|---|---|---|---|"
    for shape, row in sorted(times.suite_rows.items()):
        for stack in times.stacks:
            base = times.of(BASE, stack, "bf16").get(shape)
            if base is None:
                continue
            cells = [f"{row['suite']} {row['role']}", "×".join(map(str, shape)), stack, f"{base * 1e6:.0f}"]
            for dtype in ("bf16", "fp8_e4m3"):
                new = times.of(NEW, stack, dtype).get(shape)
                cells += [f"{new * 1e6:.0f}", f"{base / new:.2f}"] if new else ["–", "–"]
            yield f"| {' | '.join(cells)} |"
    yield ""


def nameplate_lines(base_measured: bool) -> Iterator[str]:
    """The section on energy: nameplate ratios under that name and, until the base is measured, that they are all."""
    specs = {spec.name: spec for spec in gpus.specs()}
    base = specs[BASE]
    yield "## TFLOPS per watt beside the A100"
    yield ""
    if not base_measured:
        yield (
            "Unknown: the tables above have no watts for the A100, and nobody has brought a measured A100 run "
            "(`flopwatt run --suite quick` on one makes it)."
        )
    yield (
        "The ratio of *nameplates*, dense peak ÷ board power as the maker publishes them, which is no measurement of "
        "either side:"
    )
    yield ""
    yield "| GPU | bf16 TFLOPS | W | nameplate TFLOPS/W | ratio to the A100 | fp8 ÷ A100 bf16 | figures |"
    yield "|---|---|---|---|---|---|---|"
    for name in (BASE, *HELD_AGAINST):
        spec = specs[name]
        per_watt = spec.peak["bf16"] / spec.tdp_w
        fp8 = spec.peak.get("fp8")
        base_per_watt = base.peak["bf16"] / base.tdp_w
        cells = [name, f"{spec.peak['bf16'] * 1e-12:.0f}", f"{spec.tdp_w:.0f}", f"{per_watt * 1e-12:.2f}"]
        cells.append(f"{per_watt / base_per_watt:.2f}")
        cells += ["–" if fp8 is None else f"{fp8 / spec.tdp_w / base_per_watt:.2f}", spec.confidence]
        yield f"| {' | '.join(cells)} |"


def _bin_names() -> list[str]:
    between = [f"{low}–{high} GFLOP" for low, high in pairwise(EDGES_GFLOP)]
    return [f"< {EDGES_GFLOP[0]} GFLOP", *between, f"≥ {EDGES_GFLOP[-1]} GFLOP"]


def spread(ratios: Sequence[float]) -> Spread:
    """What several ratios, one at least, come to."""
    if len(ratios) < SPREAD_LEAST:
        return Spread(geometric_mean(ratios), min(ratios), max(ratios))
    tenths = quantiles(ratios, n=10, method="inclusive")
    return Spread(geometric_mean(ratios), tenths[0], tenths[-1])


def _spread(ratios: Sequence[float]) -> str:
    if not ratios:
        return "–"
    found = spread(ratios)
    mean = f"{found.mean:.2f}"
    return mean if len(ratios) < SPREAD_LEAST else f"{mean} ({found.low:.2f}–{found.high:.2f})"


def _dtype(name: str) -> str:
    return name.removesuffix("_e4m3")
