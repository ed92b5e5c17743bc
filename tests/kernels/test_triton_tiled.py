"""The tiled Triton kernel: right in the interpreter, and sound in what the compiler makes of it for each GPU."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from compiling import DEVICES, EVERY_CANDIDATE, Compiled, absent_operands, compile_first
from interpreting import Interpreted, ragged

from gemmkernels import triton_tiled
from gemmkernels.backend import Config, Device
from gemmkernels.problem import LAYOUTS, Problem

SMALL: Config = {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32, "GROUP_M": 2, "num_warps": 4, "num_stages": 2}
WIDE: Config = SMALL | {"BLOCK_N": 64, "GROUP_M": 8}
TALL: Config = SMALL | {"BLOCK_M": 64, "BLOCK_K": 16, "GROUP_M": 1}

FORMATS = ("bf16", "fp16", "tf32", "fp32")
RAGGED = (67, 45, 83)

BACKEND = "triton-tiled"
INTERPRETED: dict[str, tuple[Problem, Config | None]] = {
    **ragged(RAGGED, FORMATS, SMALL),
    **{f"even {layout}": (Problem(64, 64, 64, dtype="fp32", layout=layout), SMALL) for layout in LAYOUTS},
    **{f"batch {layout}": (Problem(33, 65, 40, batch=3, dtype="fp16", layout=layout), SMALL) for layout in LAYOUTS},
    "one row": (Problem(1, 70, 50, dtype="fp32"), SMALL),
    "one column": (Problem(70, 1, 50, dtype="fp32", layout="nt"), SMALL),
    "one row and column": (Problem(1, 1, 50, dtype="fp32", layout="tn"), SMALL),
    "one term": (Problem(40, 50, 1, dtype="fp32"), SMALL),
    "K below a tile": (Problem(64, 64, 7, dtype="fp16", layout="nt"), SMALL),
    "only M ragged": (Problem(65, 64, 64, dtype="fp32"), SMALL),
    "only N ragged": (Problem(64, 33, 64, dtype="fp32"), SMALL),
    "only K ragged": (Problem(64, 64, 33, dtype="fp32"), SMALL),
    "wide tile": (Problem(130, 150, 60, dtype="fp32"), WIDE),
    "tall tile, row order": (Problem(200, 90, 60, dtype="fp32"), TALL),
    "last group short": (Problem(160, 96, 32, dtype="fp32"), SMALL),
    "bf16 into fp32": (Problem(*RAGGED, dtype="bf16", out_dtype="fp32"), SMALL),
    "default": (Problem(150, 140, 70, dtype="fp32"), None),
}


@pytest.mark.parametrize("name", INTERPRETED)
def test_the_interpreted_kernel_is_right(interpreted: Interpreted, name: str):
    found = interpreted[name]
    assert found["error"] <= found["bound"]


def test_the_interpreter_truncates_bf16_and_the_bound_knows(interpreted: Interpreted):
    assert interpreted["ragged bf16 nn"]["error"] == pytest.approx(3.3e-3, rel=0.2)
    assert interpreted["bf16 into fp32"]["error"] < 1e-6


def test_interpreting_is_supported_for_what_it_computes_right(interpreted: Interpreted):
    assert interpreted["ragged fp32 nn"]["refusal"] is None
    assert interpreted["ragged fp16 nn"]["refusal"] is None
    assert "choose fp32 or fp16" in interpreted["ragged bf16 nn"]["refusal"]


def test_refusals_say_why_and_what_instead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    fp32 = Problem(64, 64, 64, dtype="fp32")
    assert "TRITON_INTERPRET=1" in str(triton_tiled.supports(fp32, Device("cpu", "a CPU")))
    assert "8.0" in str(triton_tiled.supports(fp32, Device("cuda", "Tesla T4", 0, (7, 5))))
    assert "choose triton-tiled-8bit" in str(triton_tiled.supports(Problem(8, 8, 8, dtype="int8"), DEVICES[80]))
    assert "no int32" in str(triton_tiled.supports(Problem(8, 8, 8, out_dtype="int32"), DEVICES[80]))
    for dtype in FORMATS:
        assert triton_tiled.supports(Problem(8, 8, 8, dtype=dtype), DEVICES[80]) is None


def _tile(config: Config) -> tuple[int, ...]:
    return tuple(int(config[name]) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_warps", "num_stages"))


@pytest.mark.parametrize(
    ("capability", "problem", "tile"),
    [
        (80, Problem(8192, 8192, 8192, layout="nt"), (128, 256, 32, 8, 4)),
        (90, Problem(8192, 8192, 8192, layout="nt"), (128, 256, 64, 8, 3)),
        (90, Problem(8192, 8192, 8192, dtype="tf32"), (128, 256, 32, 8, 3)),
        (90, Problem(8192, 8192, 8192, dtype="fp32"), (128, 128, 16, 8, 3)),
        (90, Problem(8191, 8191, 8191), (128, 128, 32, 8, 3)),
        (90, Problem(16, 8192, 4096, layout="nt"), (16, 64, 64, 4, 5)),
        (90, Problem(8192, 16, 4096, layout="nt"), (64, 16, 64, 4, 5)),
        (90, Problem(512, 512, 512), (64, 32, 64, 4, 5)),
    ],
)
def test_the_default_tile_follows_shape_format_and_chip(capability: int, problem: Problem, tile: tuple[int, ...]):
    assert _tile(triton_tiled.configs(problem, DEVICES[capability])[0]) == tile


@pytest.mark.parametrize("capability", DEVICES)
@pytest.mark.parametrize("dtype", FORMATS)
def test_candidates_are_few_distinct_and_fit_shared_memory(capability: int, dtype: str):
    problem = Problem(4096, 4096, 4096, dtype=dtype)
    candidates = triton_tiled.configs(problem, DEVICES[capability])
    tiles = [_tile(config) for config in candidates]
    assert 7 <= len(tiles) == len(set(tiles)) <= 12
    element_bytes = 2 if "16" in dtype else 4
    for block_m, block_n, block_k, _, stages in tiles:
        assert stages * (block_m + block_n) * block_k * element_bytes < DEVICES[capability].shared_memory_bytes


def test_what_exceeds_shared_memory_is_left_out():
    small = Device("cuda", "an RTX card", 0, (8, 6), 84, 101_376)
    tiles = [_tile(config) for config in triton_tiled.configs(Problem(8192, 8192, 8192), small)]
    assert (128, 256, 64, 8, 3) not in tiles
    assert (128, 256, 32, 8, 4) in tiles


@pytest.mark.parametrize("ragged", ["m", "n", "k"])
def test_masks_are_left_out_only_where_nothing_hangs_over(ragged: str):
    """A missing mask reads past the end of an operand: often unpunished, so the results do not tell."""
    problem = Problem(**{"m": 128, "n": 128, "k": 128, ragged: 120})
    (call,) = triton_tiled.calls(problem, absent_operands(problem), SMALL, DEVICES[80])
    even = {name: call.meta[f"EVEN_{name.upper()}"] for name in "mnk"}
    assert even == {name: name != ragged for name in "mnk"}


def test_large_batches_stay_on_the_grid_axis_that_holds_them():
    problem = Problem(64, 64, 64, batch=100_000)
    config = triton_tiled.configs(problem, DEVICES[90])[0]
    (call,) = triton_tiled.calls(problem, absent_operands(problem), config, DEVICES[90])
    block_m, block_n, *_ = _tile(config)
    assert call.grid == (100_000 * math.ceil(64 / block_m) * math.ceil(64 / block_n),)


def _multiplier(problem: Problem, config: Config, capability: int) -> str:
    """The opcode that this kernel has to multiply with.

    Below 64 rows a tile is smaller than Hopper's and Blackwell's instructions: Triton goes back to Ampere's.
    """
    if problem.dtype == "fp32":
        return "FFMA"
    if capability == 80 or int(config["BLOCK_M"]) < 64:
        return "HMMA"
    return "HGMMA" if capability == 90 else "UTCHMMA"


def _assert_sound(compiled: Compiled, problem: Problem, config: Config, capability: int) -> None:
    opcode = _multiplier(problem, config, capability)
    device = DEVICES[capability]
    element_bytes = 2 if "16" in problem.dtype else 4
    assert compiled.instructions(opcode) > 0
    others = {"HMMA", "HGMMA", "UTCHMMA"} - {opcode}
    assert {name: compiled.instructions(name) for name in others} == dict.fromkeys(others, 0)
    assert compiled.shared_bytes <= triton_tiled.shared_bytes(_tile(config), element_bytes)
    assert compiled.shared_bytes <= device.shared_memory_bytes
    assert compiled.registers <= 255
    assert compiled.scratch_bytes == 0, "a launch would allocate"
    assert compiled.instructions("LDGSTS") > 0, "operands are copied to shared memory asynchronously"


@pytest.mark.parametrize(("capability", "registers"), [(80, 248), (90, 192)])
def test_the_default_compiles_without_spills_to_tensor_cores(capability: int, registers: int):
    problem = Problem(8192, 8192, 8192, dtype="bf16", layout="nt")
    config = triton_tiled.configs(problem, DEVICES[capability])[0]
    compiled = compile_first(triton_tiled.calls, problem, config, capability)
    _assert_sound(compiled, problem, config, capability)
    assert compiled.stack_bytes == 0
    assert compiled.registers <= registers


@pytest.mark.slow
@pytest.mark.parametrize("capability", DEVICES)
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_default_compiles_without_spills_in_a_loop(capability: int, dtype: str, layout: str):
    for m, n, k in ((8192, 8192, 8192), (1024, 1024, 8192), (16, 8192, 8192), (8192, 16, 8192)):
        problem = Problem(m, n, k, dtype=dtype, layout=layout)
        config = triton_tiled.configs(problem, DEVICES[capability])[0]
        compiled = compile_first(triton_tiled.calls, problem, config, capability)
        _assert_sound(compiled, problem, config, capability)
        assert compiled.spills_in_loops() == 0, (problem.shape, config)
        assert compiled.stack_bytes <= 8, (problem.shape, config)


@pytest.mark.slow
@pytest.mark.parametrize("capability", DEVICES)
@pytest.mark.parametrize("dtype", FORMATS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_ragged_sizes_do_not_spill_in_a_loop(capability: int, dtype: str, layout: str):
    """8272 is a multiple of 16 and of no tile; 8191 of nothing, so that rows start anywhere."""
    for size in (8272, 8191):
        problem = Problem(size, size, size, dtype=dtype, layout=layout)
        config = triton_tiled.configs(problem, DEVICES[capability])[0]
        compiled = compile_first(triton_tiled.calls, problem, config, capability)
        assert compiled.spills_in_loops() == 0, (problem.shape, config)
        assert compiled.stack_bytes <= 8, (problem.shape, config, compiled.stack_bytes)
        assert compiled.instructions(_multiplier(problem, config, capability)) > 0
        assert compiled.shared_bytes <= DEVICES[capability].shared_memory_bytes


@pytest.mark.slow
@pytest.mark.parametrize("capability", DEVICES)
@pytest.mark.parametrize(("dtype", "layout"), EVERY_CANDIDATE)
def test_no_candidate_spills_in_a_loop(capability: int, dtype: str, layout: str):
    """Of a few tiles some values are put aside before the loop and taken back after it."""
    for size in (8192, 8191):
        problem = Problem(size, size, size, dtype=dtype, layout=layout)
        for config in triton_tiled.configs(problem, DEVICES[capability]):
            compiled = compile_first(triton_tiled.calls, problem, config, capability)
            assert compiled.spills_in_loops() == 0, (problem.shape, config)
            assert compiled.stack_bytes <= 16, (problem.shape, config, compiled.stack_bytes)
