"""The library backends: right results in every layout, refusals that name a remedy, settings as asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from gemmkernels import numpy_blas, torch_mm
from gemmkernels.backend import Device
from gemmkernels.inputs import make_operands
from gemmkernels.problem import Problem
from gemmkernels.reference import check

CPU = Device("cpu", "a CPU")
A100 = Device("cuda", "NVIDIA A100", 0, (8, 0))
T4 = Device("cuda", "Tesla T4", 0, (7, 5))


@pytest.mark.parametrize(("module", "dtype"), [(torch_mm, "fp32"), (torch_mm, "bf16"), (numpy_blas, "fp32")])
@pytest.mark.parametrize("layout", ["nn", "nt", "tn"])
@pytest.mark.parametrize("batch", [1, 3])
def test_products_are_right_and_written_in_place(module, dtype: str, layout: str, batch: int):
    problem = Problem(130, 67, 93, batch=batch, dtype=dtype, layout=layout)
    assert module.supports(problem, CPU) is None
    assert list(module.configs(problem, CPU)) == [{}]
    operands = make_operands(problem, CPU)[0]
    address = operands.out.data_ptr()
    found = check(problem, module.prepare(problem, {}, CPU), operands)
    assert found.ok, found
    assert found.relative_error < found.bound / 2, "with margin"
    assert operands.out.data_ptr() == address


@pytest.mark.parametrize(
    ("module", "problem", "device", "reason"),
    [
        (torch_mm, Problem(8, 8, 8, dtype="fp16"), CPU, "1-2.5 GFLOPS"),
        (torch_mm, Problem(8, 8, 8, dtype="tf32"), CPU, "no tf32"),
        (torch_mm, Problem(8, 8, 8, dtype="fp8_e4m3"), A100, "multiplies no fp8_e4m3"),
        (torch_mm, Problem(8, 8, 8, dtype="int8"), A100, "multiplies no int8"),
        (torch_mm, Problem(8, 8, 8, dtype="bf16", out_dtype="fp32"), A100, "out_dtype bf16"),
        (torch_mm, Problem(8, 8, 8, dtype="tf32"), T4, "compute capability 8.0"),
        (numpy_blas, Problem(8, 8, 8, dtype="fp32"), A100, "CPU only"),
        (numpy_blas, Problem(8, 8, 8, dtype="bf16"), CPU, "choose fp32"),
    ],
)
def test_refusals_say_why_and_what_instead(module, problem: Problem, device: Device, reason: str):
    refusal = module.supports(problem, device)
    assert refusal is not None
    assert reason in refusal
    assert "choose" in refusal


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "tf32", "fp32"])
def test_a_gpu_multiplies_every_usual_format(dtype: str):
    assert torch_mm.supports(Problem(8, 8, 8, dtype=dtype), A100) is None


def test_settings_are_in_force_and_reported():
    """In a process of its own: the settings are the process's, and cannot be read the old way afterwards."""
    program = (
        "from gemmkernels import torch_mm; from gemmkernels.problem import Problem; import torch;"
        "first = torch_mm.apply_settings(Problem(8, 8, 8, dtype='tf32'));"
        "assert torch.backends.cuda.matmul.fp32_precision == 'tf32';"
        "second = torch_mm.apply_settings(Problem(8, 8, 8, dtype='fp32'));"
        "assert torch.backends.cuda.matmul.fp32_precision == 'ieee';"
        "assert torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction is False;"
        "assert torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction is False;"
        "print(first['fp32_precision'], *second.values())"
    )
    path = torch_mm.__file__.rpartition("/gemmkernels/")[0]
    command = [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {path!r}); {program}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["tf32", "ieee", "false", "false"], done.stderr


def test_numpy_shares_the_tensors_memory():
    operands = make_operands(Problem(4, 4, 4, dtype="fp32", layout="tn"), CPU)[0]
    numpy_blas.prepare(Problem(4, 4, 4, dtype="fp32", layout="tn"), {}, CPU)(operands)
    torch.testing.assert_close(operands.out, operands.a @ operands.b)
