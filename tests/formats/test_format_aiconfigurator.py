"""aiconfigurator's tables: what becomes of each column, and what is left out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tables import A100, H100, aiconfigurator

from flopwatt.analysis.formats.aiconfigurator import tables as format_
from flopwatt.analysis.formats.foreign import Entry, LeftOut
from flopwatt.errors import InputError

FLAWED: dict[str, tuple[dict[str, Any], str]] = {
    "m zero": ({"m": 0}, "m = 0"),
    "m negative": ({"m": -4}, "a size outside 1 to 16777216"),
    "m huge": ({"m": 2**40}, "a size outside 1 to 16777216"),
    "too many bytes": ({"m": 2**23, "n": 2**23}, "formats or sizes that a run file cannot hold together"),
    "no latency": ({"latency": None}, "latency is empty"),
    "latency zero": ({"latency": 0.0}, "latency is outside 1 ns to 10⁶ s"),
    "latency negative": ({"latency": -1.0}, "latency is outside 1 ns to 10⁶ s"),
    "latency absurd": ({"latency": 1e308}, "latency is outside 1 ns to 10⁶ s"),
    "latency infinite": ({"latency": float("inf")}, "latency is not finite"),
    "latency nan": ({"latency": float("nan")}, "latency is not finite"),
    "block scales": ({"gemm_dtype": "fp8_block"}, "fp8_block: a run file has no name for fp8 with one scale a block"),
    "4 bit": ({"gemm_dtype": "nvfp4"}, "nvfp4: a run file has no name for 4-bit floats"),
    "weights only": ({"gemm_dtype": "int4_wo"}, "int4_wo: a run file has no name for int4 weights"),
    "unknown format": ({"gemm_dtype": "fp7"}, "gemm_dtype 'fp7' is not known"),
    "not a GEMM": ({"op_name": "moe"}, "not a GEMM"),
    "no GPU": ({"device": ""}, "no GPU named"),
    "a novel for a name": ({"device": "x" * 5000}, "device is longer than 200 characters"),
}


def entries(path: Path) -> list[Entry]:
    found = list(format_.open_table(path).rows)
    assert all(isinstance(one, Entry) for one in found), found
    return [one for one in found if isinstance(one, Entry)]


def test_a_row_becomes_a_case_with_everything_unknown_said_so(tmp_path: Path) -> None:
    (entry,) = entries(aiconfigurator(tmp_path / "t.parquet", [{}]))
    assert entry.machine.gpu == H100
    assert entry.machine.versions == (("vllm", "0.24.0"),)
    problem = entry.case.problem
    assert problem is not None
    assert (problem.m, problem.n, problem.k, problem.dtype, problem.layout) == (4096, 8192, 1024, "bf16", "nt")
    assert (entry.case.regime, entry.case.inputs, entry.case.cache) == ("unknown", "unknown", "unknown")
    assert (entry.case.backend, entry.case.config) == ("vllm", {"version": "0.24.0", "kernel_source": "vllm_default"})
    assert entry.measurement is not None
    assert entry.measurement.time_s == pytest.approx(125e-6, rel=1e-12)
    assert (entry.energy_status, entry.energy_reason) == ("unsupported", "the table has no watts")
    assert entry.settings == {}


def test_watts_are_kept_but_refused(tmp_path: Path) -> None:
    (entry,) = entries(aiconfigurator(tmp_path / "t.parquet", [{"power": 612.5, "power_limit": 700.0}]))
    assert entry.measurement is not None
    assert (entry.measurement.power_w, entry.measurement.power_limit_w) == (612.5, 700.0)
    assert entry.energy_status == "refused"
    assert entry.energy_reason == "the window over which the watts were averaged is unknown"


@pytest.mark.parametrize("watts", [0.0, -5.0, float("nan"), 1e308, None])
def test_impossible_watts_cost_the_row_its_watts_and_not_its_time(tmp_path: Path, watts: float | None) -> None:
    (entry,) = entries(aiconfigurator(tmp_path / "t.parquet", [{"power": watts}], power=pa.float64()))
    assert entry.measurement is not None
    assert entry.measurement.power_w is None
    assert entry.energy_status == "unsupported"


def test_fp8_says_that_its_time_holds_the_quantisation(tmp_path: Path) -> None:
    (entry,) = entries(aiconfigurator(tmp_path / "t.parquet", [{"gemm_dtype": "fp8"}]))
    problem = entry.case.problem
    assert problem is not None
    assert (problem.dtype, problem.out_dtype, problem.scaling) == ("fp8_e4m3", "bf16", None)
    assert entry.settings == {"timed": "quantisation of the activations and GEMM"}


@pytest.mark.parametrize("name", FLAWED)
def test_a_flawed_row_is_left_out_with_its_reason(tmp_path: Path, name: str) -> None:
    row, reason = FLAWED[name]
    found = list(format_.open_table(aiconfigurator(tmp_path / "t.parquet", [row, {}], latency=pa.float64())).rows)
    assert isinstance(found[0], LeftOut)
    assert found[0].reason.startswith(reason)
    assert isinstance(found[1], Entry)


def test_sizes_may_be_floats_and_names_dictionaries(tmp_path: Path) -> None:
    path = aiconfigurator(
        tmp_path / "t.parquet", [{"m": 64.0}, {"m": 64.5}], device=pa.dictionary(pa.int32(), pa.string())
    )
    whole, broken = format_.open_table(path).rows
    assert isinstance(whole, Entry)
    assert whole.case.problem is not None
    assert whole.case.problem.m == 64
    assert broken == LeftOut("m is not a whole number")


def test_a_system_folder_is_all_its_stacks_named_without_the_machines_path(tmp_path: Path) -> None:
    system = tmp_path / "home" / "somebody" / "systems" / "data" / "a100_sxm"
    for stack in ("vllm/0.14.0", "sglang/0.5.10"):
        aiconfigurator(system / "gemm" / stack / "gemm_perf.parquet", [{"device": A100, "version": stack}])
    table = format_.open_table(system)
    assert table.source == (
        "aiconfigurator: a100_sxm/gemm/sglang/0.5.10/gemm_perf.parquet, a100_sxm/gemm/vllm/0.14.0/gemm_perf.parquet"
    )
    assert [one.case.config["version"] for one in table.rows if isinstance(one, Entry) and one.case.config] == [
        "sglang/0.5.10",
        "vllm/0.14.0",
    ]


WRONG_COLUMNS: dict[str, tuple[dict[str, Any], dict[str, pa.DataType], str]] = {
    "text for a size": ({"m": "4096"}, {}, "column 'm' holds string"),
    "text for a latency": ({"latency": "fast"}, {}, "column 'latency' holds string"),
    "number for a name": ({"device": 5}, {}, "column 'device' holds int64"),
    "list for a size": ({"k": [1, 2]}, {}, "column 'k' holds list"),
    "nulls only": ({"latency": None}, {}, "column 'latency' holds null"),
}


@pytest.mark.parametrize("name", WRONG_COLUMNS)
def test_a_column_of_the_wrong_type_is_one_line(tmp_path: Path, name: str) -> None:
    row, types, expected = WRONG_COLUMNS[name]
    with pytest.raises(InputError, match="not a GEMM table of aiconfigurator") as caught:
        list(format_.open_table(aiconfigurator(tmp_path / "t.parquet", [row], **types)).rows)
    assert expected in str(caught.value)


@pytest.mark.parametrize("keep", [0, 4, 100, 0.5, 0.95])
def test_a_cut_or_foreign_file_is_one_line(tmp_path: Path, keep: float) -> None:
    path = aiconfigurator(tmp_path / "t.parquet", [{"m": m} for m in range(1, 500)])
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(keep * len(data))])
    with pytest.raises(InputError, match=r"t\.parquet: not a whole Parquet file"):
        list(format_.open_table(path).rows)


def test_damage_inside_a_file_is_one_line_or_numbers_that_are_judged(tmp_path: Path) -> None:
    path = aiconfigurator(tmp_path / "t.parquet", [{"m": m, "latency": 0.1 + m} for m in range(1, 300)])
    data = bytearray(path.read_bytes())
    outcomes: Counter[str] = Counter()
    for place in range(4, len(data), len(data) // 60):
        broken = data.copy()
        broken[place] ^= 0xFF
        path.write_bytes(broken)
        try:
            outcomes["read"] += len(list(format_.open_table(path).rows)) >= 0
        except InputError as error:
            outcomes["refused"] += "\n" not in str(error)
    assert sum(outcomes.values()) >= 60
    assert outcomes["refused"] > 0


def test_what_is_neither_file_nor_system_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"install the public tables|choose one of"):
        format_.open_table(Path("z100_sxm"))
    with pytest.raises(InputError, match=r"install the public tables|choose one of"):
        format_.open_table(Path("../../data"))
    with pytest.raises(InputError, match=r"no gemm_perf\.parquet in it"):
        format_.open_table(tmp_path)


def test_the_public_package_reads_whole() -> None:
    pytest.importorskip("aiconfigurator_core", reason="the extra `reference` is not installed")
    table = format_.open_table(Path("a100_sxm/trtllm"))
    assert table.licence == "Apache-2.0"
    assert table.source.startswith("PyPI aiconfigurator-core ")
    found = list(table.rows)
    kinds = Counter(one.reason if isinstance(one, LeftOut) else one.case.problem.dtype for one in found)  # type: ignore[union-attr]
    assert kinds["bf16"] >= 9240
    assert {one.machine.gpu for one in found if isinstance(one, Entry)} == {A100}
    assert all(one.energy_status == "unsupported" for one in found if isinstance(one, Entry))


POWERED = Path(__file__).parents[3] / "shared" / "data" / "aiconfigurator" / "b200_sxm"


@pytest.mark.skipif(not POWERED.is_dir(), reason="the tables with power are not beside this checkout")
def test_a_public_table_with_power_keeps_it_refused() -> None:
    found = [one for one in format_.open_table(POWERED).rows if isinstance(one, Entry)]
    assert len(found) == 35742
    assert {one.energy_status for one in found} == {"refused"}
    assert all(one.measurement and one.measurement.power_w and 200 < one.measurement.power_w < 1100 for one in found)


def test_a_file_that_unfolds_to_more_than_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = aiconfigurator(tmp_path / "t.parquet", [{}, {}, {}])
    monkeypatch.setattr(format_, "ROWS_MOST", 2)
    with pytest.raises(InputError, match="3 rows, over the 2 that are read"):
        list(format_.open_table(path).rows)
    monkeypatch.undo()
    monkeypatch.setattr(format_, "GROUP_BYTES_MOST", 100)
    with pytest.raises(InputError, match="MiB uncompressed, over the"):
        list(format_.open_table(path).rows)


def test_a_pipe_in_a_folder_of_tables_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / format_.FILE_NAME)
    with pytest.raises(InputError, match=r"no gemm_perf\.parquet in it"):
        format_.open_table(tmp_path)


def test_statistics_that_contradict_the_schema_do_not_end_the_process(tmp_path: Path) -> None:
    """A footer that calls nullable columns required: pyarrow aborts on being asked for such a column's facts."""
    path = aiconfigurator(tmp_path / "t.parquet", [{}])
    data = path.read_bytes()
    footer = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    optional, required = b"\x25\x02", b"\x25\x00"  # Thrift's repetition_type, its values zigzag
    path.write_bytes(data[:footer] + data[footer:].replace(optional, required))
    rows = f"import sys; from {format_.__name__} import *; list(open_table(Path(sys.argv[1])).rows)"
    done = subprocess.run([sys.executable, "-c", rows, path], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "terminate called" not in done.stderr
