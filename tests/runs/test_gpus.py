"""GPU specifications: figures against datasheets, and names that must and must not match."""

import pytest

from flopwatt.runs.gpus import find, specs

MIB = 2**20

REPORTED = [
    # name, memory and multiprocessors as drivers report them
    ("Tesla V100-SXM2-16GB", 16160 * MIB, 80, "V100-SXM2-16GB"),
    ("Tesla V100-SXM2-32GB", 32510 * MIB, 80, "V100-SXM2-32GB"),
    ("NVIDIA A100-SXM4-40GB", 40960 * MIB, 108, "A100-SXM4-40GB"),
    ("A100-SXM4-40GB", 40536 * MIB, 108, "A100-SXM4-40GB"),
    ("NVIDIA A100-SXM4-80GB", 81920 * MIB, 108, "A100-SXM4-80GB"),
    ("A100-SXM-80GB", 81252 * MIB, 108, "A100-SXM4-80GB"),
    ("NVIDIA A100-PCIE-40GB", 40960 * MIB, 108, "A100-PCIe-40GB"),
    ("NVIDIA A100 80GB PCIe", 81920 * MIB, 108, "A100-PCIe-80GB"),
    ("NVIDIA H100 80GB HBM3", 81559 * MIB, 132, "H100-SXM5-80GB"),
    ("NVIDIA H100 PCIe", 81559 * MIB, 114, "H100-PCIe-80GB"),
    ("NVIDIA H100 NVL", 95830 * MIB, 132, "H100-NVL-94GB"),
    ("NVIDIA H800", 81559 * MIB, 132, "H800-SXM5-80GB"),
    ("NVIDIA H200", 143771 * MIB, 132, "H200-SXM5-141GB"),
    ("NVIDIA B200", 183359 * MIB, 148, "B200-SXM6-180GB"),
    ("NVIDIA GB200", 189471 * MIB, 152, "GB200-186GB"),
    ("NVIDIA L4", 23034 * MIB, 58, "L4-24GB"),
    ("NVIDIA L40S", 46068 * MIB, 142, "L40S-48GB"),
    ("NVIDIA GeForce RTX 4090", 24564 * MIB, 128, "RTX-4090-24GB"),
]


