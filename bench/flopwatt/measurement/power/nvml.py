"""The power sensor of an NVIDIA GPU, read through NVML, and the one place where NVML's errors become codes.

Everything goes through `nvidia-ml-py` (imported as `pynvml` when used); nothing here can set anything.
Source: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flopwatt.errors import DeviceError
from flopwatt.measurement.power.sensor import PowerReading, SensorLost, SlowReading

REMEDIES: Final = {
    "BINDINGS_NOT_INSTALLED": "pip install 'flopwatt[measure]'",
    "LIBRARY_NOT_FOUND": "no NVIDIA driver library here; install the driver, or start the container with --gpus all",
    "DRIVER_NOT_LOADED": "the NVIDIA kernel driver is not loaded; `nvidia-smi` must work first",
    "LIB_RM_VERSION_MISMATCH": "the driver was updated under a running kernel module; reboot",
    "NO_PERMISSION": "this user may not open the GPU; check the permissions of /dev/nvidia*",
    "GPU_IS_LOST": "the GPU has fallen off the bus; reboot",
    "RESET_REQUIRED": "the GPU needs a reset; `nvidia-smi --gpu-reset` as root",
    "NOT_FOUND": "no such GPU; `nvidia-smi -L` lists those there are",
    "INVALID_ARGUMENT": "no such GPU; `nvidia-smi -L` lists those there are",
}
"""NVML's code → what the user can do about it, where anything can be done."""

PERMANENT: Final = frozenset({"NOT_SUPPORTED", "FUNCTION_NOT_FOUND"})
"""Codes that no later call of the same function will improve on: it is not asked again."""

LOST: Final = frozenset(
    {"GPU_IS_LOST", "RESET_REQUIRED", "DRIVER_NOT_LOADED", "UNINITIALIZED", "LIB_RM_VERSION_MISMATCH", "GPU_NOT_FOUND"}
)
"""Codes after which the GPU or its driver answers nothing any more."""

FIELD_AVERAGE: Final = 185
FIELD_INSTANT: Final = 186
FIELD_POWER_VIOLATION: Final = 74
FIELD_THERMAL_VIOLATION: Final = 75
SCOPE_GPU: Final = 0
CLOCK_SM: Final = 1
CLOCK_MEMORY: Final = 2
TEMPERATURE_GPU: Final = 0
POLICY_POWER: Final = 0
POLICY_THERMAL: Final = 1
GA100: Final = (8, 0)
"""Compute capability of A100 and A30, the last architecture on which GetPowerUsage is an instantaneous value."""

GETTERS: Final = ("nvmlDeviceGet", "nvmlSystemGet", "nvmlInit", "nvmlShutdown")

VALUE_MEMBER: Final = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Member of nvmlValue_t by nvmlValueType_t."""


class NvmlError(DeviceError):
    """NVML refused a call. code: NVML's name for the error without its prefix, such as `NOT_SUPPORTED`."""

    def __init__(self, code: str, what: str) -> None:
        self.code = code
        remedy = REMEDIES.get(code)
        super().__init__(f"NVML: {code} in {what}" + (f": {remedy}" if remedy else ""))


