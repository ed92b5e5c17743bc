"""The table of what the kernels compile to: how it is made, and that the committed one is what is made."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

import triton
from rich.console import Console

from flopwatt.commands import compiled
from flopwatt.commands.compiled import Row, compiled_rows, markdown
from flopwatt.measurement.tuning.compiling import Resources
from flopwatt.measurement.tuning.search import Wish, jobs
from gemmkernels import triton_tiled
from gemmkernels.compile_ahead import DEVICES
from gemmkernels.problem import Problem

PAGE = Path(__file__).parents[2] / "kernels" / "COMPILED.md"


def test_a_row_names_resources_and_instructions():
    takes = Resources(168, 8, 196_640, ("HGMMA.64x256x16.F32.BF16",), ("UTMALDG.2D", "UTMASTG.2D", "UTMALDG.3D"))
    rows = [
        Row("one", "sm_90", "bf16", "nt", "128x256x64, 8 warps", takes),
        Row("two", "sm_80", "fp32", "nt", "16x16x16", "RuntimeError: PassManager::run failed"),
    ]
    page = markdown(rows)
    assert f"triton {triton.__version__};" in page
    assert page.index("## one") < page.index("## two")
    assert (
        "| sm_90 | bf16 | nt | 128x256x64, 8 warps | 168 | 8 | 192.0 | HGMMA.64x256x16.F32.BF16 | UTMALDG, UTMASTG |"
        in page
    )
    assert "| sm_80 | fp32 | nt | 16x16x16 |  |  |  | RuntimeError: PassManager::run failed |  |" in page
    assert page.endswith("|\n")
    assert "\n\n\n" not in page


def test_configurations_that_differ_in_tile_order_alone_are_one_row():
    problems = [Problem(*shape, layout="nt") for shape in compiled.SHAPES]
    found = jobs(
        [(Wish(problem, "triton-tiled"), triton_tiled.configs(problem, DEVICES[90])) for problem in problems],
        DEVICES[90],
    )
    once = list(compiled._once(found))
    tiles = [
        (problem.dtype, *(value for name, value in job.config.items() if name != "GROUP_M"))
        for job in once
        for problem in job.problems
    ]
    assert len(tiles) == len(set(tiles))
    assert {tile[1:4] for tile in tiles} >= {(128, 256, 64), (64, 64, 64), (16, 64, 64), (128, 128, 32)}
    assert len(once) < len(found)


@pytest.mark.slow
@pytest.mark.parametrize("capability", DEVICES)
def test_the_committed_table_is_what_the_compiler_says(capability: int):
    if not PAGE.exists():
        pytest.skip("kernels/COMPILED.md has not been made: make compiled")
    page = PAGE.read_text()
    if f"triton {triton.__version__};" not in page:
        pytest.skip(f"kernels/COMPILED.md was made with another triton than {triton.__version__}")
    wish = Wish(Problem(8192, 8192, 8192, layout="nt"), "triton-tiled")
    configs = triton_tiled.configs(wish.problem, DEVICES[capability])[:3]
    rows = list(compiled_rows(jobs([(wish, configs)], DEVICES[capability], opcodes=True), Console(stderr=True)))
    assert len(rows) == 3
    for row in rows:
        assert f"| {' | '.join(compiled._cells(row))} |" in page
