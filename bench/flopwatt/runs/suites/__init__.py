"""Which GEMMs to measure: model files, the transformer generator, suites shipped and one's own.

The public face of this package; its modules are for reading.
"""

from flopwatt.runs.suites.model import Model, list_models, load_model
from flopwatt.runs.suites.suite import (
    DeviceKind,
    Suite,
    list_suites,
    load_suite,
    parse_shape,
    suite_from_model,
    suite_from_shapes,
)
from flopwatt.runs.suites.transformer import SuiteItem, linear_parameters, sequence, training_gemms

__all__ = [
    "DeviceKind",
    "Model",
    "Suite",
    "SuiteItem",
    "linear_parameters",
    "list_models",
    "list_suites",
    "load_model",
    "load_suite",
    "parse_shape",
    "sequence",
    "suite_from_model",
    "suite_from_shapes",
    "training_gemms",
]