class Nvml:
    """An initialised NVML. Every call goes through `call`, so errors have one translation and setters no way in."""

    def __init__(self) -> None:
        """Loads and initialises the library. Raises NvmlError."""
        try:
            import pynvml
        except ImportError:
            raise NvmlError("BINDINGS_NOT_INSTALLED", "import pynvml") from None
        self._pynvml = pynvml
        prefix = "NVML_ERROR_"
        self._codes = {
            getattr(pynvml, name): name.removeprefix(prefix) for name in dir(pynvml) if name.startswith(prefix)
        }
        self.call("nvmlInit")

    def call(self, name: str, *arguments: Any) -> Any:
        """What the getter `name` answers. Raises NvmlError; ValueError for a name that could change a GPU."""
        if not name.startswith(GETTERS):
            raise ValueError(f"{name} is no getter: nothing here may change a GPU")
        function = getattr(self._pynvml, name, None)
        if function is None:  # bindings older than the call
            raise NvmlError("FUNCTION_NOT_FOUND", name)
        try:
            return function(*arguments)
        except self._pynvml.NVMLError as error:
            raise NvmlError(self.code(error.value), name) from None
        except self._pynvml.NVMLLibraryMismatchError:  # what the bindings make of a missing versioned symbol
            raise NvmlError("FUNCTION_NOT_FOUND", name) from None

    def first(self, names: tuple[str, ...], *arguments: Any) -> Any:
        """What the first of `names` answers that this driver has. Raises NvmlError."""
        for name in names[:-1]:
            try:
                return self.call(name, *arguments)
            except NvmlError as error:
                if error.code != "FUNCTION_NOT_FOUND":
                    raise
        return self.call(names[-1], *arguments)

    def code(self, returned: int) -> str:
        """The name of an nvmlReturn_t; `ERROR_n` for one younger than the bindings."""
        return self._codes.get(returned, f"ERROR_{returned}")

    def field(self, device: Any, field: int) -> int:
        """One field value of the GPU itself (not its module or memory). Raises NvmlError."""
        return self.fields(device, (field,))[0].take()

    def fields(self, device: Any, fields: tuple[int, ...]) -> list[FieldAnswer]:
        """Several field values in one call, each with an outcome of its own. Raises NvmlError where all failed."""
        answers = self.call("nvmlDeviceGetFieldValues", device, [(field, SCOPE_GPU) for field in fields])
        return [self._field_answer(answer) for answer in answers]

    def _field_answer(self, answer: Any) -> FieldAnswer:
        if answer.nvmlReturn:
            return FieldAnswer(answer.fieldId, None, self.code(answer.nvmlReturn))
        if not 0 <= answer.valueType < len(VALUE_MEMBER):
            return FieldAnswer(answer.fieldId, None, f"VALUE_TYPE_{answer.valueType}")
        value = int(getattr(answer.value, VALUE_MEMBER[answer.valueType]))
        return FieldAnswer(answer.fieldId, value, "", int(answer.timestamp) or None)

    def find(self, selector: str | None) -> Any:
        """The device that `selector` names; the physical GPU where it names a MIG slice. Raises NvmlError.

        selector: a UUID with or without its `GPU-` or `MIG-`, a PCI bus id, an NVML index, or None for the first.
        NVML's order is not CUDA's: pass CUDA's device by UUID or PCI bus id.
        """
        if selector is None or selector.isdecimal():
            return self.call("nvmlDeviceGetHandleByIndex", int(selector or 0))
        if ":" in selector:
            return self.call("nvmlDeviceGetHandleByPciBusId", selector)
        if selector.startswith("GPU-"):
            return self.call("nvmlDeviceGetHandleByUUID", selector)
        if selector.startswith("MIG-"):
            slice_ = self.call("nvmlDeviceGetHandleByUUID", selector)
            return self.call("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", slice_)
        try:
            return self.find(f"GPU-{selector}")
        except NvmlError as error:
            if error.code not in {"NOT_FOUND", "INVALID_ARGUMENT"}:
                raise
        return self.find(f"MIG-{selector}")

    def close(self) -> None:
        """Lets the driver go; one that is already gone is no error."""
        try:
            self.call("nvmlShutdown")
        except NvmlError:
            return


class FieldAnswer:
    """The outcome of one field: its value and the driver's own time of it (µs since 1970), or its code."""

    def __init__(self, field: int, value: int | None, code: str, stamp_us: int | None = None) -> None:
        self.field, self.value, self.code, self.stamp_us = field, value, code, stamp_us

    def take(self) -> int:
        """The value. Raises NvmlError."""
        if self.value is None:
            raise NvmlError(self.code, f"field {self.field}")
        return self.value


class _Quantity:
    """One reading, with the calls that give it, preferred first; those that this driver or GPU lacks are dropped."""

    def __init__(self, name: str, unreadable: dict[str, str], *calls: Callable[[], int]) -> None:
        self._name = name
        self._unreadable = unreadable
        self._calls = list(calls)

    def read(self) -> int | None:
        """The value, or None with its code in `unreadable`. Raises SensorLost."""
        code = None
        for call in list(self._calls):
            try:
                return call()
            except NvmlError as error:
                if error.code in LOST:
                    raise SensorLost(str(error)) from None
                code = error.code
                if code in PERMANENT:
                    self._calls.remove(call)
        if code:
            self._unreadable[self._name] = code
        return None


