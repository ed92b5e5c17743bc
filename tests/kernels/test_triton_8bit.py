"""The 8-bit Triton kernel: right in the interpreter, caught when broken, sound in what the compiler makes of it."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from compiling import DEVICES, Compiled, absent_operands, compile_first
from interpreting import Interpreted

from gemmkernels import triton_8bit
from gemmkernels.backend import Config, Device
from gemmkernels.problem import Problem
from gemmkernels.tiling import TILE_NAMES

SMALL: Config = {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32, "GROUP_M": 2, "num_warps": 4, "num_stages": 2}
WIDE: Config = SMALL | {"BLOCK_N": 64, "GROUP_M": 8, "fast_accumulation": True}
TALL: Config = SMALL | {"BLOCK_M": 64, "BLOCK_K": 64, "GROUP_M": 1, "fast_accumulation": False}

FP8 = ("fp8_e4m3", "fp8_e5m2")
SCALINGS = ("tensor", "row")
RAGGED = (67, 45, 83)


def fp8(m: int, n: int, k: int, dtype: str = "fp8_e4m3", scaling: str = "row", **more: object) -> Problem:
    return Problem(m, n, k, dtype=dtype, layout="nt", scaling=scaling, **more)  # type: ignore[arg-type]


def int8(m: int, n: int, k: int, batch: int = 1) -> Problem:
    return Problem(m, n, k, batch=batch, dtype="int8", layout="nt")


BACKEND = "triton-tiled-8bit"
INTERPRETED: dict[str, tuple[Problem, Config | None]] = {
    **{f"ragged {dtype} {scaling}": (fp8(*RAGGED, dtype, scaling), TALL) for dtype in FP8 for scaling in SCALINGS},
    **{f"fp8 into {out}": (fp8(*RAGGED, out_dtype=out), WIDE) for out in ("bf16", "fp16", "fp32")},
    "fp8 even": (fp8(64, 64, 128), TALL),
    "fp8 batch": (fp8(33, 65, 40, batch=3), WIDE),
    "fp8 batch, one scale": (fp8(33, 65, 40, scaling="tensor", batch=3), WIDE),
    "fp8 one row": (fp8(1, 70, 50), TALL),
    "fp8 one column": (fp8(70, 1, 50), TALL),
    "fp8 default": (fp8(150, 140, 70), None),
    "int8 ragged": (int8(*RAGGED), SMALL),
    "int8 even": (int8(64, 64, 64), SMALL),
    "int8 batch": (int8(33, 65, 40, batch=3), SMALL),
    "int8 one row and column": (int8(1, 1, 50), SMALL),
    "int8 one term": (int8(40, 50, 1), SMALL),
    "int8 last group short": (int8(160, 96, 32), SMALL),
    "int8 default": (int8(150, 140, 70), None),
}


@pytest.mark.parametrize("name", INTERPRETED)
def test_the_interpreted_kernel_is_right(interpreted: Interpreted, name: str):
    found = interpreted[name]
    assert found["refusal"] is None
    assert found["error"] <= found["bound"]
    if name.startswith("int8"):
        assert found["error"] == 0.0


def test_fp8_into_fp32_is_as_good_as_fp32_sums(interpreted: Interpreted):
    """The interpreter sums in fp32, so only a wrong scale could show here."""
    assert interpreted["fp8 into fp32"]["error"] < 1e-6


@pytest.mark.parametrize(
    ("problem", "device", "reason"),
    [
        (fp8(64, 64, 64), DEVICES[80], "no fp8 tensor cores"),
        (fp8(64, 64, 64), Device("cuda", "Tesla T4", 0, (7, 5)), "8.0"),
        (fp8(64, 64, 64), Device("cpu", "a CPU"), "TRITON_INTERPRET=1"),
        (Problem(64, 64, 64), DEVICES[90], "fp8_e4m3, fp8_e5m2, int8 only: choose triton-tiled"),
        (Problem(64, 64, 64, dtype="int8", layout="nn"), DEVICES[90], "layout nt"),
        (Problem(64, 64, 64, dtype="fp8_e4m3", layout="tn", scaling="row"), DEVICES[90], "layout nt"),
        (Problem(64, 64, 64, dtype="int8", layout="nt", out_dtype="bf16"), DEVICES[90], "no bf16"),
        (fp8(64, 64, 64, out_dtype="int32"), DEVICES[90], "no int32"),
    ],
)
def test_refusals_say_why(monkeypatch: pytest.MonkeyPatch, problem: Problem, device: Device, reason: str):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    refusal = triton_8bit.supports(problem, device)
    assert refusal is not None
    assert reason in refusal
    assert "choose" in refusal


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_every_chip_multiplies_int8_and_hopper_and_later_fp8(capability: int):
    assert triton_8bit.supports(int8(64, 64, 64), DEVICES[capability]) is None
    assert (triton_8bit.supports(fp8(64, 64, 64), DEVICES[capability]) is None) == (capability >= 90)


def _tile(config: Config) -> tuple[int, ...]:
    return tuple(int(config[name]) for name in TILE_NAMES)


@pytest.mark.parametrize(
    ("capability", "problem", "tile"),
    [
        (80, int8(8192, 8192, 8192), (128, 256, 64, 8, 4)),
        (90, int8(8192, 8192, 8192), (128, 256, 128, 8, 3)),
        (100, int8(8192, 8192, 8192), (128, 256, 64, 8, 4)),
        (90, fp8(8192, 8192, 8192), (256, 128, 128, 8, 3)),
        (100, fp8(8192, 8192, 8192), (128, 256, 128, 8, 3)),
        (90, fp8(16, 8192, 4096), (16, 64, 128, 4, 5)),
        (90, fp8(8191, 8191, 8191), (128, 64, 64, 8, 3)),
    ],
)
def test_the_default_tile_follows_shape_format_and_chip(capability: int, problem: Problem, tile: tuple[int, ...]):
    assert _tile(triton_8bit.configs(problem, DEVICES[capability])[0]) == tile


@pytest.mark.parametrize("capability", DEVICES)
@pytest.mark.parametrize("problem", [int8(4096, 4096, 4096), fp8(4096, 4096, 4096)], ids=lambda p: p.dtype)
def test_candidates_are_few_distinct_fit_shared_memory_and_sum_alike(capability: int, problem: Problem):
    candidates = triton_8bit.configs(problem, DEVICES[capability])
    tiles = [_tile(config) for config in candidates]
    assert 9 <= len(tiles) == len(set(tiles)) <= 12
    assert all(triton_8bit.shared_bytes(tile) <= DEVICES[capability].shared_memory_bytes for tile in tiles)  # type: ignore[arg-type]
    summed = {config.get("fast_accumulation") for config in candidates}
    assert summed == ({None} if problem.dtype == "int8" else {False}), "tuning must not trade accuracy for time"


@pytest.mark.parametrize("ragged", ["m", "n", "k"])
def test_masks_are_left_out_only_where_nothing_hangs_over(ragged: str):
    problem = fp8(**{"m": 128, "n": 128, "k": 128, ragged: 120})
    (call,) = triton_8bit.calls(problem, absent_operands(problem), SMALL, DEVICES[90])
    assert {name: call.meta[f"EVEN_{name.upper()}"] for name in "mnk"} == {name: name != ragged for name in "mnk"}


@pytest.mark.parametrize(("block_k", "interval"), [(128, 128), (64, 64)])
def test_promotion_is_every_128_terms_or_each_step(block_k: int, interval: int):
    problem = fp8(256, 256, 256)
    config = SMALL | {"BLOCK_K": block_k, "fast_accumulation": False}
    (call,) = triton_8bit.calls(problem, absent_operands(problem), config, DEVICES[90])
    assert call.meta["IMPRECISE_TERMS"] == interval
    (fast,) = triton_8bit.calls(problem, absent_operands(problem), config | {"fast_accumulation": True}, DEVICES[90])
    assert fast.meta["IMPRECISE_TERMS"] is None


def _multiplier(problem: Problem, config: Config, capability: int) -> str:
    """The opcode that this kernel has to multiply with: below 64 rows fp8 is widened to fp16."""
    if problem.dtype == "int8":
        return "IGMMA" if capability == 90 and int(config["BLOCK_M"]) >= 64 else "IMMA"
    if int(config["BLOCK_M"]) < 64:
        return "HMMA"
    return "QGMMA" if capability == 90 else "UTCQMMA"


def _assert_sound(compiled: Compiled, problem: Problem, config: Config, capability: int) -> None:
    opcode = _multiplier(problem, config, capability)
    assert compiled.instructions(opcode) > 0
    others = {"IMMA", "IGMMA", "QGMMA", "HMMA", "HGMMA", "UTCQMMA", "UTCHMMA"} - {opcode}
    assert {name: compiled.instructions(name) for name in others} == dict.fromkeys(others, 0)
    assert compiled.shared_bytes <= triton_8bit.shared_bytes(_tile(config))  # type: ignore[arg-type]
    assert compiled.stack_bytes == 0, (problem.shape, config)
    assert compiled.scratch_bytes == 0, "a launch would allocate"
    asynchronous = problem.k % 16 == 0
    assert (compiled.instructions("LDGSTS") > 0) == asynchronous


def _compiled(problem: Problem, capability: int, **changed: object) -> tuple[Compiled, Config]:
    config = triton_8bit.configs(problem, DEVICES[capability])[0] | changed  # type: ignore[operator]
    return compile_first(triton_8bit.calls, problem, config, capability), config


@pytest.mark.parametrize(("capability", "dtype"), [(80, "int8"), (90, "int8"), (90, "fp8_e4m3")])
def test_the_default_compiles_without_spills_to_tensor_cores(capability: int, dtype: str):
    problem = int8(8192, 8192, 8192) if dtype == "int8" else fp8(8192, 8192, 8192)
    compiled, config = _compiled(problem, capability)
    _assert_sound(compiled, problem, config, capability)
    promoted = 2 * 64 if dtype != "int8" else 0  # 256x128 accumulators on 256 threads, each added once a step
    assert compiled.instructions("FADD") == promoted


@pytest.mark.slow
def test_fast_accumulation_leaves_promotion_out():
    compiled, _ = _compiled(fp8(8192, 8192, 8192), 90, fast_accumulation=True)
    assert compiled.instructions("FADD") == 0
    assert compiled.instructions("QGMMA") > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "dtype", "scaling"),
    [
        *((capability, "int8", None) for capability in DEVICES),
        *((capability, "fp8_e4m3", scaling) for capability in (90, 100) for scaling in SCALINGS),
        (90, "fp8_e5m2", "row"),
    ],
)
def test_every_default_compiles_without_spills(capability: int, dtype: str, scaling: str | None):
    sizes = [(8192, 8192, 8192), (1024, 1024, 8192), (16, 8192, 8192), (8192, 16, 8192), (8272,) * 3, (8191,) * 3]
    for m, n, k in sizes:
        problem = Problem(m, n, k, dtype=dtype, layout="nt", scaling=scaling)
        compiled, config = _compiled(problem, capability)
        _assert_sound(compiled, problem, config, capability)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "dtype"), [(80, "int8"), (90, "int8"), (100, "int8"), (90, "fp8_e4m3"), (100, "fp8_e4m3")]
)
def test_every_candidate_compiles_without_spills(capability: int, dtype: str):
    problem = Problem(8192, 8192, 8192, dtype=dtype, layout="nt", scaling=None if dtype == "int8" else "row")
    for config in triton_8bit.configs(problem, DEVICES[capability]):
        compiled = compile_first(triton_8bit.calls, problem, config, capability)
        _assert_sound(compiled, problem, config, capability)
