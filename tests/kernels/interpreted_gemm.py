"""Runs Triton backends in the interpreter over the cases on standard input, one JSON object a line each way.

A program of its own because the interpreter is chosen while Triton is imported, and for the whole process.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

from gemmkernels.backend import Device, load
from gemmkernels.inputs import make_operands
from gemmkernels.problem import Problem
from gemmkernels.reference import check

CPU = Device("cpu", "a CPU")
original_dot = interpreter.InterpreterBuilder.create_dot


def widened(operand: interpreter.TensorHandle) -> interpreter.TensorHandle:
    """The interpreter keeps bf16 as the integers of its bits, and would multiply those."""
    if operand.dtype.scalar != tl.bfloat16:
        return operand
    bits = operand.data.astype(np.uint32) << 16
    return interpreter.TensorHandle(bits.view(np.float32), tl.float32)


def dot_of_widened(self, a, b, *rest):
    return original_dot(self, widened(a), widened(b), *rest)


interpreter.InterpreterBuilder.create_dot = dot_of_widened

for line in sys.stdin:
    case = json.loads(line)
    backend = load(case["backend"])
    problem = Problem(**case["problem"])
    operands = make_operands(problem, CPU, distribution=case.get("distribution", "normal"))[0]
    config = case.get("config") or backend.configs(problem, CPU)[0]
    found = check(problem, backend.prepare(problem, config, CPU), operands)
    refusal = backend.supports(problem, CPU)
    print(json.dumps({"error": found.relative_error, "bound": found.bound, "refusal": refusal}), flush=True)
