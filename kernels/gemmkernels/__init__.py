"""GEMM kernels under one protocol: Triton, PyTorch and NumPy, each with its launcher and configurations.

Knows nothing of power, files or the command line. Importing this package loads no torch and no triton.
"""

from gemmkernels.problem import DTYPES, LAYOUTS, Problem, ProblemError

__all__ = ["DTYPES", "LAYOUTS", "Problem", "ProblemError"]
