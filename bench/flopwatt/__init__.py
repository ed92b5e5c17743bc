"""Measures matrix multiplication on GPUs: TFLOPS, watts and TFLOPS per watt, each with its uncertainty."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "load_calibration", "measure"]

if TYPE_CHECKING:
    from flopwatt.analysis.calibrate.files import load_calibration
    from flopwatt.measurement.callables import measure
    from flopwatt.runs.tidy import load


def __getattr__(name: str) -> Any:
    # pandas and torch take a second to import: each loads with the function that needs it.
    if name == "load":
        from flopwatt.runs.tidy import load

        return load
    if name == "load_calibration":
        from flopwatt.analysis.calibrate.files import load_calibration

        return load_calibration
    if name == "measure":
        from flopwatt.measurement.callables import measure

        return measure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
