"""A GPU as backends ask about it, from what a run file says of it: for choosing configurations away from the GPU."""

from __future__ import annotations

from typing import Final

from flopwatt.runs.records import Environment
from gemmkernels.backend import Device

SHARED_MEMORY_BYTES: Final[dict[tuple[int, int], int]] = {
    (8, 0): 166_912,
    (8, 6): 101_376,
    (8, 9): 101_376,
    (9, 0): 232_448,
    (10, 0): 232_448,
    (10, 3): 232_448,
    (12, 0): 101_376,
}
"""The most shared memory that one block may use, by compute capability: CUDA C++ Programming Guide, "Technical
Specifications per Compute Capability"."""


def device_of(environment: Environment) -> Device:
    """The device of an environment, its shared memory told by its compute capability.

    A chip that the table does not know gets the least in it: its largest tiles are left out.
    """
    capability = environment.capability
    shared_bytes = SHARED_MEMORY_BYTES.get(capability, min(SHARED_MEMORY_BYTES.values())) if capability else 0
    return Device(
        kind=environment.kind,
        name=environment.gpu,
        capability=capability,
        sm_count=environment.sm_count or 0,
        shared_memory_bytes=shared_bytes,
        l2_bytes=environment.l2_bytes or 0,
        memory_bytes=environment.memory_bytes or 0,
    )
