"""Every interpretable kernel × format × layout × configuration × kind of shape is right: minutes, so `slow`.

The modules' own tests run a part of this, and what is particular to each kernel; Gluon has an emulator instead.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from compiling import DEVICES
from interpreting import Interpreter

from gemmkernels import triton_persistent, triton_splitk, triton_tiled
from gemmkernels.backend import Config, load
from gemmkernels.problem import LAYOUTS, Problem

SQUARE: Config = {"BLOCK_M": 32, "BLOCK_N": 32, "BLOCK_K": 32, "GROUP_M": 2, "num_warps": 4, "num_stages": 2}
WIDE: Config = SQUARE | {"BLOCK_N": 64, "BLOCK_K": 64, "GROUP_M": 8}
TALL: Config = SQUARE | {"BLOCK_M": 64, "BLOCK_K": 16, "GROUP_M": 1}
TILES = (SQUARE, WIDE, TALL)

SHAPES = {
    "all ragged": Problem(67, 45, 83),
    "K no multiple of a tile": Problem(64, 64, 40),
    "K below a tile": Problem(40, 40, 7),
    "one row": Problem(1, 70, 50),
    "one column": Problem(70, 1, 50),
    "batch": Problem(33, 65, 40, batch=3),
    "even": Problem(128, 128, 128),
}
TMA_SHAPES = {
    "all ragged": Problem(80, 48, 112),
    "K no multiple of a tile": Problem(64, 64, 48),
    "K below a tile": Problem(48, 48, 16),
    "one row": Problem(1, 80, 48),
    "narrow": Problem(80, 16, 48),
    "batch": Problem(48, 80, 48, batch=3),
    "even": Problem(128, 128, 128),
}
"""Rows that TMA can copy, in every format and layout but for one row of a transposed A."""

PERSISTENT = tuple(
    tile | {"EPILOGUE_SUBTILE": subtile, "NUM_SMS": sms}
    for tile, subtile, sms in ((SQUARE, 1, 3), (WIDE, 2, 2), (TALL, 1, 50))
)
SPLIT = tuple(
    tile | {"SPLIT_K": parts, "SWAP_AB": swap, "REDUCTION": "workspace"}
    for tile, parts, swap in ((SQUARE, 3, False), (WIDE, 2, True), (TALL, 5, False))
)
EIGHT_BIT = ("fp8_e4m3", "fp8_e5m2", "int8")

KERNELS: dict[str, tuple[tuple[str, ...], tuple[Config, ...], dict[str, Problem]]] = {
    "triton-tiled": (triton_tiled.FORMATS, TILES, SHAPES),
    "triton-tiled-8bit": (EIGHT_BIT, TILES, SHAPES),
    "triton-persistent": (triton_persistent.FORMATS, PERSISTENT, TMA_SHAPES),
    "triton-splitk": (triton_splitk.FORMATS, SPLIT, SHAPES),
}


def _problems(backend: str, dtype: str, layout: str) -> dict[str, Problem]:
    scalings = ("tensor", "row") if dtype.startswith("fp8") else (None,)
    return {
        f"{name}, scaled by {scaling}": replace(about, dtype=dtype, layout=layout, scaling=scaling, out_dtype="")
        for name, about in KERNELS[backend][2].items()
        for scaling in scalings
    }


def test_the_matrix_holds_every_interpretable_kernel_and_format():
    for backend, (formats, configs, _) in KERNELS.items():
        assert tuple(formats) == tuple(load(backend).FORMATS)  # type: ignore[attr-defined]
        assert len(configs) == 3
    assert KERNELS["triton-persistent"][0] == ("bf16", "fp16", "tf32", *EIGHT_BIT)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "dtype", "layout"),
    [
        (backend, dtype, layout)
        for backend, (formats, _, _) in KERNELS.items()
        for dtype in formats
        for layout in (("nt",) if dtype in EIGHT_BIT else LAYOUTS)
    ],
)
def test_every_combination_is_right(interpreter: Interpreter, backend: str, dtype: str, layout: str):
    computed = 0
    for name, problem in _problems(backend, dtype, layout).items():
        refusal = load(backend).supports(problem, DEVICES[90])
        if refusal is not None and "too short to be divided" not in refusal:
            assert "no multiples of the 16 that TMA needs" in refusal
            continue
        for config in KERNELS[backend][1]:
            found = interpreter.run(backend, (problem, config))
            assert found["error"] <= found["bound"], (name, config, found)
            computed += 1
    assert computed >= 3 * 6
