"""The persistent Triton kernel: right in the interpreter, and sound in what the compiler makes of it for each GPU."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from compiling import DEVICES, Compiled, absent_operands, compile_first
from interpreting import Interpreted, ragged

from gemmkernels import triton_persistent
from gemmkernels.backend import Config, Device
from gemmkernels.problem import LAYOUTS, Problem

SMALL: Config = {
    "BLOCK_M": 32,
    "BLOCK_N": 32,
    "BLOCK_K": 32,
    "GROUP_M": 2,
    "EPILOGUE_SUBTILE": 1,
    "NUM_SMS": 3,
    "num_warps": 4,
    "num_stages": 2,
}
HALVED: Config = SMALL | {"EPILOGUE_SUBTILE": 2, "BLOCK_N": 64, "NUM_SMS": 2}
TALL: Config = SMALL | {"BLOCK_M": 64, "BLOCK_K": 16, "GROUP_M": 1, "NUM_SMS": 50}

WIDE_FORMATS = ("bf16", "fp16", "tf32")
RAGGED = (72, 56, 88)
RAGGED_8BIT = (67, 48, 80)

BACKEND = "triton-persistent"
INTERPRETED: dict[str, tuple[Problem, Config | None]] = {
    **ragged(RAGGED, WIDE_FORMATS, SMALL),
    **{f"halved {layout}": (Problem(*RAGGED, dtype="tf32", layout=layout), HALVED) for layout in LAYOUTS},
    **{f"batch {layout}": (Problem(40, 72, 40, batch=3, dtype="fp16", layout=layout), SMALL) for layout in LAYOUTS},
    "batch in halves": (Problem(40, 72, 40, batch=3, dtype="fp16"), HALVED),
    **{
        f"{dtype} by {scaling}": (Problem(*RAGGED_8BIT, dtype=dtype, layout="nt", scaling=scaling), SMALL)
        for dtype in ("fp8_e4m3", "fp8_e5m2")
        for scaling in ("tensor", "row")
    },
    "batch of fp8 by row": (Problem(40, 72, 48, batch=3, dtype="fp8_e4m3", layout="nt", scaling="row"), HALVED),
    "int8": (Problem(67, 60, 80, dtype="int8", layout="nt"), SMALL),
    "int8 in halves": (Problem(67, 60, 80, dtype="int8", layout="nt"), HALVED),
    "one row": (Problem(1, 72, 56, dtype="tf32"), SMALL),
    "the narrowest C": (Problem(72, 4, 56, dtype="tf32", layout="nt"), SMALL),
    "one row of A as columns": (Problem(4, 72, 1, dtype="tf32", layout="tn"), SMALL),
    "K below a tile": (Problem(64, 64, 8, dtype="fp16", layout="nt"), SMALL),
    "only K ragged": (Problem(64, 64, 40, dtype="fp16"), SMALL),
    "more programs than tiles": (Problem(200, 96, 64, dtype="tf32"), TALL),
    "last group short": (Problem(160, 96, 32, dtype="tf32"), SMALL),
    "one program": (Problem(96, 96, 64, dtype="fp16"), SMALL | {"NUM_SMS": 1}),
    "bf16 into fp32": (Problem(*RAGGED, dtype="bf16", out_dtype="fp32"), SMALL),
    "default": (Problem(144, 136, 72, dtype="tf32"), None),
}


@pytest.mark.parametrize("name", INTERPRETED)
def test_the_interpreted_kernel_is_right(interpreted: Interpreted, name: str):
    found = interpreted[name]
    assert found["error"] <= found["bound"]


def test_refusals_say_why_and_what_instead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    bf16 = Problem(64, 64, 64)
    assert "unpipelined pointer code there: choose triton-tiled or" in str(
        triton_persistent.supports(bf16, DEVICES[80])
    )
    assert "TRITON_INTERPRET=1" in str(triton_persistent.supports(bf16, Device("cpu", "a CPU")))
    assert "only: choose triton-tiled" in str(triton_persistent.supports(Problem(8, 8, 8, dtype="fp32"), DEVICES[90]))
    assert "no bf16" in str(
        triton_persistent.supports(Problem(16, 16, 16, dtype="int8", out_dtype="bf16"), DEVICES[90])
    )
    fp8 = Problem(64, 64, 64, dtype="fp8_e4m3")
    assert "choose layout nt" in str(triton_persistent.supports(fp8, DEVICES[90]))
    for capability in (90, 100):
        assert triton_persistent.supports(bf16, DEVICES[capability]) is None


@pytest.mark.parametrize(
    ("problem", "refused"),
    [
        (Problem(65, 64, 64), None),
        (Problem(64, 64, 60, layout="nt"), "A's rows of 120 bytes"),
        (Problem(64, 68, 64, layout="nt"), "C's rows of 136 bytes"),
        (Problem(64, 68, 64, layout="nn"), "B's rows of 136 bytes"),
        (Problem(65, 64, 64, layout="tn"), "A's rows of 130 bytes"),
        (Problem(64, 64, 60, layout="tn"), None),
        (Problem(64, 60, 64, dtype="tf32"), None),
        (Problem(64, 64, 56, dtype="fp8_e4m3", layout="nt"), "A's rows of 56 bytes"),
    ],
)
def test_rows_that_tma_cannot_address_are_refused(problem: Problem, refused: str | None):
    reason = triton_persistent.supports(problem, DEVICES[90])
    if refused is None:
        assert reason is None
    else:
        other = "triton-tiled-8bit" if problem.dtype == "fp8_e4m3" else "triton-tiled"
        assert refused in str(reason)
        assert str(reason).endswith(f"choose {other}")


def _tile(config: Config) -> tuple[int, ...]:
    return tuple(
        int(config[name]) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_warps", "num_stages", "EPILOGUE_SUBTILE")
    )


@pytest.mark.parametrize(
    ("problem", "tile"),
    [
        (Problem(8192, 8192, 8192, layout="nt"), (128, 256, 64, 8, 3, 1)),
        (Problem(8192, 8192, 8192, dtype="tf32"), (128, 256, 32, 8, 3, 2)),
        (Problem(8192, 8192, 8192, dtype="fp8_e4m3", layout="nt"), (256, 128, 128, 8, 3, 1)),
        (Problem(8192, 8192, 8192, dtype="int8", layout="nt"), (128, 256, 128, 8, 3, 2)),
        (Problem(8192, 128, 8192), (128, 64, 64, 4, 5, 1)),
        (Problem(16, 8192, 4096, layout="nt"), (64, 64, 64, 4, 6, 1)),
        (Problem(512, 512, 512), (64, 32, 64, 4, 6, 1)),
    ],
)
def test_the_default_tile_follows_shape_and_format(problem: Problem, tile: tuple[int, ...]):
    assert _tile(triton_persistent.configs(problem, DEVICES[90])[0]) == tile


def test_the_published_tiles_are_candidates_for_large_16_bit_problems():
    tiles = [_tile(config) for config in triton_persistent.configs(Problem(8192, 8192, 8192), DEVICES[90])]
    assert tiles[:3] == [(128, 256, 64, 8, 3, 1), (128, 256, 64, 8, 4, 2), (128, 256, 64, 8, 3, 2)]
    assert (256, 128, 64, 8, 4, 2) in tiles
    assert (128, 256, 64, 8, 4, 1) not in tiles, "needs 256 KiB of shared memory"
    assert 10 <= len(tiles) == len(set(tiles)) <= 15


def test_a_program_for_each_sm_and_none_without_a_tile():
    large, small = Problem(8192, 8192, 8192, batch=2), Problem(128, 256, 8192)
    config = triton_persistent.configs(large, DEVICES[90])[0]
    assert config["NUM_SMS"] == 132
    assert triton_persistent.calls(large, absent_operands(large), config, DEVICES[90])[0].grid == (132,)
    assert triton_persistent.calls(small, absent_operands(small), config, DEVICES[90])[0].grid == (1,)
    fewer = dict(config, NUM_SMS=100)
    assert triton_persistent.calls(large, absent_operands(large), fewer, DEVICES[90])[0].grid == (100,)


def _multiplier(problem: Problem, capability: int) -> str:
    """The opcode that this kernel has to multiply with."""
    one_byte = {"fp8_e4m3": "QGMMA", "fp8_e5m2": "QGMMA", "int8": "IGMMA"}
    if capability == 90:
        return one_byte.get(problem.dtype, "HGMMA")
    return "UTC.MMA"


def _assert_sound(problem: Problem, config: Config, capability: int) -> Compiled:
    compiled = compile_first(triton_persistent.calls, problem, config, capability)
    what = (capability, problem, config, compiled.registers, compiled.stack_bytes, compiled.shared_bytes)
    assert compiled.stack_bytes == 0, what
    assert compiled.scratch_bytes == 0, "a launch would allocate"
    assert compiled.instructions(_multiplier(problem, capability)) > 0, what
    assert compiled.instructions("HMMA") == 0, what
    assert compiled.instructions("UTMALDG") > 0, "operands are copied by TMA"
    assert compiled.instructions("UTMASTG") > 0, "C is stored by TMA"
    assert compiled.instructions("LDGSTS") == 0, what
    *tile, subtile = _tile(config)
    assert compiled.shared_bytes <= triton_persistent.shared_bytes(problem, DEVICES[capability], tuple(tile), subtile)
    assert compiled.shared_bytes <= DEVICES[capability].shared_memory_bytes
    return compiled


@pytest.mark.parametrize(("capability", "shared_bytes"), [(90, 213_016), (100, 213_040)])
def test_the_default_compiles_without_spills_to_tensor_cores_and_tma(capability: int, shared_bytes: int):
    problem = Problem(8192, 8192, 8192, layout="nt")
    config = triton_persistent.configs(problem, DEVICES[capability])[0]
    compiled = _assert_sound(problem, config, capability)
    assert compiled.shared_bytes == pytest.approx(shared_bytes, abs=64)
    assert compiled.registers <= 168, "a block of 8 warps would be alone on its SM even with 255"


def test_fp8_by_rows_in_four_stages_fits_thanks_to_the_halved_epilogue():
    problem = Problem(8192, 8192, 8192, dtype="fp8_e4m3", layout="nt", scaling="row")
    config = next(c for c in triton_persistent.configs(problem, DEVICES[90]) if _tile(c)[4:] == (4, 2))
    assert _tile(config) == (256, 128, 128, 8, 4, 2)
    assert config["fast_accumulation"] is False
    assert _assert_sound(problem, config, 90).shared_bytes > 4 * (128 + 256) * 128


def _shipped(capability: int) -> list[Problem]:
    size = (8192, 8192, 8192)
    return [
        *(Problem(*size, dtype=dtype, layout=layout) for dtype in ("bf16", "tf32") for layout in LAYOUTS),
        *(Problem(*size, out_dtype="fp32", layout=layout) for layout in ("nt", "tn")),
        *(Problem(*size, dtype="fp8_e4m3", layout="nt", scaling=scaling) for scaling in ("tensor", "row")),
        *((Problem(*size, dtype="int8", layout="nt"),) if capability == 90 else ()),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "problem"), [(capability, problem) for capability in (90, 100) for problem in _shipped(capability)]
)
def test_every_candidate_compiles_without_spills_and_fits(capability: int, problem: Problem):
    for config in triton_persistent.configs(problem, DEVICES[capability]):
        _assert_sound(problem, config, capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", [90, 100])
@pytest.mark.parametrize(
    "problem",
    [
        Problem(8200, 8200, 8200, dtype="fp16", layout="nn"),
        Problem(1024, 1024, 1024, batch=16, layout="nn"),
        Problem(2048, 2048, 2048, batch=16, dtype="fp8_e5m2", layout="nt", scaling="row"),
        Problem(8192, 16, 8192, layout="tn"),
        Problem(16, 8192, 8192, layout="nt"),
    ],
    ids=lambda problem: f"{problem.shape}-{problem.dtype}-{problem.layout}",
)
def test_ragged_batched_and_small_defaults_compile_without_spills(capability: int, problem: Problem):
    _assert_sound(problem, triton_persistent.configs(problem, DEVICES[capability])[0], capability)


def test_fast_accumulation_leaves_the_sum_to_the_tensor_cores():
    problem = Problem(8192, 8192, 8192, dtype="fp8_e4m3", layout="nt")
    config = triton_persistent.configs(problem, DEVICES[90])[0]
    promoted, fast = (
        compile_first(triton_persistent.calls, problem, dict(config, fast_accumulation=fast), 90)
        for fast in (False, True)
    )
    assert promoted.instructions("FADD") >= 128, "a K tile's sums are added outside, 128 a thread"
    assert fast.instructions("FADD") == 0
    assert fast.registers < promoted.registers


def test_integers_on_blackwell_go_to_tensor_cores():
    """Of Ampere's kind in Triton 3.7, of Blackwell's own in 3.9."""
    problem = Problem(1024, 1024, 1024, dtype="int8", layout="nt")
    config = triton_persistent.configs(problem, DEVICES[100])[0]
    compiled = compile_first(triton_persistent.calls, problem, config, 100)
    assert compiled.instructions("IMMA") + compiled.instructions("UTCIMMA") > 0
    assert compiled.stack_bytes == 0