class _Power:
    """Instant and average power, fields 186 and 185, in one call.

    Where a field is missing (drivers before 530 know neither), GetPowerUsage stands in for instant power on GA100 and
    older, where it is documented to be instantaneous; `unreadable` then says so under `field_186`. On newer parts its
    documented meaning is the 1 s average, but only in the drivers that have the fields too: it is left alone there.
    """

    QUANTITY: Final = {FIELD_INSTANT: "instant_mw", FIELD_AVERAGE: "average_mw"}

    def __init__(self, nvml: Nvml, device: Any, unreadable: dict[str, str]) -> None:
        self._nvml, self._device, self._unreadable = nvml, device, unreadable
        self._asked: tuple[int, ...] = (FIELD_INSTANT, FIELD_AVERAGE)
        self._usage: _Quantity | None = None

    def read(self) -> PowerReading:
        """Instant and average power, and the driver's time of the first of them. Raises SensorLost."""
        answers = self._ask()
        values = {answer.field: answer.value for answer in answers}
        instant = values.get(FIELD_INSTANT)
        if instant is None and self._usage:
            instant = self._usage.read()
        stamp_us = next((answer.stamp_us for answer in answers if answer.stamp_us is not None), None)
        return PowerReading(instant, values.get(FIELD_AVERAGE), stamp_us=stamp_us)

    def _ask(self) -> list[FieldAnswer]:
        if not self._asked:
            return []
        try:
            answers = self._nvml.fields(self._device, self._asked)
        except NvmlError as error:
            answers = [FieldAnswer(field, None, error.code) for field in self._asked]
        for answer in answers:
            if answer.code:
                self._failed(answer)
        return answers

    def _failed(self, answer: FieldAnswer) -> None:
        if answer.code in LOST:
            raise SensorLost(str(NvmlError(answer.code, f"field {answer.field}")))
        name = self.QUANTITY[answer.field]
        self._unreadable[name] = answer.code
        if answer.code not in PERMANENT and answer.code != "INVALID_ARGUMENT":  # an old driver's word for no such field
            return
        self._asked = tuple(field for field in self._asked if field != answer.field)
        if answer.field == FIELD_INSTANT and self._usage_is_instant():
            del self._unreadable[name]
            self._unreadable["field_186"] = f"{answer.code}; instant_mw is GetPowerUsage, instantaneous on this GPU"
            usage = self._nvml.call
            self._usage = _Quantity(name, self._unreadable, lambda: int(usage("nvmlDeviceGetPowerUsage", self._device)))

    def _usage_is_instant(self) -> bool:
        try:
            return tuple(self._nvml.call("nvmlDeviceGetCudaComputeCapability", self._device)) <= GA100
        except NvmlError:
            return False


class NvmlSensor:
    """The power sensor of one NVIDIA GPU. Readings are NVML's own, zeros included: judging them is not its business."""

    source = "nvml"

    def __init__(self, nvml: Nvml, device: Any) -> None:
        """device: a handle of `nvml`, which the sensor closes."""
        self.unreadable: dict[str, str] = {}
        self._nvml = nvml
        self._power = _Power(nvml, device, self.unreadable)

        def quantity(name: str, *calls: Callable[[], Any]) -> _Quantity:
            return _Quantity(name, self.unreadable, *calls)

        def getter(name: str, *arguments: int) -> Callable[[], Any]:
            return lambda: nvml.call(f"nvmlDeviceGet{name}", device, *arguments)

        def violation(policy: int) -> Callable[[], int]:
            return lambda: int(nvml.call("nvmlDeviceGetViolationStatus", device, policy).violationTime)

        def field(number: int) -> Callable[[], int]:
            return lambda: nvml.field(device, number)

        self._counter = quantity("counter", getter("TotalEnergyConsumption"))
        self._clock = quantity("clock_mhz", getter("ClockInfo", CLOCK_SM))
        self._temperature = quantity(
            "temp_c", getter("TemperatureV", TEMPERATURE_GPU), getter("Temperature", TEMPERATURE_GPU)
        )
        self._reasons = quantity("reasons", getter("CurrentClocksEventReasons"), getter("CurrentClocksThrottleReasons"))
        self._slow = (
            quantity("power_limit_mw", getter("EnforcedPowerLimit")),
            quantity("power_violation_ns", violation(POLICY_POWER), field(FIELD_POWER_VIOLATION)),
            quantity("thermal_violation_ns", violation(POLICY_THERMAL), field(FIELD_THERMAL_VIOLATION)),
            quantity("memory_clock_mhz", getter("ClockInfo", CLOCK_MEMORY)),
        )

    def read_counter(self) -> int | None:
        return self._counter.read()

    def read_power(self) -> PowerReading:
        return self._power.read()._replace(
            clock_mhz=self._clock.read(), temp_c=self._temperature.read(), reasons=self._reasons.read()
        )

    def read_watts(self) -> PowerReading:
        return self._power.read()

    def read_slow(self) -> SlowReading:
        return SlowReading(*(quantity.read() for quantity in self._slow))

    def close(self) -> None:
        self._nvml.close()


def open_nvml(selector: str | None = None) -> NvmlSensor:
    """The sensor of the GPU that `selector` names, as in `Nvml.find`. Raises NvmlError."""
    nvml = Nvml()
    try:
        return NvmlSensor(nvml, nvml.find(selector))
    except NvmlError:
        nvml.close()
        raise