@pytest.mark.parametrize(("nvml_name", "memory_bytes", "sm_count", "expected"), REPORTED)
def test_reported_names_are_found(nvml_name: str, memory_bytes: int, sm_count: int, expected: str) -> None:
    for found in (find(nvml_name), find(nvml_name, memory_bytes, sm_count), find(f" {nvml_name.upper()} ")):
        assert found is not None
        assert found.name == expected
    assert find(nvml_name, memory_bytes, sm_count - 1) is None
    assert find(nvml_name, memory_bytes // 2, sm_count) is None


def test_every_entry_is_reached_by_a_reported_name() -> None:
    assert {row[3] for row in REPORTED} == {spec.name for spec in specs()}
    names = [name for spec in specs() for name in spec.nvml_names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "nvml_name",
    [
        "",
        "NVIDIA",
        "NVIDIA H100",
        "H100 80GB",
        "NVIDIA H100 80GB HBM2e",
        "NVIDIA H100 64GB HBM2",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "NVIDIA A100-SXM-64GB",
        "NVIDIA A100X",
        "NVIDIA A800-SXM4-80GB",
        "GRID A100-40C",
        "NVIDIA H200 NVL",
        "NVIDIA H20",
        "NVIDIA H800 PCIe",
        "NVIDIA GH200 480GB",
        "NVIDIA GH200 144G HBM3e",
        "NVIDIA B100",
        "NVIDIA B300",
        "NVIDIA GB300",
        "NVIDIA L40",
        "NVIDIA L400",
        "NVIDIA L2",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "Tesla V100-SXM3-32GB",
        "Tesla V100-PCIE-16GB",
        "Tesla V100-SXM2-32GB-LS",
        "Tesla T4",
        "AMD Instinct MI300X",
    ],
)
def test_near_misses_get_no_spec(nvml_name: str) -> None:
    assert find(nvml_name) is None


@pytest.mark.parametrize(
    ("nvml_name", "dtype", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", 989.4e12),
        ("NVIDIA H100 80GB HBM3", "fp16", 989.4e12),
        ("NVIDIA H100 80GB HBM3", "tf32", 494.7e12),
        ("NVIDIA H100 80GB HBM3", "fp32", 66.9e12),
        ("NVIDIA H100 80GB HBM3", "fp8_e4m3", 1978.9e12),
        ("NVIDIA H100 80GB HBM3", "fp8_e5m2", 1978.9e12),
        ("NVIDIA H100 80GB HBM3", "int8", 1978.9e12),
        ("NVIDIA H200", "bf16", 989.4e12),
        ("NVIDIA A100-SXM4-80GB", "bf16", 312e12),
        ("NVIDIA A100-SXM4-80GB", "fp8_e4m3", None),
        ("NVIDIA A100-SXM4-80GB", "int8", 624e12),
        ("Tesla V100-SXM2-16GB", "fp16", 125e12),
        ("Tesla V100-SXM2-16GB", "bf16", None),
        ("Tesla V100-SXM2-16GB", "tf32", None),
        ("NVIDIA L4", "bf16", 121e12),
        ("NVIDIA B200", "fp8_e4m3", 4500e12),
        ("NVIDIA GeForce RTX 4090", "bf16", 165e12),
        ("NVIDIA L4", "fp64", None),
    ],
)
def test_dense_peaks(nvml_name: str, dtype: str, peak: float | None) -> None:
    spec = find(nvml_name)
    assert spec is not None
    assert spec.peak_flop_per_s(dtype) == (None if peak is None else pytest.approx(peak, rel=1e-12))


def test_peak_at_an_observed_clock() -> None:
    h100, a100 = find("NVIDIA H100 80GB HBM3"), find("NVIDIA A100-SXM4-40GB")
    assert h100 is not None
    assert a100 is not None
    assert h100.peak_at_clock("bf16", 1.83e9) == pytest.approx(989.4e12, rel=1e-4)
    assert h100.peak_at_clock("bf16", 1.98e9) == 132 * 4096 * 1.98e9
    assert h100.peak_at_clock("fp8_e4m3", 1.2e9) == 132 * 8192 * 1.2e9
    assert h100.peak_at_clock("fp32", 1.98e9) == pytest.approx(66.9e12, rel=1e-3)
    assert a100.peak_at_clock("bf16", 1.41e9) == pytest.approx(312e12, rel=1e-3)
    assert a100.peak_at_clock("fp8_e4m3", 1.41e9) is None


@pytest.mark.parametrize("spec", specs(), ids=lambda spec: spec.name)
def test_figures_agree_with_each_other(spec) -> None:  # type: ignore[no-untyped-def]
    assert set(spec.peak) == set(spec.flop_per_clock_per_sm)
    clocks = {d: spec.peak[d] / (spec.sm_count * spec.flop_per_clock_per_sm[d]) for d in spec.peak}
    tensor = [clock for dtype, clock in clocks.items() if dtype != "fp32"]
    assert max(tensor) / min(tensor) < 1.02, "one tensor clock explains all tensor peaks"
    if spec.max_clock_hz is not None:
        assert max(clocks.values()) <= 1.01 * spec.max_clock_hz
        assert clocks["fp32"] == pytest.approx(spec.max_clock_hz, rel=0.01)
    assert min(clocks.values()) > 0.8e9
    assert 70 <= spec.tdp_w <= 1200
    assert 3e11 <= spec.mem_bytes_per_s <= 8e12
    assert spec.source


def test_confidence_is_told() -> None:
    told = {spec.name: spec.confidence for spec in specs()}
    assert told["H100-SXM5-80GB"] == told["A100-SXM4-80GB"] == told["L4-24GB"] == "checked"
    unverified = {name for name, confidence in told.items() if confidence == "unverified"}
    assert unverified == {
        "H100-PCIe-80GB",
        "H100-NVL-94GB",
        "H800-SXM5-80GB",
        "B200-SXM6-180GB",
        "GB200-186GB",
        "L40S-48GB",
        "RTX-4090-24GB",
    }
