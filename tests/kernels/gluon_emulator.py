"""Runs the source of `gluon_kernel` on a CPU: its partitions as threads that take turns, its copies in any order.

One block after the other. Of all that could happen next, a partition going on or a copy landing, a seeded generator
picks one; copies are quick in some blocks and slow in others. What no hardware would report is an error here: reading a
buffer that has not landed, overwriting one that is being read, storing what is not fenced, partitions that wait for
each other, copies still under way at the end.
"""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from gluon_memory import Buffer, Descriptor, Element, Hazard, Pointer, Registers, SharedMemory
from triton.language import constexpr

from gemmkernels import gluon_kernel, triton_tiles
from gemmkernels.triton_call import KernelCall


class Partition(threading.Thread):
    """A partition's thread, which runs only between `resume` and its next `pause`."""

    def __init__(self, function: Callable[..., None], arguments: Sequence[Any]) -> None:
        super().__init__(daemon=True)
        self.function, self.arguments = function, arguments
        self.turn, self.back = threading.Semaphore(0), threading.Semaphore(0)
        self.ready: Callable[[], bool] = lambda: True
        self.error: BaseException | None = None
        self.done, self.abandoned = False, False
        self.products: list[tuple[Buffer, Buffer, Registers]] = []
        self.stores: list[list[Buffer]] = []
        self.unfenced: list[Buffer] = []

    def run(self) -> None:
        self.turn.acquire()
        try:
            if not self.abandoned:
                self.function(*self.arguments)
        except BaseException as error:
            self.error = error
        self.done = True
        self.back.release()

    def pause(self, ready: Callable[[], bool] = lambda: True) -> None:
        self.ready = ready
        self.back.release()
        self.turn.acquire()
        if self.abandoned:
            raise SystemExit

    def resume(self) -> None:
        self.turn.release()
        self.back.acquire()
        if self.error is not None:
            raise self.error


