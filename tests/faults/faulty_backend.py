"""A backend whose kernels fail as kernels do, each way for one size of M. A test's `sitecustomize` adds it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from gemmkernels.backend import Config, Device, Launch, Operands
from gemmkernels.problem import Problem

SUMMARY = "kernels that fail"

SOUND_M = (64, 72)


def supports(problem: Problem, device: Device) -> str | None:
    return None


def configs(problem: Problem, device: Device) -> Sequence[Config]:
    return [{}]


def prepare(problem: Problem, config: Config, device: Device) -> Launch:
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


def garbage(operands: Operands) -> None:
    operands.out[3, 5] += 7


def not_a_number(operands: Operands) -> None:
    operands.out[-1, -1] = float("nan")


def throw(operands: Operands) -> None:
    raise RuntimeError("a kernel's\nlong story")


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
}
