"""The warp-specialised kernel: run from its own source on a CPU, compiled for a Hopper that is not there, refused."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from compiling import DEVICES, compile_first
from gluon_emulator import emulate
from gluon_memory import Hazard
from triton.compiler.errors import CompilationError

import gemmkernels
from gemmkernels import gluon_persistent
from gemmkernels.backend import BACKENDS, Config, Device, Operands
from gemmkernels.inputs import make_operands
from gemmkernels.problem import Problem
from gemmkernels.reference import Correctness, check

CPU = Device("cpu", "a CPU")
HOPPER = DEVICES[90]

COOPERATIVE: Config = {
    "BLOCK_M": 32,
    "BLOCK_N": 32,
    "BLOCK_K": 16,
    "num_stages": 3,
    "COOPERATIVE": True,
    "EPILOGUE_SUBTILE": 2,
    "GROUP_M": 2,
    "NUM_SMS": 3,
}
ALTERNATING: Config = COOPERATIVE | {"COOPERATIVE": False}
BOTH = pytest.mark.parametrize("config", [COOPERATIVE, ALTERNATING], ids=["cooperative", "alternating"])

SIZES = {
    "tiles not a multiple of blocks, 7 K tiles": (150, 88, 104),
    "fewer tiles than blocks": (40, 24, 104),
    "K tiles fewer than stages": (150, 88, 32),
    "one K tile": (150, 88, 8),
    "K tiles as many as stages": (150, 88, 48),
    "one tile": (16, 8, 200),
    "one row": (1, 96, 64),
    "even": (128, 96, 128),
}


def _emulated(
    problem: Problem, config: Config, seed: int = 0, edits: dict[str, str] | None = None
) -> tuple[Correctness, list]:
    """The kernel's error on normally distributed inputs, and the descriptors of A, B and C."""
    descriptors = []

    def launch(operands: Operands) -> None:
        (call,) = gluon_persistent.calls(problem, operands, config, CPU)
        descriptors.extend(emulate(call, seed, edits))

    return check(problem, launch, make_operands(problem, CPU)[0]), descriptors


def _assert_right(problem: Problem, config: Config, seed: int = 0) -> None:
    correctness, (a, b, c) = _emulated(problem, config, seed)
    assert correctness.ok, correctness
    tiles = math.ceil(problem.m / int(config["BLOCK_M"])) * math.ceil(problem.n / int(config["BLOCK_N"]))
    steps = tiles * math.ceil(problem.k / int(config["BLOCK_K"]))
    assert (a.loads, b.loads) == (steps * (2 if config["COOPERATIVE"] else 1), steps)
    assert c.writes.min() == c.writes.max() == 1


@BOTH
@pytest.mark.parametrize("layout", ["nn", "nt", "tn"])
@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_every_layout_is_right(config: Config, layout: str, dtype: str):
    _assert_right(Problem(152, 88, 104, dtype=dtype, layout=layout), config)


@BOTH
@pytest.mark.parametrize("size", SIZES)
def test_every_tile_is_computed_once_and_right(config: Config, size: str):
    _assert_right(Problem(*SIZES[size], dtype="fp16", layout="nt"), config)


@BOTH
@pytest.mark.parametrize("scaling", [None, "tensor", "row"])
@pytest.mark.parametrize("fast", [False, True])
def test_fp8_is_scaled_by_tensor_or_by_row(config: Config, scaling: str | None, fast: bool):
    problem = Problem(150, 88, 208, dtype="fp8_e4m3", layout="nt", scaling=scaling)
    _assert_right(problem, config | {"BLOCK_K": 32, "fast_accumulation": fast})


@BOTH
@pytest.mark.parametrize("subtile", [1, 2, 4])
@pytest.mark.parametrize("out_dtype", ["bf16", "fp16", "fp32"])
def test_any_output_format_in_any_number_of_pieces(config: Config, subtile: int, out_dtype: str):
    problem = Problem(150, 88, 48, dtype="bf16", out_dtype=out_dtype)
    _assert_right(problem, config | {"EPILOGUE_SUBTILE": subtile, "BLOCK_N": 64})


@BOTH
@pytest.mark.parametrize("stages", [2, 3, 5])
def test_rings_of_any_length_in_any_order_of_events(config: Config, stages: int):
    problem = Problem(100, 64, 72, dtype="fp16", layout="nt")
    for seed in range(8):
        _assert_right(problem, config | {"num_stages": stages, "NUM_SMS": 1 + seed % 3}, seed)


