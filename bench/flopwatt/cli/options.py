"""Options that several commands share, spelt once: their words, types and help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunFiles = Annotated[list[Path], typer.Argument(help="Run files.")]

Suites = Annotated[
    list[str] | None, typer.Option(metavar="NAME|FILE", help="Suite by name or TOML file; may be repeated.")
]
Model = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Model by name, TOML file or Hugging Face config.json.")
]
Seq = Annotated[int | None, typer.Option(metavar="TOKENS", help="Sequence length for --model.")]
MicroBatch = Annotated[int | None, typer.Option(metavar="N", help="Micro-batch for --model.")]
TensorParallel = Annotated[int | None, typer.Option(metavar="N", help="Tensor-parallel degree for --model.")]
Shapes = Annotated[list[str] | None, typer.Option(metavar="MxNxK", help="MxNxK or BATCHxMxNxK; may be repeated.")]
ShapesFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="CSV with columns m, n, k and maybe batch, dtype, layout.")
]
Parallel = Annotated[
    str | None,
    typer.Option(metavar="DEGREES", help="tp=8,pp=16,dp=128, vp=4 to interleave; what is not given is chosen."),
]

_DTYPES = "bf16, fp16, tf32, fp32, fp8_e4m3, fp8_e5m2, int8."
Dtype = Annotated[str | None, typer.Option(metavar="DTYPE", help=_DTYPES)]
Dtypes = Annotated[list[str] | None, typer.Option(metavar="DTYPE", help=_DTYPES)]

Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu or cuda:N.")]
Budget = Annotated[str | None, typer.Option(metavar="TIME", help="Stop before this much time is spent: 90s, 10m.")]
Plan = Annotated[bool, typer.Option("--plan", help="Show cases and minutes; run nothing.")]
Shared = Annotated[bool, typer.Option("--shared", help="Measure on a busy GPU; marks the rows.")]
Simulate = Annotated[
    str | None, typer.Option(metavar="NAME|FILE", help="Scenario, by name or TOML file, of a simulated GPU.")
]
Format = Annotated[str, typer.Option(metavar="FORMAT", help="table or json.")]
TableFormat = Annotated[str, typer.Option(metavar="FORMAT", help="table, csv or json.")]

Backends = Annotated[list[str] | None, typer.Option(metavar="NAME", help="See `flopwatt backends`; may be repeated.")]
Regimes = Annotated[list[str] | None, typer.Option(metavar="NAME", help="burst or sustained; may be repeated.")]
Inputs = Annotated[list[str] | None, typer.Option(metavar="NAME", help="normal, uniform, zeros, integer, sparse:P.")]
Effort = Annotated[str | None, typer.Option(metavar="NAME", help="fast, normal or publish: how long a case is held.")]
Processes = Annotated[int | None, typer.Option(metavar="N", help="Repeat in this many fresh processes.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Seed of inputs and order; 0 unless given.")]
