"""Every kernel on a real GPU: right in every format and layout, captured by CUDA graphs, tuned. `make test-gpu`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

import torch

from flopwatt.measurement.clock import MonotonicClock
from flopwatt.measurement.device import choose, threads
from flopwatt.measurement.timing_cuda import CudaTimer
from flopwatt.measurement.tuned.store import load as load_store
from flopwatt.measurement.tuning.compiling import Job, Resources, compile_all
from flopwatt.measurement.tuning.search import tunable
from gemmkernels import inputs, reference, torch_mm
from gemmkernels.backend import BACKENDS, Backend, Config, Device, Launch, Operands, load
from gemmkernels.problem import DTYPES, LAYOUTS, Problem

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no GPU"),
]

SHAPES = {
    "even": (1024, 1024, 1024, 1),
    "ragged tiles": (1008, 784, 1040, 1),
    "rows anywhere": (1001, 777, 1013, 1),
    "one row": (1, 1024, 2048, 1),
    "one column": (4096, 1, 257, 1),
    "few tiles, long K": (256, 256, 16384, 1),
    "training": (8192, 8192, 4096, 1),
    "batch": (272, 144, 1040, 3),
}
"""M, N, K and batch."""
SCALINGS = {"fp8_e4m3": ("tensor", "row"), "fp8_e5m2": ("tensor", "row")}


@pytest.fixture(scope="module")
def device() -> Device:
    return choose("cuda:0")


def problem_of(shape: tuple[int, int, int], dtype: str) -> Problem:
    return Problem(*shape, dtype=dtype, layout="nt", scaling="tensor" if dtype in SCALINGS else None)


def supported(name: str, problem: Problem, device: Device) -> Backend:
    """The backend; skips where it cannot compute the problem, with its reason."""
    backend = load(name)
    reason = backend.supports(problem, device)
    if reason is not None:
        pytest.skip(reason)
    return backend


def assert_right(backend: Backend, problem: Problem, config: Config, device: Device) -> reference.Correctness:
    torch_mm.apply_settings(problem)
    (operands,) = inputs.make_operands(problem, device)
    found = reference.check(problem, backend.prepare(problem, config, device), operands)
    assert found.ok, f"{problem} {config}: relative error {found.relative_error}, bound {found.bound}"
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BACKENDS)
def test_every_default_is_right(name: str, dtype: str, layout: str, device: Device) -> None:
    """At every shape, scaled in every way, that the backend computes; skipped where there is none."""
    backend = load(name)
    problems = [
        Problem(*shape, batch=batch, dtype=dtype, layout=layout, scaling=scaling)
        for *shape, batch in SHAPES.values()
        for scaling in SCALINGS.get(dtype, (None,))
    ]
    reasons = {problem: backend.supports(problem, device) for problem in problems}
    computed = [problem for problem, reason in reasons.items() if reason is None]
    if not computed:
        pytest.skip(str(reasons[problems[0]]))
    for problem in computed:
        assert_right(backend, problem, backend.configs(problem, device)[0], device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", tunable() if torch.cuda.is_available() else ["none"])
def test_every_candidate_is_right(name: str, dtype: str, device: Device) -> None:
    """Each configuration on tiles that hang over; compiled ahead on all cores."""
    problem = problem_of((1040, 784, 2064), dtype)
    backend = supported(name, problem, device)
    jobs = [Job(name, config, device, (problem,)) for config in backend.configs(problem, device)]
    for job, (result,) in compile_all(jobs, threads()):
        assert isinstance(result, Resources), (job.config, result)
        assert_right(backend, problem, job.config, device)


def counted_allocations() -> int:
    return int(torch.cuda.memory_stats()["allocation.all.allocated"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BACKENDS)
def test_launches_are_captured_and_allocate_nothing(name: str, dtype: str, device: Device) -> None:
    problem = problem_of((512, 512, 8192), dtype)
    backend = supported(name, problem, device)
    torch_mm.apply_settings(problem)
    (operands,) = inputs.make_operands(problem, device)
    for config in backend.configs(problem, device)[:2]:  # of split K the second may add atomically
        launch = backend.prepare(problem, config, device)
        launch(operands)
        launch(operands)
        torch.cuda.synchronize()
        before = counted_allocations()
        for _ in range(3):
            launch(operands)
        torch.cuda.synchronize()
        assert counted_allocations() == before, "a warm launch allocates"
        assert_captured(problem, launch, operands)


def assert_captured(problem: Problem, launch: Launch, operands: Operands) -> None:
    """A replayed graph computes the right C, and so does what the timer makes of the launch."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        launch(operands)
    found = reference.check(problem, lambda _: graph.replay(), operands)
    assert found.ok, found
    timer = CudaTimer(lambda _: launch(operands), 1, MonotonicClock())
    assert timer.warm_up() > 0
    assert timer.name == "cuda-graph"


def test_the_workspace_form_of_split_k_repeats_bit_for_bit(device: Device) -> None:
    problem = Problem(256, 256, 16384, layout="nt")
    backend = supported("triton-splitk", problem, device)
    config = backend.configs(problem, device)[0]
    assert config["REDUCTION"] == "workspace"
    (operands,) = inputs.make_operands(problem, device)
    launch = backend.prepare(problem, config, device)
    launch(operands)
    first = operands.out.clone()
    for _ in range(20):
        launch(operands)
        assert torch.equal(operands.out, first)


@pytest.mark.parametrize("name", ["torch-fp8", "triton-persistent", "gluon-persistent"])
def test_promotion_keeps_more_bits_on_hopper(name: str, device: Device) -> None:
    """What sets the backends called fast apart: summed in the tensor cores, long rows lose bits."""
    if device.capability != (9, 0):
        pytest.skip(f"{device.name} sums fp8 products in fp32 either way: needs compute capability 9.0")
    problem = Problem(256, 256, 16384, dtype="fp8_e4m3", out_dtype="fp32", layout="nt", scaling="tensor")
    errors = []
    for backend_name in (name, f"{name}-fast"):
        backend = supported(backend_name, problem, device)
        errors.append(assert_right(backend, problem, backend.configs(problem, device)[0], device).relative_error)
    promoted, fast = errors
    assert promoted < fast


@pytest.mark.parametrize("objective", ["time", "energy"])
def test_a_small_shape_is_tuned(objective: str, tmp_path: Path) -> None:
    store = tmp_path / "tuning.json"
    words = [
        "tune",
        "--device",
        "cuda:0",
        "--shape",
        "1024x1024x1024",
        "--backend",
        "triton-tiled",
        "--candidates",
        "4",
    ]
    done = subprocess.run(
        [sys.executable, "-m", "flopwatt", *words, "--objective", objective, "-o", str(store)],
        capture_output=True,
        text=True,
        check=False,
    )
    if objective == "energy" and done.returncode == 1:
        pytest.skip(f"no joules are read here: {done.stdout}")
    assert done.returncode == 0, done.stdout + done.stderr
    (entry,) = load_store(store)
    assert entry.evidence.origin == "measured"
    assert entry.evidence.tried.measured == 4
    assert entry.evidence.winner.time_s.value > 0
