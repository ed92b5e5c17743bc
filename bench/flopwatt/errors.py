"""What can go wrong, as types. The command line turns each into one line on stderr and an exit code.

FlopwattError               exit 2: the words or the input are wrong
├── InputError              a value, name or shape the user gave
│   └── LayoutRefused       a parallel layout that cannot be
├── RunFileError            a run file that cannot be read, written or continued
│   └── WritingStopped      exit 3: one that could be written no longer while measuring
├── SuiteError              a suite, model or scenario file
├── CalibrationError        a calibration file that is damaged, foreign or cannot be written
├── TuningStoreError        a tuning store that is damaged or cannot be written
├── DeviceError             no such device, or one that cannot measure
│   └── DeviceBusy          another process is on the GPU
├── CalibrationRefused      exit 1: a fit that predicts worse than a plain roofline
└── WorkerError             exit 1: the measuring process could not be started
"""

from __future__ import annotations


class FlopwattError(Exception):
    """Base of all errors meant for a person: one line that names the remedy."""

    exit_code = 2


class InputError(FlopwattError):
    """A value, name or shape the user gave is wrong."""


class LayoutRefused(InputError):
    """A parallel layout that cannot be, with the reason and the nearest one that can."""


class RunFileError(FlopwattError):
    """A run file cannot be read, written or continued."""


class WritingStopped(RunFileError):
    """A run file can be written no longer: measuring stopped, and what was measured before is kept."""

    exit_code = 3


class SuiteError(FlopwattError):
    """A suite, model or scenario file is malformed or unknown."""


class TuningStoreError(FlopwattError):
    """A tuning store is damaged or cannot be written."""


class CalibrationError(FlopwattError):
    """A calibration file is damaged, foreign or cannot be written."""


class CalibrationRefused(FlopwattError):
    """A fit predicts shapes held out worse than a plain roofline does: it is not written."""

    exit_code = 1


class DeviceError(FlopwattError):
    """The device asked for is not there or cannot measure."""


class DeviceBusy(DeviceError):
    """Another process is computing on the GPU."""


class WorkerError(FlopwattError):
    """The measuring process could not be started."""

    exit_code = 1