def test_one_stage_is_refused_when_compiling_and_would_not_do():
    with pytest.raises(Hazard, match="wait for each other"):
        _emulated(Problem(64, 64, 64, dtype="fp16"), COOPERATIVE | {"num_stages": 1})
    with pytest.raises(CompilationError, match="STAGES >= 2"):
        compile_first(gluon_persistent.calls, Problem(64, 64, 64), COOPERATIVE | {"num_stages": 1}, 90)


@pytest.mark.slow
@BOTH
@pytest.mark.parametrize("stages", [2, 3, 4])
@pytest.mark.parametrize("k", [8, 40, 72, 104])
def test_many_orders_of_events(config: Config, stages: int, k: int):
    for seed in range(60):
        _assert_right(Problem(100, 64, k, dtype="fp16"), config | {"num_stages": stages, "NUM_SMS": 1 + seed % 4}, seed)


@pytest.mark.parametrize("number", [0, 7])
def test_shipped_tiles_are_right(number: int):
    problem = Problem(264, 520, 328, dtype="bf16", layout="nt")
    tile = gluon_persistent.TILES[number]
    shipped = [
        config
        for config in gluon_persistent.configs(problem, replace(HOPPER, sm_count=2))
        if (config["BLOCK_M"], config["BLOCK_N"], config["num_stages"]) == (tile.block_m, tile.block_n, tile.stages)
    ]
    _assert_right(problem, shipped[0])


BROKEN = {
    "loader waits for the wrong phase": {"(step // STAGES + 1) % 2": "(step // STAGES) % 2"},
    "loader does not wait": {"mbarrier.wait(empty.index(stage), (step // STAGES + 1) % 2)": "pass"},
    "consumers wait for the wrong phase": {"step // STAGES % 2": "(step // STAGES + 1) % 2"},
    "consumers do not wait": {"mbarrier.wait(full.index(stage), step // STAGES % 2)": "pass"},
    "a stage is released while it is read": {"warpgroup_mma_wait(1,": "warpgroup_mma_wait(2,"},
    "the wrong stage is released": {"(step + STAGES - 1) % STAGES), count=1, pred": "step % STAGES), count=1, pred"},
    "the last stage is not released": {
        "mbarrier.arrive(empty.index((step + STAGES - 1) % STAGES), count=1)\n": "pass\n"
    },
    "bytes are miscounted": {"+ b_desc.block_type.nbytes": "+ 2 * b_desc.block_type.nbytes"},
    "C is stored before it is complete": {"warpgroup_mma_wait(0,": "warpgroup_mma_wait(1,"},
    "no fence before C is stored": {"fence_async_shared()\n            tma_store": "tma_store"},
    "a buffer of C is refilled too early": {"tma.store_wait(BUFFERS - 1)": "tma.store_wait(BUFFERS)"},
    "the block ends before C is stored": {"    tma.store_wait(0)\n": ""},
    "tiles are skipped": {"for tile in range(first": "for tile in range(gl.num_programs(0) + first"},
    "K tiles are skipped": {"range(0, K, BLOCK_K)": "range(BLOCK_K, K, BLOCK_K)"},
}
BROKEN_ALTERNATING = {
    "consumers do not wait for their turn": {
        "mbarrier.wait(my_turn.index(TURN), (turns_taken + 1 - TURN) % 2)": "pass"
    },
    "both wait for the same turn": {"(turns_taken + 1 - TURN) % 2": "turns_taken % 2"},
    "steps of the other are not counted": {"step += (TURNS - 1) * k_tiles": "pass"},
    "both begin with the same step": {"step = TURN * k_tiles": "step = 0"},
}


BROKEN_PROMOTED = {
    "a stage is released while it is read": {
        "warpgroup_mma_wait(0, deps=[partial])": "warpgroup_mma_wait(1, deps=[partial])"
    },
    "partial sums are not begun anew": {"use_acc=False": "use_acc=True"},
    "the wrong stage is released": {
        "empty.index(stage), count=1)\n                acc": "empty.index(0), count=1)\n                acc"
    },
    "partial sums are not added": {"accumulator += partial": "accumulator = partial"},
}


def _caught(config: Config, edits: dict[str, str]) -> bool:
    """Whether a broken kernel is seen to be broken in one of a few orders of events."""
    dtype = "fp8_e4m3" if "fast_accumulation" in config else "fp16"
    problem = Problem(100, 128, 112, dtype=dtype, layout="nt")
    config = config | {"BLOCK_N": 64, "EPILOGUE_SUBTILE": 4}
    for seed in range(10):
        try:
            correctness, (*_, c) = _emulated(problem, config, seed, edits)
        except Hazard:
            return True
        if not correctness.ok or c.writes.max() > 1:
            return True
    return False


@BOTH
@pytest.mark.parametrize("fault", BROKEN)
def test_broken_kernels_are_caught(config: Config, fault: str):
    assert _caught(config, BROKEN[fault])