class Block:
    """One block of the grid: what a kernel's names mean while it runs."""

    def __init__(self, number: int, blocks: int, chance: random.Random) -> None:
        self.number, self.blocks, self.chance = number, blocks, chance
        self.copies: list[Callable[[], None]] = []
        self.slowness = chance.random()

    def specialize(self, partitions: Sequence[tuple[Callable[..., None], Sequence[Any]]], *_: Any) -> None:
        threads = [Partition(function, arguments) for function, arguments in partitions]
        for thread in threads:
            thread.start()
        try:
            while not all(thread.done for thread in threads):
                going = [thread.resume for thread in threads if not thread.done and thread.ready()]
                if not going and not self.copies:
                    raise Hazard("all partitions wait for each other")
                if going and (not self.copies or self.chance.random() < self.slowness):
                    self.chance.choice(going)()
                else:
                    self.copies.pop(self.chance.randrange(len(self.copies)))()
            if self.copies:
                raise Hazard("copies are under way at the end")
        finally:
            for thread in threads:
                thread.abandoned = True
                thread.turn.release()

    @staticmethod
    def init(barrier: Buffer, count: int) -> None:
        barrier.arrivals = barrier.awaited = count

    @staticmethod
    def wait(barrier: Buffer, phase: int) -> None:
        threading.current_thread().pause(lambda: barrier.phase % 2 != phase)

    @staticmethod
    def expect(barrier: Buffer, count: int) -> None:
        barrier.bytes += count
        barrier.arrive()

    @staticmethod
    def arrive(barrier: Buffer, count: int, pred: bool = True) -> None:
        if pred:
            barrier.arrive(count)

    def load(self, matrix: Descriptor, corner: Sequence[int], barrier: Buffer, buffer: Buffer) -> None:
        if buffer.readers:
            raise Hazard("a buffer is overwritten while it is multiplied")
        buffer.landed = False
        buffer.values.fill_(torch.nan)
        matrix.loads += 1

        def land() -> None:
            source, target = matrix.inside(corner)
            buffer.values.zero_()
            buffer.values[target] = matrix.memory[source].float()
            buffer.landed = True
            barrier.arrive(0, matrix.block_type.nbytes)

        self.copies.append(land)
        threading.current_thread().pause()

    def store(self, matrix: Descriptor, corner: Sequence[int], buffer: Buffer) -> None:
        if not buffer.fenced:
            raise Hazard("a copy may not see what was stored before a fence")
        buffer.readers += 1
        under_way = [buffer]
        threading.current_thread().stores.append(under_way)

        def land() -> None:
            target, source = matrix.inside(corner)
            matrix.memory[target] = buffer.values[source].to(matrix.dtype.dtype)
            matrix.writes[target] += 1
            buffer.readers -= 1
            under_way.clear()

        self.copies.append(land)
        threading.current_thread().pause()

    @staticmethod
    def store_wait(pending: int) -> None:
        thread = threading.current_thread()
        thread.pause(lambda: not any(thread.stores[: len(thread.stores) - pending]))

    @staticmethod
    def fence() -> None:
        for buffer in getattr(threading.current_thread(), "unfenced", ()):
            buffer.fenced = True

    @staticmethod
    def multiply(a: Buffer, b: Buffer, accumulator: Registers, is_async: bool, use_acc: bool = True) -> Registers:
        assert is_async
        for buffer in (a.owner, b.owner):
            if not buffer.landed:
                raise Hazard("a buffer is multiplied before it has landed")
            buffer.readers += 1
        if not use_acc:
            accumulator = Registers(torch.zeros_like(accumulator.values))
        threading.current_thread().products.append((a, b, accumulator))
        threading.current_thread().pause()
        return accumulator

    @staticmethod
    def multiply_wait(pending: int, deps: Sequence[Registers]) -> Registers:
        """Products are made as late as may be, when they are waited for."""
        products = threading.current_thread().products
        while len(products) > pending:
            a, b, accumulator = products.pop(0)
            accumulator.values += a.values @ b.values
            a.owner.readers -= 1
            b.owner.readers -= 1
        return deps[0]

    def names(self) -> dict[str, Any]:
        """What `gluon_kernel` imports and defines beside its functions."""
        return {
            "gluon": SimpleNamespace(jit=lambda function: function, constexpr_function=lambda function: function),
            "gl": SimpleNamespace(
                constexpr=None,
                float32=None,
                int64=Element(torch.int64),
                program_id=lambda axis: self.number,
                num_programs=lambda axis: self.blocks,
                static_range=range,
                static_assert=lambda condition: None,
                cdiv=lambda a, b: -(-a // b),
                arange=lambda start, end, _: torch.arange(start, end),
                zeros_like=lambda like: Registers(torch.full_like(like.values, torch.nan)),
                zeros=lambda shape, *_: Registers(torch.zeros(tuple(shape))),
                load=lambda pointer, mask=True, other=0.0: pointer.load(mask, other),
                SliceLayout=lambda *_: None,
                NVMMADistributedLayout=lambda **_: None,
                allocate_shared_memory=SharedMemory,
                warp_specialize=self.specialize,
            ),
            "mbarrier": SimpleNamespace(
                init=self.init, wait=self.wait, expect=self.expect, arrive=self.arrive, MBarrierLayout=lambda: None
            ),
            "tma": SimpleNamespace(store_wait=self.store_wait),
            "tma_load": self.load,
            "tma_store": self.store,
            "fence_async_shared": self.fence,
            "warpgroup_mma": self.multiply,
            "warpgroup_mma_wait": self.multiply_wait,
            "grouped_tile": triton_tiles.grouped_tile.fn,
            **{name: value.value for name, value in vars(gluon_kernel).items() if isinstance(value, constexpr)},
        }


FUNCTIONS = ("load_operands", "split_columns", "rescaled", "multiply", "c_buffers_each", "persistent_gemm")


def emulate(call: KernelCall, seed: int = 0, edits: Mapping[str, str] | None = None) -> list[Descriptor]:
    """Run one launch on tensors in memory; the descriptors of A, B and C, which have counted loads and writes.

    `edits`: text of the kernel to replace before, each of which must be there. Raises Hazard.
    """
    source = "\n".join(inspect.getsource(getattr(gluon_kernel, name).fn) for name in FUNCTIONS)
    for old, new in (edits or {}).items():
        assert old in source, old
        source = source.replace(old, new)
    chance = random.Random(seed)
    *matrices, scale_a, scale_b, m, n, k = call.positional
    descriptors = [Descriptor(matrix) for matrix in matrices]
    scales = [None if scale is None else Pointer(scale) for scale in (scale_a, scale_b)]
    meta = {name: value for name, value in call.meta.items() if name not in ("num_warps", "enable_fp_fusion")}
    for number in range(call.grid[0]):
        names = Block(number, call.grid[0], chance).names()
        exec(source, names)
        names["persistent_gemm"](*descriptors, *scales, m, n, k, **meta)
    return descriptors
