"""Foreign tables made on the spot, small ones with known figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

A100 = "NVIDIA A100-SXM4-80GB"
H100 = "NVIDIA H100 80GB HBM3"

ROW: Mapping[str, Any] = {
    "framework": "VLLM", "version": "0.24.0", "device": H100, "op_name": "gemm", "kernel_source": "vllm_default",
    "gemm_dtype": "bfloat16", "m": 4096, "n": 8192, "k": 1024, "latency": 0.125,
}  # fmt: skip

CUTLASS_HEADER = (
    "Problem,Provider,OperationKind,Operation,Disposition,Status,gemm_kind,m,n,k,A,B,C,D,alpha,beta,split_k_mode,"
    "split_k_slices,batch_count,op_class,accum,cta_m,cta_n,cta_k,Bytes,Flops,Flops/Byte,Runtime,GB/s,GFLOPs"
)


def aiconfigurator(path: Path, rows: Sequence[Mapping[str, Any]], **types: pa.DataType) -> Path:
    """A GEMM table of these rows over `ROW`; types: of single columns, where not inferred."""
    filled = [{**ROW, **row} for row in rows]
    columns = {name: pa.array([row[name] for row in filled], types.get(name)) for name in filled[0]}
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table(columns), path)
    return path


def cutlass_row(**fields: object) -> str:
    """One row of the profiler's CSV: 128×256×512 in f16, `nt` of ours, 1 ms."""
    defaults: dict[str, object] = {
        "Problem": 1, "Provider": "CUTLASS", "OperationKind": "gemm", "Operation": "cutlass_tensorop_f16_s16816gemm",
        "Disposition": "passed", "Status": "success", "gemm_kind": "universal", "m": 128, "n": 256, "k": 512,
        "A": "f16:row", "B": "f16:column", "C": "f32:row", "D": "f32:row", "alpha": 1, "beta": 0,
        "split_k_mode": "serial", "split_k_slices": 1, "batch_count": 1, "op_class": "tensorop", "accum": "f32",
        "cta_m": 128, "cta_n": 128, "cta_k": 32, "Bytes": 1, "Flops": 1, "Flops/Byte": 1, "Runtime": 1.0, "GB/s": 1,
        "GFLOPs": 1,
    }  # fmt: skip
    filled = {**defaults, **fields}
    return ",".join(str(filled[name]) for name in CUTLASS_HEADER.split(","))