@pytest.mark.parametrize("fault", BROKEN_ALTERNATING)
def test_broken_turns_are_caught(fault: str):
    assert _caught(ALTERNATING, BROKEN_ALTERNATING[fault])


@BOTH
@pytest.mark.parametrize("fault", BROKEN_PROMOTED)
def test_broken_promotion_is_caught(config: Config, fault: str):
    assert _caught(config | {"fast_accumulation": False}, BROKEN_PROMOTED[fault])


def test_what_is_whole_is_not_called_broken():
    for config in (COOPERATIVE, ALTERNATING, COOPERATIVE | {"fast_accumulation": False}):
        assert not _caught(config, {})


def test_refusals_say_why_and_what_instead(monkeypatch: pytest.MonkeyPatch):
    def refusal(problem: Problem, device: Device = HOPPER) -> str:
        return str(gluon_persistent.supports(problem, device))

    even = Problem(64, 64, 64)
    assert "choose backend torch" in refusal(even, CPU)
    assert "NVIDIA A100-SXM4-80GB has no wgmma" in refusal(even, DEVICES[80])
    assert "NVIDIA B200 has no wgmma" in refusal(even, DEVICES[100])
    assert "only: choose triton-tiled" in refusal(Problem(64, 64, 64, dtype="tf32"))
    assert "only: choose triton-tiled-8bit" in refusal(Problem(64, 64, 64, dtype="int8", layout="nt"))
    fp8 = Problem(64, 64, 24, dtype="fp8_e4m3", layout="nt")
    assert refusal(fp8) == "A's rows of 24 bytes are no multiples of the 16 that TMA needs: choose triton-tiled-8bit"
    assert "no int32" in refusal(Problem(64, 64, 64, out_dtype="int32"))
    assert "choose layout nt" in refusal(Problem(64, 64, 64, dtype="fp8_e4m3", layout="nn"))
    assert "triton-persistent for a batch" in refusal(Problem(64, 64, 64, batch=2))
    assert refusal(Problem(64, 64, 60)) == (
        "A's rows of 120 bytes are no multiples of the 16 that TMA needs: choose triton-tiled"
    )
    assert "B's rows of 120 bytes" in refusal(Problem(64, 60, 64))
    assert "C's rows of 120 bytes" in refusal(Problem(64, 60, 64, layout="nt"))
    assert "A's rows of 126 bytes" in refusal(Problem(63, 64, 64, layout="tn"))
    for layout in ("nn", "nt", "tn"):
        assert gluon_persistent.supports(Problem(8, 8, 8, layout=layout), HOPPER) is None
    assert gluon_persistent.supports(Problem(7, 8, 16, dtype="fp8_e4m3", layout="nt"), HOPPER) is None


def test_without_gluon_it_says_so():
    """In a process of its own, whose Triton has no `experimental.gluon`."""
    program = (
        "import sys; sys.modules['triton.experimental.gluon'] = None\n"
        "from gemmkernels.backend import Device, load\n"
        "from gemmkernels.problem import Problem\n"
        "hopper = Device('cuda', 'an H100', 0, (9, 0), 132, 232448)\n"
        "print(load('gluon-persistent').supports(Problem(64, 64, 64), hopper))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(gemmkernels.__file__).parents[1],
    )
    assert done.stdout.startswith("this kernel needs Gluon as in Triton 3.6 to 3.9: choose backend triton-persistent (")


def test_it_is_among_the_backends():
    assert BACKENDS["gluon-persistent"] == "gemmkernels.gluon_persistent"


