"""The split-K Triton kernels: right in the interpreter, and sound in what the compiler makes of them for each GPU."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from compiling import DEVICES, EVERY_CANDIDATE, absent_operands, compile_call
from interpreting import Interpreted, ragged

from gemmkernels import triton_splitk
from gemmkernels.backend import Config, Device
from gemmkernels.problem import LAYOUTS, Problem

SMALL: Config = {
    "BLOCK_M": 32,
    "BLOCK_N": 32,
    "BLOCK_K": 32,
    "GROUP_M": 2,
    "SPLIT_K": 3,
    "SWAP_AB": False,
    "REDUCTION": "workspace",
    "num_warps": 4,
    "num_stages": 2,
}
SWAPPED: Config = SMALL | {"SWAP_AB": True, "BLOCK_N": 16, "SPLIT_K": 2}
ATOMIC: Config = SMALL | {"REDUCTION": "atomic"}

FORMATS = ("bf16", "fp16", "tf32", "fp32")
RAGGED = (67, 45, 83)

BACKEND = "triton-splitk"
INTERPRETED: dict[str, tuple[Problem, Config | None]] = {
    **ragged(RAGGED, FORMATS, SMALL),
    **{f"swapped {layout}": (Problem(13, 70, 83, dtype="fp32", layout=layout), SWAPPED) for layout in LAYOUTS},
    **{f"atomic {layout}": (Problem(*RAGGED, dtype="fp32", layout=layout), ATOMIC) for layout in LAYOUTS},
    **{f"batch {layout}": (Problem(33, 65, 40, batch=3, dtype="fp16", layout=layout), SMALL) for layout in LAYOUTS},
    "batch swapped": (Problem(5, 65, 40, batch=3, dtype="fp16"), SWAPPED),
    "batch atomic": (Problem(33, 65, 40, batch=3, dtype="tf32"), ATOMIC),
    "swapped and atomic": (Problem(5, 65, 40, dtype="fp32"), SWAPPED | {"REDUCTION": "atomic"}),
    "even": (Problem(64, 64, 128, dtype="fp32"), SMALL),
    "one row": (Problem(1, 70, 90, dtype="fp32"), SMALL),
    "one row swapped": (Problem(1, 70, 90, dtype="fp32"), SWAPPED),
    "one column": (Problem(70, 1, 90, dtype="fp32", layout="nt"), SMALL),
    "one row and column": (Problem(1, 1, 90, dtype="fp32", layout="tn"), SMALL),
    "parts without a step": (Problem(40, 50, 20, dtype="fp32"), SMALL),
    "one part": (Problem(40, 50, 60, dtype="fp32"), SMALL | {"SPLIT_K": 1}),
    "many parts": (Problem(40, 50, 300, dtype="fp32"), SMALL | {"SPLIT_K": 13}),
    "bf16 into fp32, atomic": (Problem(*RAGGED, dtype="bf16", out_dtype="fp32"), ATOMIC),
    "default": (Problem(50, 40, 500, dtype="fp32"), None),
}


@pytest.mark.parametrize("name", INTERPRETED)
def test_the_interpreted_kernels_are_right(interpreted: Interpreted, name: str):
    found = interpreted[name]
    assert found["error"] <= found["bound"]


def test_refusals_say_why_and_what_instead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert "choose triton-tiled" in str(triton_splitk.supports(Problem(512, 512, 128), DEVICES[90]))
    int8 = Problem(64, 64, 4096, dtype="int8")
    assert "choose triton-tiled-8bit" in str(triton_splitk.supports(int8, DEVICES[90]))
    assert "TRITON_INTERPRET=1" in str(triton_splitk.supports(Problem(64, 64, 4096), Device("cpu", "a CPU")))
    for capability in DEVICES:
        for dtype in FORMATS:
            assert triton_splitk.supports(Problem(61, 67, 4099, dtype=dtype), DEVICES[capability]) is None


LONG = Problem(512, 512, 16384)


@pytest.mark.parametrize(
    ("problem", "capability", "tile", "parts"),
    [
        (LONG, 90, (128, 128), 8),
        (LONG, 80, (128, 128), 13),
        (Problem(256, 256, 65536), 90, (128, 128), 33),
        (Problem(1280, 1280, 16384), 90, (128, 128), 5),
        (Problem(16, 8192, 8192, layout="nt"), 90, (64, 16), 2),
    ],
)
def test_the_parts_fill_whole_waves(problem: Problem, capability: int, tile: tuple[int, int], parts: int):
    config = triton_splitk.configs(problem, DEVICES[capability])[0]
    found = (config["BLOCK_M"], config["BLOCK_N"], config["SPLIT_K"])
    assert found == (*tile, parts)


@pytest.mark.parametrize("capability", DEVICES)
@pytest.mark.parametrize("dtype", FORMATS)
def test_candidates_are_distinct_fit_and_leave_each_part_its_steps(capability: int, dtype: str):
    problem = Problem(512, 512, 16384, dtype=dtype)
    candidates = triton_splitk.configs(problem, DEVICES[capability])
    assert 6 <= len(candidates) == len({tuple(config.items()) for config in candidates})
    for config in candidates:
        assert 2 <= int(config["SPLIT_K"]) <= 64
        assert problem.k // int(config["BLOCK_K"]) >= 4 * int(config["SPLIT_K"])


def test_atomics_are_offered_only_where_c_is_fp32():
    for out_dtype, reductions in (("fp32", {"workspace", "atomic"}), ("bf16", {"workspace"})):
        problem = Problem(512, 512, 16384, out_dtype=out_dtype)
        assert {config["REDUCTION"] for config in triton_splitk.configs(problem, DEVICES[90])} == reductions


@pytest.mark.parametrize(("rows", "capability", "swapped"), [(16, 90, True), (64, 90, False), (16, 80, False)])
def test_few_rows_become_columns_where_the_tensor_cores_take_64_rows(rows: int, capability: int, swapped: bool):
    problem = Problem(rows, 8192, 8192)
    for config in triton_splitk.configs(problem, DEVICES[capability]):
        assert config["SWAP_AB"] is swapped
        assert int(config["BLOCK_M"]) >= 64 or capability == 80


def test_the_workspace_holds_every_part_and_atomics_need_none():
    problem = Problem(100, 60, 4096, batch=3)
    assert triton_splitk.workspace_elements(problem, SMALL) == 3 * 3 * 100 * 60
    assert triton_splitk.workspace_elements(problem, ATOMIC) == 0


def test_launches_in_order_with_grids_that_cover_c():
    problem = Problem(100, 60, 4096, batch=3, dtype="fp32")
    operands = absent_operands(problem)
    product, total = triton_splitk.calls(problem, operands, SMALL, DEVICES[90])
    assert product.grid == (4 * 2 * 3 * 3,)
    assert total.meta["ROWS"] * total.meta["COLUMNS"] == 1024
    assert total.grid == (math.ceil(300 / total.meta["ROWS"]),)
    zero, product = triton_splitk.calls(problem, operands, ATOMIC, DEVICES[90])
    assert zero.meta["PARTS"] == 0
    assert product.meta["ATOMIC"]


@pytest.mark.parametrize("ragged", ["m", "n", "k"])
@pytest.mark.parametrize("swapped", [False, True])
def test_masks_are_left_out_only_where_nothing_hangs_over(ragged: str, swapped: bool):
    problem = Problem(**{"m": 128, "n": 128, "k": 1024, ragged: 120})
    config = SMALL | {"SWAP_AB": swapped}
    product, _ = triton_splitk.calls(problem, absent_operands(problem), config, DEVICES[80])
    even = {name: product.meta[f"EVEN_{name.upper()}"] for name in "mnk"}
    hangs_over = {"m": "n", "n": "m", "k": "k"}[ragged] if swapped else ragged
    assert even == {name: name != hangs_over for name in "mnk"}


def _multiplier(problem: Problem, config: Config, capability: int) -> str:
    """The opcode that this kernel has to multiply with."""
    if problem.dtype == "fp32":
        return "FFMA"
    if capability == 80 or int(config["BLOCK_M"]) < 64:
        return "HMMA"
    return "HGMMA" if capability == 90 else "UTCHMMA"


def _assert_sound(problem: Problem, config: Config, capability: int) -> None:
    calls = triton_splitk.calls(problem, absent_operands(problem), config, DEVICES[capability])
    for call in calls:
        compiled = compile_call(call, capability)
        what = (capability, problem, config, compiled.registers, compiled.stack_bytes, compiled.shared_bytes)
        assert compiled.shared_bytes <= DEVICES[capability].shared_memory_bytes, what
        assert compiled.scratch_bytes == 0, "a launch would allocate"
        if call.kernel is triton_splitk.sum_parts:
            assert compiled.stack_bytes == 0, what
            assert compiled.instructions("STG") > 0, what
            continue
        assert compiled.spills_in_loops() == 0, what
        assert compiled.stack_bytes <= 24, what  # put aside once: fp32 with A transposed and swapped
        assert compiled.instructions(_multiplier(problem, config, capability)) > 0, what
        assert compiled.instructions("LDGSTS") > 0, "operands are copied to shared memory asynchronously"
        if capability != 100:  # where the memory of the tensor cores is handed out with reductions too
            assert (compiled.instructions("RED") > 0) == (config["REDUCTION"] == "atomic"), what


def test_the_default_compiles_without_spills_to_tensor_cores_on_an_a100():
    _assert_sound(LONG, triton_splitk.configs(LONG, DEVICES[80])[0], 80)


def test_few_rows_compile_to_hoppers_own_instructions():
    problem = Problem(16, 8192, 8192, layout="nt")
    _assert_sound(problem, triton_splitk.configs(problem, DEVICES[90])[0], 90)


def test_one_row_and_an_atomic_reduction_compile():
    """Sizes and strides of 1 are constants to the compiler, not numbers in registers."""
    problem = Problem(1, 1024, 8192, dtype="tf32", layout="nt")
    config = next(c for c in triton_splitk.configs(problem, DEVICES[90]) if c["REDUCTION"] == "atomic")
    _assert_sound(problem, config, 90)


@pytest.mark.slow
@pytest.mark.parametrize("capability", DEVICES)
@pytest.mark.parametrize(("dtype", "layout"), EVERY_CANDIDATE)
def test_every_candidate_compiles_without_spills(capability: int, dtype: str, layout: str):
    compiled = set()
    for m, n in ((512, 512), (16, 8192)):
        problem = Problem(m, n, 16384, dtype=dtype, layout=layout)
        for config in triton_splitk.configs(problem, DEVICES[capability]):
            tile = tuple(config[name] for name in ("BLOCK_M", "BLOCK_N", "SWAP_AB", "REDUCTION"))
            if tile not in compiled:  # other numbers of parts change two constants
                _assert_sound(problem, config, capability)
            compiled.add(tile)
