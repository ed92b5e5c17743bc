"""Everything the driver asks of Ray: the nodes there are, tasks placed on them, and what they send."""

from __future__ import annotations

import os
import secrets
import socket
import time
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from flopwatt.errors import InputError
from flopwatt.fleet import agent
from flopwatt.fleet.agent import Common, Order
from flopwatt.fleet.gate import Gate
from flopwatt.fleet.slots import Slot
from flopwatt.text import anonymous, plain, shortened

if TYPE_CHECKING:
    from types import ModuleType

AHEAD: Final = 16
"""Lines that a task may be ahead of the driver; then it waits, between two cases. It bounds the driver's memory."""

REACH_TIMEOUT_S: Final = 10.0
"""How long a cluster's port may take to accept a connection."""

JOIN_TIMEOUT_S: Final = 300.0
"""How long nodes that are expected may take to join."""

STORE_B: Final = 128 * 2**20
"""Ray's shared memory on a machine where we start it: our messages are too small to go there."""

AUTH_MODE, AUTH_TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"

_PLACED_NOWHERE: Final = ("NodeDiedError", "TaskUnschedulableError", "ActorUnschedulableError")
_WORDS: Final = {
    "NodeDiedError": "its node died",
    "TaskUnschedulableError": "its node is gone",
    "WorkerCrashedError": "its process on the node was killed",
    "OutOfMemoryError": "its process on the node was killed for want of memory",
    "TaskCancelledError": "it was cancelled",
    "ObjectLostError": "its node died",
    "OwnerDiedError": "its process on the node was killed",
}


@dataclass(frozen=True, slots=True)
class Lost:
    """A task came to grief. gone: its node did, so that nothing can be placed there again."""

    reason: str
    gone: bool


class Ended:
    """A task sent all that it had."""


class RayCluster:
    """A connection to a Ray cluster. `close` ends it, and the Ray that was started for it."""

    def __init__(self, address: str | None = None) -> None:
        """address: of a cluster to join, as `ray start` prints it; None starts Ray on this machine.

        Raises InputError where Ray is not installed, or no cluster answers.
        """
        self._secret = () if address else _secret()
        if address:
            _reach(address)
            # A line a second from Ray while none answers would bury the one that says what to do.
            os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
        self._ray = _ray()
        local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": STORE_B}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                options = {"logging_level": "ERROR", "log_to_driver": False, **({} if address else local)}
                self._ray.init(address=address or "local", **options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            said = shortened(anonymous(" ".join(str(error).split())))
            if address is None:
                raise InputError(f"Ray does not start ({said}): see /tmp/ray/session_latest/logs") from None
            remedy = f"see `ray status`; where it has a token, set {AUTH_MODE}=token and {AUTH_TOKEN} to it"
            raise InputError(f"no Ray cluster answers at {address} ({said}): {remedy}") from None
        self._common: Any = None
        self._gate: Any = None
        self._slots: dict[Any, Slot] = {}

    def nodes(self, wanted: int = 1) -> list[Mapping[str, Any]]:
        """The cluster's nodes as Ray tells them, once so many have joined it.

        Raises InputError where they do not within `JOIN_TIMEOUT_S`.
        """
        until_s = time.monotonic() + JOIN_TIMEOUT_S
        while True:
            found: list[Mapping[str, Any]] = self._ray.nodes()
            alive = sum(node["Alive"] for node in found)
            if alive >= wanted:
                return found
            if time.monotonic() > until_s:
                raise InputError(
                    f"{alive} of {wanted} nodes joined the cluster: see `ray status`, or give fewer --nodes"
                )
            time.sleep(1)

    def share(self, common: Common, slots: Iterable[Slot]) -> None:
        """Tells all tasks to come what they share, and who is to begin together."""
        self._common = self._ray.put(common)
        if common.mode == "together":
            expected = Counter(slot.node for slot in slots if slot.where is not None)
            self._gate = self._ray.remote(num_cpus=0, max_concurrency=max(1000, expected.total()))(Gate).remote(
                expected
            )

    def submit(self, slot: Slot, order: Order, alone: bool) -> Any:
        """Starts a slot's task: a stream of its messages. alone: nobody gets another GPU of its node meanwhile."""
        options: dict[str, Any] = {"num_cpus": slot.cpus, "max_retries": 0, "num_returns": "streaming"}
        options["_generator_backpressure_num_objects"] = AHEAD
        if slot.where is not None:
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(slot.where, soft=False)
            if slot.accelerator != "cpu":
                options["num_gpus"] = slot.of if alone else 1
        gate = None if slot.where is None else self._gate
        stream = self._ray.remote(agent.measure).options(**options).remote(order, self._common, gate)
        self._slots[stream] = slot
        return stream

    def ready(self, streams: list[Any], timeout_s: float) -> Any:
        """A stream that has something to say, None after so long a silence."""
        found, _ = self._ray.wait(streams, num_returns=1, timeout=timeout_s)
        return found[0] if found else None

    def take(self, stream: Any) -> bytes | Ended | Lost:
        """The next message of a ready stream, or why there is none."""
        try:
            message: bytes = self._ray.get(next(stream))
        except StopIteration:
            self._slots.pop(stream, None)
            return Ended()
        except self._ray.exceptions.RayError as error:
            slot = self._slots.pop(stream, None)
            if self._gate is not None and slot is not None and slot.where is not None:
                self._gate.excuse.remote(slot.node)
            return _lost(error)
        return message

    def cancel(self, streams: Iterable[Any]) -> None:
        """Ends tasks at once."""
        for stream in streams:
            with suppress(self._ray.exceptions.RayError, ValueError):
                self._ray.cancel(stream, force=True)
            self._slots.pop(stream, None)

    def close(self) -> None:
        """Leaves the cluster."""
        self._ray.shutdown()
        for name in self._secret:
            os.environ.pop(name, None)


def _lost(error: Exception) -> Lost:
    name = type(error).__name__
    cause = getattr(error, "cause", None)
    if cause is not None and name not in _WORDS:
        said = shortened(anonymous(" ".join(str(cause).split())))
        return Lost(f"fault in flopwatt on the node, {type(cause).__name__}: {said}", gone=False)
    return Lost(_WORDS.get(name, f"Ray lost it ({name})"), gone=name in _PLACED_NOWHERE)


def _secret() -> tuple[str, ...]:
    """A token for a Ray of our own, in this process's environment: without one, who reaches its port may run anything.

    Ray reads it when it is imported. The names that were set; none where the user has chosen.
    """
    if AUTH_MODE in os.environ:
        return ()
    os.environ.update({AUTH_MODE: "token", AUTH_TOKEN: secrets.token_hex(32)})
    return AUTH_MODE, AUTH_TOKEN


def _reach(address: str) -> None:
    """Raises InputError where nothing listens at a HOST:PORT, which Ray takes minutes to find out."""
    host, _, port = address.rpartition(":")
    if "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), REACH_TIMEOUT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:
        said = plain(error) if isinstance(error, OSError) else str(error)
        raise InputError(
            f"no Ray cluster answers at {address} ({said}): give what `ray start --head` printed"
        ) from None


def _ray() -> ModuleType:
    # Read when Ray is imported. A benchmark reports to nobody, and a task without a GPU keeps what it may see.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise InputError("a fleet needs Ray: pip install 'flopwatt[fleet]'") from None
    module: ModuleType = ray
    return module
