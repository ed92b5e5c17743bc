"""aiconfigurator's GEMM tables: latency and power by shape and quantisation; `tables` reads them, `systems` writes."""

from flopwatt.analysis.formats.aiconfigurator.tables import open_table

__all__ = ["open_table"]
