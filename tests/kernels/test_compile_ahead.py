"""What is read from machine code: opcodes, and accesses to the stack in loops and outside them."""

from __future__ import annotations

import pytest

pytest.importorskip("triton", reason="needs triton: pip install flopwatt[measure]")

from compiling import DEVICES, Compiled, compile_first

from gemmkernels import compile_ahead, triton_tiled
from gemmkernels.problem import Problem

LISTING = """
        /*0000*/                   MOV R1, c[0x0][0x28] ;                      /* 0x00000a0000017a02 */
        /*0010*/                   STL [R1], R5 ;                              /* 0x0000000501007387 */
        /*0020*/                   LDSM.16.M88.4 R8, [R2] ;                    /* 0x000000000208783b */
        /*0030*/              @!P1 LDL.LU R6, [R1+0x4] ;                       /* 0x0000040001069983 */
        /*0040*/                   HMMA.16816.F32.BF16 R4, R8, R2, R4 ;        /* 0x000000020804723c */
        /*0050*/               @P0 BRA 0x20 ;                                  /* 0xffffffc000000947 */
        /*0060*/                   LDL.LU R5, [R1] ;                           /* 0x0000000001057983 */
        /*0070*/                   BRA 0x90 ;                                  /* 0x0000001000007947 */
        /*0080*/                   STL [R1+0x8], R7 ;                          /* 0x0000080701007387 */
        /*0090*/                   EXIT ;                                      /* 0x000000000000794d */
        /*00a0*/                   BRA 0xa0;                                   /* 0xfffffff000007947 */
"""


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Compiled:
    """A kernel of the machine code in `LISTING`."""
    monkeypatch.setattr(compile_ahead, "_read_cubin", lambda cubin, option: LISTING)
    return Compiled(registers=32, stack_bytes=16, shared_bytes=0, scratch_bytes=0, cubin=b"")


def test_stack_accesses_count_in_loops_alone(listed: Compiled):
    """Of four only the one between 0x20 and the branch back to it; a jump ahead is no loop."""
    assert listed.instructions("STL") + listed.instructions("LDL") == 4
    assert listed.spills_in_loops() == 1


def test_opcodes_are_told_with_their_modifiers_and_without_predicates(listed: Compiled):
    assert listed.opcodes() == {"MOV", "STL", "LDSM.16.M88.4", "LDL.LU", "HMMA.16816.F32.BF16", "BRA", "EXIT"}


@pytest.mark.slow
def test_a_tile_that_was_left_out_for_spilling_is_seen_to_spill():
    problem = Problem(8192, 8192, 8192, dtype="tf32", layout="nn")
    config = triton_tiled.configs(problem, DEVICES[100])[0] | {"BLOCK_M": 256, "BLOCK_N": 128}  # type: ignore[operator]
    compiled = compile_first(triton_tiled.calls, problem, config, 100)
    assert compiled.stack_bytes == 144
    assert compiled.spills_in_loops() > 20
