"""cutlass_profiler's CSV: layouts against numpy, formats, outcomes, and files that are none."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from tables import A100, CUTLASS_HEADER, cutlass_row

from flopwatt.analysis.formats import cutlass_profiler
from flopwatt.analysis.formats.foreign import Entry, Found, LeftOut
from flopwatt.errors import InputError
from gemmkernels.problem import Problem


def read(tmp_path: Path, *rows: str, header: str = CUTLASS_HEADER) -> list[Found]:
    path = tmp_path / "profile.gemm.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return list(cutlass_profiler.open_table(path, A100).rows)


def entry(tmp_path: Path, **fields: object) -> Entry:
    (found,) = read(tmp_path, cutlass_row(**fields))
    assert isinstance(found, Entry), found
    return found


def problem(tmp_path: Path, **fields: object) -> Problem:
    found = entry(tmp_path, **fields).case.problem
    assert found is not None
    return found


def test_the_row_major_forward_gemm(tmp_path: Path) -> None:
    found = entry(tmp_path)
    assert found.case.problem == Problem(128, 256, 512, dtype="fp16", out_dtype="fp32", layout="nt")
    assert found.machine.gpu == A100
    assert found.case.backend == "cutlass"
    assert found.case.config is not None
    assert found.case.config["operation"] == "cutlass_tensorop_f16_s16816gemm"
    assert found.measurement is not None
    assert found.measurement.time_s == pytest.approx(1e-3)
    assert found.status == "ok"
    assert found.energy_status == "unsupported"


@pytest.mark.parametrize(("a", "b", "d"), list(product(("row", "column"), repeat=3)))
def test_layouts_mean_the_same_memory(tmp_path: Path, a: str, b: str, d: str) -> None:
    """The imported problem, run on the profiler's own buffers, must fill the profiler's own result buffer."""
    m, n, k = 3, 4, 5
    (found,) = read(tmp_path, cutlass_row(m=m, n=n, k=k, A=f"f16:{a}", B=f"f16:{b}", C=f"f16:{d}", D=f"f16:{d}"))
    rng = np.random.default_rng(0)
    left, right = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    order = {"row": "C", "column": "F"}
    buffer_a, buffer_b = left.ravel(order=order[a]), right.ravel(order=order[b])  # type: ignore[call-overload]
    result = (left @ right).ravel(order=order[d])  # type: ignore[call-overload]
    if isinstance(found, LeftOut):
        assert found.reason == "layout tt, which a run file has no name for"
        assert (a, b, d) in {("column", "column", "row"), ("row", "row", "column")}
        return
    ours = found.case.problem
    assert ours is not None
    first, second = (buffer_a, buffer_b) if d == "row" else (buffer_b, buffer_a)
    ours_a = first.reshape(ours.m, ours.k) if ours.layout[0] == "n" else first.reshape(ours.k, ours.m).T
    ours_b = second.reshape(ours.k, ours.n) if ours.layout[1] == "n" else second.reshape(ours.n, ours.k).T
    np.testing.assert_allclose((ours_a @ ours_b).ravel(), result)


def test_of_eight_storage_orders_two_have_no_name(tmp_path: Path) -> None:
    orders = product(("row", "column"), repeat=3)
    rows = [cutlass_row(A=f"f16:{a}", B=f"f16:{b}", C=f"f16:{d}", D=f"f16:{d}") for a, b, d in orders]
    found = read(tmp_path, *rows)
    assert sum(isinstance(one, LeftOut) for one in found) == 2


def test_formats(tmp_path: Path) -> None:
    assert problem(tmp_path, A="bf16:row", B="bf16:column", D="bf16:row").dtype == "bf16"
    assert problem(tmp_path, A="e4m3:row", B="e4m3:column", D="bf16:row").dtype == "fp8_e4m3"
    assert problem(tmp_path, A="s8:row", B="s8:column", D="s32:row").out_dtype == "int32"
    assert problem(tmp_path, A="f32:row", B="f32:column", op_class="simt").dtype == "fp32"
    tf32 = "cutlass_tensorop_s1688tf32gemm_256x128_16x3_nn_align4"
    assert problem(tmp_path, A="f32:row", B="f32:column", Operation=tf32).dtype == "tf32"
    assert problem(tmp_path, batch_count=8).batch == 8


LEFT_OUT = {
    "another operation": ({"OperationKind": "spgemm"}, "operation 'spgemm'"),
    "mixed operands": ({"A": "e4m3:row", "B": "e5m2:column"}, "A and B of different formats"),
    "rounded inside": (
        {"A": "f32:row", "B": "f32:column", "Operation": "cutlass_tensorop_s1688f16gemm_256x128"},
        "f32 operands on tensor cores",
    ),
    "complex": ({"A": "cf32:row", "B": "cf32:column"}, "operands of format cf32"),
    "double result": ({"D": "f64:row"}, "D of format f64"),
    "interleaved": ({"A": "s8:nk32"}, "A is stored neither row nor column"),
    "no runtime": ({"Runtime": ""}, "Runtime is empty"),
    "runtime nan": ({"Runtime": "nan"}, "Runtime is not finite"),
    "thousands": ({"m": '"16,384"'}, "m is not a number"),
    "underscore": ({"m": "16_384"}, "m is not a number"),
    "zero": ({"k": 0}, "a size outside 1 to"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_a_run_file_cannot_hold_is_left_out(tmp_path: Path, name: str) -> None:
    fields, reason = LEFT_OUT[name]
    (found,) = read(tmp_path, cutlass_row(**fields))
    assert isinstance(found, LeftOut)
    assert found.reason.startswith(reason)


OUTCOMES = [
    ("success", "passed", "ok", None),
    ("success", "not_verified", "ok", None),
    ("success", "incorrect", "failed", "cutlass_profiler: disposition incorrect"),
    ("success", "failed", "failed", "cutlass_profiler: disposition failed"),
    ("error_internal", "not_run", "failed", "cutlass_profiler: status error_internal"),
    ("success", "not_supported", "skipped", "cutlass_profiler: not supported"),
]


@pytest.mark.parametrize(("status", "disposition", "expected", "reason"), OUTCOMES)
def test_outcomes(tmp_path: Path, status: str, disposition: str, expected: str, reason: str | None) -> None:
    runtime = 1.0 if expected == "ok" else 0
    found = entry(tmp_path, Status=status, Disposition=disposition, Runtime=runtime)
    assert (found.status, found.reason) == (expected, reason)
    assert (found.measurement is None) == (expected != "ok")
    assert found.settings == {"disposition": disposition}


def test_a_terminals_log_is_read_from_its_header_on(tmp_path: Path) -> None:
    log = "=====\n  Problem ID: 1\n  Runtime: 1.4  ms, fast\n\nCSV Results:\n\n" + CUTLASS_HEADER
    found = read(tmp_path, cutlass_row(), CUTLASS_HEADER, cutlass_row(m=64), header=log)
    assert [one.case.problem.m for one in found if isinstance(one, Entry) and one.case.problem] == [128, 64]


BROKEN = {
    "no header": ("a,b\n1,2\n", "no header with Problem and Provider"),
    "empty": ("", "no header with Problem and Provider"),
    "cut off": (f"{CUTLASS_HEADER}\n{cutlass_row()[:60]}", "line 2 has"),
    "a column twice": (f"{CUTLASS_HEADER},m\n", "column 'm' is there twice"),
    "a column missing": (CUTLASS_HEADER.replace(",Runtime", "") + "\n", "no column 'Runtime'"),
    "open quote": (f'{CUTLASS_HEADER}\n"{cutlass_row()}', "not a whole CSV file"),
    "long line": ("x" * 2**21, "a line of over 1048576 characters"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_line(tmp_path: Path, name: str) -> None:
    text, expected = BROKEN[name]
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        list(cutlass_profiler.open_table(path, A100).rows)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_gpu_must_be_said() -> None:
    with pytest.raises(InputError, match="names no GPU: say which it was with --gpu"):
        cutlass_profiler.open_table(Path("x.csv"), None)