def _tile(config: Config) -> tuple:
    return tuple(config[name] for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_stages", "COOPERATIVE"))


@pytest.mark.parametrize(
    ("problem", "tile"),
    [
        (Problem(8192, 8192, 8192, layout="nt"), (128, 256, 64, 4, True)),
        (Problem(8192, 8192, 8192, layout="nt", dtype="fp8_e4m3"), (128, 128, 128, 6, True)),
        (Problem(8192, 8192, 8192, out_dtype="fp32"), (128, 256, 64, 3, True)),
        (Problem(1024, 1024, 8192), (128, 64, 64, 6, False)),
        (Problem(512, 512, 8192), (64, 64, 64, 8, False)),
    ],
)
def test_the_default_follows_shape_and_formats(problem: Problem, tile: tuple):
    assert _tile(gluon_persistent.configs(problem, HOPPER)[0]) == tile


def test_candidates_are_few_and_distinct():
    for out_dtype in ("bf16", "fp32"):
        candidates = gluon_persistent.configs(Problem(4096, 4096, 4096, out_dtype=out_dtype), HOPPER)
        assert 8 <= len(candidates) == len({tuple(config.items()) for config in candidates}) <= 13


def test_blocks_are_no_more_than_tiles_or_asked_for():
    def grid(m: int, sms: int) -> tuple[int, ...]:
        problem = Problem(m, 64, 64, dtype="fp16")
        (call,) = gluon_persistent.calls(
            problem, make_operands(problem, CPU)[0], COOPERATIVE | {"NUM_SMS": sms}, HOPPER
        )
        return call.grid

    assert grid(64, 132) == (4,)
    assert grid(640, 7) == (7,)


def _assert_sound(problem: Problem, config: Config) -> None:
    compiled = compile_first(gluon_persistent.calls, problem, config, 90)
    opcode = "QGMMA" if problem.dtype == "fp8_e4m3" else "HGMMA"
    shape = f"{opcode}.64x{config['BLOCK_N']}x{16 if opcode == 'HGMMA' else 32}.F32"
    products = 4 * int(config["BLOCK_M"]) // 64 * (1 if config["COOPERATIVE"] else 2)
    assert compiled.instructions(shape) == compiled.instructions("[HQI]G?MMA") == products
    assert compiled.instructions("UTMALDG") >= (3 if config["COOPERATIVE"] else 2)
    assert compiled.instructions("UTMASTG") >= 2 * int(config["EPILOGUE_SUBTILE"])
    assert compiled.instructions("USETMAXREG") > 0, "the loader's registers go to the consumers"
    assert compiled.instructions("SYNCS.PHASECHK") >= 3
    # Promotion adds up in the vector units what the tensor cores began anew.
    promoted = config.get("fast_accumulation") is False
    assert (compiled.instructions("FADD") > 0) == promoted
    assert compiled.instructions("LDG") == 0 or problem.scaling is not None or problem.dtype == "fp8_e4m3"
    assert compiled.stack_bytes == 0
    assert compiled.scratch_bytes == 0, "a launch would allocate"
    # 12 warps: what each has before registers are handed over.
    assert compiled.registers == 168
    tiles = gluon_persistent.TILES + gluon_persistent.PROMOTED_TILES
    tile = next(tile for tile in tiles if _describes(tile, config))
    formula = gluon_persistent.shared_bytes(tile, problem.out_dtype)
    assert formula - 512 < compiled.shared_bytes <= formula <= HOPPER.shared_memory_bytes


def _describes(tile: gluon_persistent.Tile, config: Config) -> bool:
    names = ("BLOCK_M", "BLOCK_N", "num_stages", "COOPERATIVE", "EPILOGUE_SUBTILE")
    return tile == tuple(config[name] for name in names)


@pytest.mark.parametrize("dtype", ["bf16", "fp8_e4m3"])
def test_the_default_compiles_to_hopper_instructions_without_spills(dtype: str):
    problem = Problem(8192, 8192, 8192, dtype=dtype, layout="nt")
    _assert_sound(problem, gluon_persistent.configs(problem, HOPPER)[0])


def test_fp8_with_fast_accumulation_compiles_in_large_tiles():
    problem = Problem(8192, 8192, 8192, dtype="fp8_e4m3", layout="nt", scaling="row")
    bf16 = gluon_persistent.configs(replace(problem, dtype="bf16", scaling=None), HOPPER)[0]
    _assert_sound(problem, bf16 | {"BLOCK_K": 128, "fast_accumulation": True})


def test_alternating_consumers_compile_too():
    problem = Problem(1024, 1024, 8192, dtype="fp16", layout="tn")
    config = gluon_persistent.configs(problem, HOPPER)[0]
    assert not config["COOPERATIVE"]
    _assert_sound(problem, config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "out_dtype", "layout", "scaling"),
    [
        *((dtype, dtype, layout, None) for dtype in ("bf16", "fp16") for layout in ("nn", "tn")),
        ("bf16", "bf16", "nt", None),
        ("bf16", "fp32", "nt", None),
        ("fp8_e4m3", "bf16", "nt", "tensor"),
        ("fp8_e4m3", "bf16", "nt", "row"),
    ],
)
def test_candidates_compile_without_spills(dtype: str, out_dtype: str, layout: str, scaling: str | None):
    """All in layout nt; in the others, which differ by how shared memory is read, each fourth."""
    problem = Problem(8192, 8192, 8192, dtype=dtype, out_dtype=out_dtype, layout=layout, scaling=scaling)
    configs = gluon_persistent.configs(problem, HOPPER)
    for config in configs if layout == "nt" else configs[::4]:
        _assert_sound(problem, config)
    ragged = replace(problem, m=8200, n=8200, k=8208)
    _assert_sound(ragged, configs[0])
