"""The library backends: right results in every layout, refusals that name a remedy, settings as asked for."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch

from gemmkernels import numpy_blas, torch_cublaslt, torch_mm
from gemmkernels.backend import Device, Operands
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
        (torch_mm, Problem(8, 8, 8, dtype="fp8_e4m3"), A100, "choose backend torch-fp8"),
        (torch_mm, Problem(8, 8, 8, dtype="int8"), A100, "choose backend torch-int8"),
        (torch_mm, Problem(8, 8, 8, dtype="bf16", out_dtype="fp32"), CPU, "choose bf16"),
        (torch_mm, Problem(8, 8, 8, dtype="fp32", out_dtype="bf16"), A100, "choose fp32"),
        (torch_mm, Problem(8, 8, 8, dtype="tf32"), T4, "compute capability 8.0"),
        (torch_cublaslt, Problem(8, 8, 8), CPU, "choose backend torch"),
        (torch_cublaslt, Problem(8, 8, 8, dtype="int8"), A100, "choose backend torch-int8"),
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


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_gpu_also_keeps_16_bit_products_as_fp32(monkeypatch: pytest.MonkeyPatch, dtype: str):
    """PyTorch has this on CUDA alone, so the call is recorded."""
    problem = Problem(8, 8, 8, dtype=dtype, out_dtype="fp32")
    assert torch_mm.supports(problem, A100) is None
    calls: list[dict] = []
    monkeypatch.setattr(torch, "mm", lambda a, b, **named: calls.append(named))
    operands = make_operands(problem, CPU)[0]
    torch_mm.prepare(problem, {}, A100)(operands)
    assert calls == [{"out_dtype": torch.float32, "out": operands.out}]


class Preference:
    """Stands in for `torch.backends.cuda.preferred_blas_library` of a CUDA build: warns of the first change."""

    def __init__(self, library: str) -> None:
        self.library, self.warned = library, False

    def __call__(self, library: object = None) -> str:
        if library is not None:
            if not self.warned:
                warnings.warn("torch.backends.cuda.preferred_blas_library is an experimental feature.", stacklevel=2)
            self.warned = True
            self.library = str(library).rpartition(".")[2].lower()
        return f"_BlasBackend.{self.library.capitalize()}"


@pytest.fixture
def preference(monkeypatch: pytest.MonkeyPatch) -> Preference:
    """What PyTorch prefers; cublas at first."""
    preferred = Preference("cublas")
    monkeypatch.setattr(torch.backends.cuda, "preferred_blas_library", preferred)
    return preferred


def test_the_preference_is_read_in_pytorchs_own_words():
    assert torch_mm.preferred_blas() in ("default", "cublas", "cublaslt")


def test_a_gpu_chooses_between_two_libraries_pytorchs_own_first(preference: Preference):
    problem = Problem(8, 8, 8)
    assert list(torch_mm.configs(problem, A100)) == [{"blas": "cublas"}, {"blas": "cublaslt"}]
    preference.library = "cublaslt"
    assert list(torch_mm.configs(problem, A100)) == [{"blas": "cublaslt"}, {"blas": "cublas"}]
    preference.library = "default"
    assert [config["blas"] for config in torch_mm.configs(problem, A100)] == ["default", "cublas", "cublaslt"]


@pytest.mark.parametrize("library", ["cublas", "cublaslt"])
@pytest.mark.parametrize("before", ["cublas", "cublaslt", "default"])
def test_the_library_is_preferred_while_launching_and_then_as_before(
    preference: Preference, monkeypatch: pytest.MonkeyPatch, library: str, before: str
):
    problem = Problem(8, 8, 8, dtype="fp32")
    during: list[str] = []
    original = torch.mm

    def recording(*positional: torch.Tensor, out: torch.Tensor) -> None:
        during.append(preference.library)
        original(*positional, out=out)

    monkeypatch.setattr(torch, "mm", recording)
    preference.library = before
    launch = torch_mm.prepare(problem, {"blas": library}, A100)
    assert preference.library == before, "preparing one case leaves the others alone"
    assert check(problem, launch, make_operands(problem, CPU)[0]).ok
    assert during == [library]
    assert preference.library == before


def test_cublaslt_has_a_backend_of_its_own(preference: Preference, monkeypatch: pytest.MonkeyPatch):
    problem = Problem(8, 8, 8, dtype="fp32")
    (config,) = torch_cublaslt.configs(problem, A100)
    during: list[str] = []
    monkeypatch.setattr(torch, "mm", lambda *positional, out: during.append(preference.library))
    torch_cublaslt.prepare(problem, config, A100)(make_operands(problem, CPU)[0])
    assert (during, preference.library, config) == (["cublaslt"], "cublas", {"blas": "cublaslt"})


def test_the_preference_is_restored_after_a_failed_launch(preference: Preference):
    launch = torch_mm.prepare(Problem(8, 8, 8, dtype="fp32"), {"blas": "cublaslt"}, A100)
    operands = make_operands(Problem(8, 9, 8, dtype="fp32"), CPU)[0]
    mismatched = Operands(operands.a, operands.a[:3], operands.out)
    with pytest.raises(RuntimeError):
        launch(mismatched)
    assert preference.library == "cublas"


def test_a_library_that_pytorch_was_built_without_is_known_before_launching():
    if torch.backends.cuda.is_built():
        pytest.skip("this PyTorch was built with cuBLASLt")
    with pytest.raises(RuntimeError, match="cuBLASLt"):
        torch_mm.prepare(Problem(8, 8, 8), {"blas": "cublaslt"}, A100)


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
