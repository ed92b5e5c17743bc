"""What a Gluon kernel works on while `gluon_emulator` runs it: matrices, shared memory and registers as tensors."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch


class Hazard(Exception):
    """Something that goes wrong on a GPU, at times or always."""


class Element(SimpleNamespace):
    """A number format, as PyTorch's and by its width."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__(dtype=dtype, primitive_bitwidth=8 * dtype.itemsize)


class Descriptor:
    """A TMA descriptor's matrix, as it lies in memory, and block."""

    def __init__(self, real: Any) -> None:
        self.memory = torch.as_strided(real.base, tuple(real.shape), tuple(real.strides))
        self.dtype = Element(real.base.dtype)
        self.layout = real.layout
        block_bytes = real.block_shape[0] * real.block_shape[1] * real.base.dtype.itemsize
        self.block_type = SimpleNamespace(shape=list(real.block_shape), nbytes=block_bytes)
        self.loads = 0
        self.writes = torch.zeros(tuple(real.shape), dtype=torch.int32)

    def inside(self, corner: Sequence[int]) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """What of the block at `corner` the matrix holds: where in the matrix, and where in the block."""
        sizes = [
            max(0, min(side, size - start))
            for start, side, size in zip(corner, self.block_type.shape, self.memory.shape, strict=True)
        ]
        matrix = tuple(slice(start, start + size) for start, size in zip(corner, sizes, strict=True))
        return matrix, tuple(slice(0, size) for size in sizes)


class Pointer:
    """A device pointer: what indices are added to, and what is loaded from."""

    def __init__(self, memory: torch.Tensor, index: Any = 0) -> None:
        self.memory, self.at = memory.reshape(-1), index

    def __add__(self, index: torch.Tensor) -> Pointer:
        return Pointer(self.memory, index)

    def load(self, mask: Any = True, other: float = 0.0) -> torch.Tensor:
        inside = torch.as_tensor(mask)
        return torch.where(inside, self.memory[torch.where(inside, self.at, 0)], torch.tensor(other))


class Registers:
    """A tensor of a partition."""

    type = SimpleNamespace(layout=None)

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self.shape = values, list(values.shape)

    def __add__(self, other: Registers) -> Registers:
        return Registers(self.values + other.values)

    def __mul__(self, factor: torch.Tensor) -> Registers:
        return Registers(self.values * factor)

    def reshape(self, shape: Sequence[int]) -> Registers:
        return Registers(self.values.reshape(tuple(shape)))

    def permute(self, *order: int) -> Registers:
        return Registers(self.values.permute(order))

    def split(self) -> tuple[Registers, Registers]:
        return Registers(self.values[..., 0]), Registers(self.values[..., 1])

    def to(self, element: Element) -> Registers:
        return Registers(self.values.to(element.dtype).float())


class Buffer:
    """A piece of shared memory: filled with NaN, `landed` once a copy has filled it."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.values = torch.full(tuple(shape), torch.nan)
        self.landed, self.fenced, self.readers = False, False, 0
        self.owner = self
        self.phase, self.arrivals, self.awaited, self.bytes = 0, 0, 0, 0  # where it is a barrier

    def permute(self, order: tuple[int, int]) -> Buffer:
        turned = Buffer((0,))
        turned.values, turned.owner = self.values.permute(order), self.owner
        return turned

    def store(self, registers: Registers) -> None:
        if self.readers:
            raise Hazard("a buffer is refilled while it is being stored")
        self.values.copy_(registers.values)
        self.fenced = False
        threading.current_thread().unfenced.append(self)

    def arrive(self, count: int = 1, arriving_bytes: int = 0) -> None:
        """One of a barrier's arrivals, or bytes that have landed; the last one of both completes the phase."""
        self.arrivals -= count
        self.bytes -= arriving_bytes
        if self.arrivals < 0:
            raise Hazard("more arrivals than a barrier was made for")
        if self.arrivals == 0 and self.bytes == 0:
            self.phase, self.arrivals = self.phase + 1, self.awaited


class SharedMemory:
    """Buffers by their first index."""

    def __init__(self, element: Element, shape: Sequence[int], _layout: Any) -> None:
        self.dtype, self.shape = element, list(shape)
        self.buffers = [Buffer(shape[1:]) for _ in range(shape[0])]

    def index(self, number: int) -> Buffer:
        return self.buffers[number]
