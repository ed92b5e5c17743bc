"""A backend whose kernels fail as kernels do, each way for one size of M. A test's `sitecustomize` adds it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import Problem

SUMMARY = "kernels that fail"

SITE = """
import gemmkernels.backend
gemmkernels.backend.BACKENDS["faulty"] = "faulty_backend"
from flopwatt.measurement import worker_client
measure = worker_client.Worker.measure
def impatient(worker, planned, seed, soak, timeout_s):
    return measure(worker, planned, seed, soak, 5.0 if planned.case.problem.m == 88 else timeout_s)
worker_client.Worker.measure = impatient
"""
"""A `sitecustomize` that adds this backend, and waits 5 s for the kernel that hangs."""

SOUND_M = (64, 72)
LEAKED_INTO = 56
LEFT_BEHIND: list[int] = []
"""Cases that this process has seen before LEAKED_INTO: memory that none of them gave back."""


def supports(problem: Problem, device: Device) -> str | None:
    return None


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    return [{}]


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
    LEFT_BEHIND.append(problem.m)
    del LEFT_BEHIND[: problem.m == LEAKED_INTO and len(LEFT_BEHIND) == 1]

    def launch(operands: Operands) -> None:
        torch.mm(operands.a, operands.b, out=operands.out)
        if problem.m not in SOUND_M:
            FAULTS[problem.m](operands)

    return launch


def segfault(operands: Operands) -> None:
    ctypes.string_at(8)


def hang(operands: Operands) -> None:
    while True:
        time.sleep(1)


def leak(operands: Operands) -> None:
    """Up to a limit of this process, so that the machine survives the test."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, resource.RLIM_INFINITY))
    try:
        kept = []
        while True:
            kept.append(bytearray(64 * 2**20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def overflow_device(operands: Operands) -> None:
    """The first time in a process's life memory that other cases left behind is short; in a fresh one it is not."""
    if LEFT_BEHIND:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")


def garbage(operands: Operands) -> None:
    operands.out[3, 5] += 7


def not_a_number(operands: Operands) -> None:
    operands.out[-1, -1] = float("nan")


def throw(operands: Operands) -> None:
    raise RuntimeError("a kernel's\nlong story")


def tell_secrets(operands: Operands) -> None:
    """Says where it runs, for whom and on which board, as errors of compilers and loaders do."""
    raise OSError(
        f"[Errno 13] Permission denied: '{Path.home()}/my kernels/gemm.cu' (included from {Path(__file__)}), "
        f"cache {os.getcwd()}/cache for {os.environ['USER']} on {socket.gethostname()}, "
        "home /home/somebody, board GPU-00000000-1111-2222-3333-444444444440"
    )


def cuda_error(operands: Operands) -> None:
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


def leave(operands: Operands) -> None:
    os._exit(3)


def die(operands: Operands) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def chatter(operands: Operands) -> None:
    """Writes to every descriptor but the standard ones, the channel to the command line among them."""
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"\xff" * 64)
        except OSError:
            continue


def leave_by_exception(operands: Operands) -> None:
    sys.exit("a library that calls exit")


FAULTS = {
    80: segfault,
    88: hang,
    96: leak,
    104: garbage,
    112: not_a_number,
    120: throw,
    128: cuda_error,
    136: leave,
    144: die,
    152: chatter,
    160: leave_by_exception,
    168: tell_secrets,
    56: overflow_device,
}
