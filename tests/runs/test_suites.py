"""Shipped suites, suite files of one's own, and shapes from the command line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flopwatt.errors import InputError, SuiteError
from flopwatt.runs.suites import (
    list_models,
    list_suites,
    load_model,
    load_suite,
    parse_shape,
    suite_from_model,
    suite_from_shapes,
)

ADAPTER = """
description = "two GEMMs of an adapter"
tokens = 4096
[[gemm]]
m = 4096
n = 64
k = 2048
layout = "nt"
role = "adapter_down"
phase = "forward"
count = 64
[[gemm]]
m = 4096
n = 2048
k = 64
batch = 3
dtype = "fp16"
out_dtype = "fp32"
"""


def write(tmp_path: Path, text: str, name: str = "mine.toml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def refusal(path: Path, **options: str) -> str:
    with pytest.raises(SuiteError) as error:
        load_suite(path, **options)
    text = str(error.value)
    assert text.startswith(str(path))
    assert text.isprintable()
    assert len(text) <= 500
    return text


def test_shipped_suites() -> None:
    suites = {suite.name: suite for suite in list_suites()}
    assert tuple(suites) == ("calibration", "calibration-check", "peak", "quick", *list_models())
    assert all(suite.description.isprintable() and suite.description for suite in suites.values())
    for name in list_models():
        suite, model = suites[name], load_model(name)
        assert (suite.effort, suite.regimes, suite.model) == ("normal", ("sustained",), name)
        assert (suite.tokens, suite.layers) == (model.tokens, model.num_layers)
        assert len(suite.items) == 15 + 6
        assert len(suite.sequence) == 12


def test_quick_on_a_gpu_and_on_a_cpu() -> None:
    gpu, cpu = load_suite("quick"), load_suite("quick", device_kind="cpu")
    for suite, tokens in ((gpu, 8192), (cpu, 256)):
        assert (suite.effort, suite.regimes, suite.model) == ("fast", ("sustained",), "llama-3.1-8b")
        assert (suite.tokens, suite.layers) == (tokens, 1)
        assert len(suite.items) == len(suite.sequence) == 12
        assert {item.count for item in suite.items} == {1}
        assert suite.headline_flop == 6 * 218_103_808 * tokens
    assert cpu.items[0].problem.shape == "256x6144x4096"
    model = load_suite("llama-3.1-8b")
    assert {item.problem for item in gpu.items} < {item.problem for item in model.items}


def test_peak() -> None:
    suite = load_suite("peak")
    assert [item.problem.shape for item in suite.items] == [
        "4096x4096x4096",
        "8192x8192x8192",
        "16384x16384x16384",
        "2048x2048x13312",
        "1024x9216x14336",
    ]
    assert {item.problem.layout for item in suite.items} == {"nn"}
    assert {item.problem.layout for item in load_suite("peak", dtype="fp8_e4m3").items} == {"nt"}
    assert suite.regimes == ("burst", "sustained")
    assert (suite.headline_flop, suite.tokens, suite.model) == (0, None, None)
    assert max(item.problem.flop for item in load_suite("peak", device_kind="cpu").items) == 2 * 4096**3


def test_dtype_reaches_items_and_sequence() -> None:
    suite = load_suite("quick", dtype="tf32")
    assert {item.problem.dtype for item in (*suite.items, *suite.sequence)} == {"tf32"}


def test_suite_from_an_overridden_model() -> None:
    suite = suite_from_model(load_model("llama-2-70b").with_(seq=2048, micro_batch=4, tensor_parallel=4))
    assert (suite.name, suite.tokens) == ("llama-2-70b", 8192)
    assert suite.description == "llama-2-70b, one training step: 8192 tokens, tensor parallel 4"
    assert suite.items[0].problem.shape == "8192x2560x8192"
    assert suite.items[0].count == 320


def test_own_gemms(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, ADAPTER))
    assert (suite.name, suite.description) == ("mine", "two GEMMs of an adapter")
    assert (suite.effort, suite.regimes, suite.tokens) == (None, ("sustained",), 4096)
    down, up = suite.items
    assert (down.problem.shape, down.problem.layout, down.problem.dtype) == ("4096x64x2048", "nt", "bf16")
    assert (down.role, down.phase, down.count, down.headline) == ("adapter_down", "forward", 64, True)
    assert (up.problem.shape, up.problem.layout, up.problem.dtype) == ("3x4096x2048x64", "nn", "fp16")
    assert (up.problem.out_dtype, up.role, up.phase, up.count) == ("fp32", "gemm", None, 1)
    assert suite.headline_flop == 64 * down.problem.flop + up.problem.flop


def test_dtype_of_the_command_line_yields_to_the_file(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, ADAPTER), dtype="fp32")
    assert [(item.problem.dtype, item.problem.out_dtype) for item in suite.items] == [
        ("fp32", "fp32"),
        ("fp16", "fp32"),
    ]


def test_without_tokens_there_is_no_headline(tmp_path: Path) -> None:
    suite = load_suite(write(tmp_path, ADAPTER.replace("tokens = 4096", "")))
    assert (suite.tokens, suite.headline_flop) == (None, 0)


def test_own_suite_of_a_model(tmp_path: Path) -> None:
    text = """
        name = "two layers"
        model = "llama-3.1-8b"
        seq = 2048
        micro_batch = 2
        tensor_parallel = 4
        layers = 2
        lm_head = false
        attention = false
        sequence = false
        effort = "publish"
        regimes = ["sustained", "burst", "sustained"]
        [cpu]
        micro_batch = 1
        seq = 128
    """
    path = write(tmp_path, text)
    suite = load_suite(path)
    assert (suite.name, suite.model, suite.layers, suite.tokens) == ("two layers", "llama-3.1-8b", 2, 4096)
    assert (suite.effort, suite.regimes, suite.sequence) == ("publish", ("sustained", "burst"), ())
    assert {item.count for item in suite.items} == {8}
    assert suite.headline_flop == 6 * 2 * 218_103_808 * 4096
    assert load_suite(path, device_kind="cpu").tokens == 128


def test_a_model_file_beside_the_suite(tmp_path: Path) -> None:
    shipped = Path(load_model.__code__.co_filename).parent / "models/llama-2-7b.toml"
    write(tmp_path, shipped.read_text().replace("num_layers = 32", "num_layers = 3"), "small.toml")
    suite = load_suite(write(tmp_path, 'model = "small.toml"'))
    assert (suite.model, suite.layers, suite.name) == ("llama-2-7b", 3, "mine")
    assert suite.items[0].count == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "neither 'model' nor any [[gemm]]: add one of them"),
        ("gemm = 3", "key gemm: Expected 'array', got 'int'"),
        ("gemm = []", "neither 'model' nor any [[gemm]]"),
        ("[[gemm]]\nm = 1\nn = 1", "in gemm[0]: missing key 'k': add it"),
        ("[[gemm]]\nm = 1\nn = 1\nk = 0", "key gemm[0].k: Expected 'int' >= 1"),
        ("[[gemm]]\nm = 1\nn = 1\nk = -4", "key gemm[0].k: Expected 'int' >= 1"),
        ("[[gemm]]\nm = 1\nn = 1\nk = 99999999999", "key gemm[0].k: Expected 'int' <= 16777216"),
        ("[[gemm]]\nm = 1\nn = 1\nk = 99999999999999999999999", "key gemm[0].k"),
        ("[[gemm]]\nm = 1.5\nn = 1\nk = 1", "key gemm[0].m: Expected 'int', got 'float'"),
        ("[[gemm]]\nm = 1\nn = 1\nk = 1\nK = 2", "in gemm[0]: unknown key 'K': remove it"),
        ("[[gemm]]\nm = 1\nn = 1\nk = 1\nlayout = 'tt'", "key gemm[0].layout: Invalid enum value 'tt'"),
        ("[[gemm]]\nm = 1\nn = 1\nk = 1\nphase = 'backward'", "key gemm[0].phase: Invalid enum value 'backward'"),
        ("[[gemm]]\nm = 1\nn = 1\nk = 1\ndtype = 'bf17'", "in gemm[0]: unknown dtype 'bf17': choose one of fp32"),
        ("[[gemm]]\nm = 1\nn = 1\nk = 1\nscaling = 'row'", "in gemm[0]: scaling 'row' with bf16"),
        ("[[gemm]]\nm = 1\nn = 1\nk = 1\ncount = 0", "key gemm[0].count: Expected 'int' >= 1"),
        ("[[gemm]]\nm = 16777216\nn = 16777216\nk = 1", "TiB: give a shape that fits"),
        ("modle = 'quick'", "unknown key 'modle': remove it, or use one of name, description, effort"),
        ("model = 'llama-9'", "unknown model 'llama-9': choose one of bloom-176b"),
        ("model = 'llama-2-7b'\n[[gemm]]\nm = 1\nn = 1\nk = 1", "key 'gemm' beside 'model'"),
        ("model = 'llama-2-7b'\ntokens = 3", "key 'tokens' beside 'model'"),
        ("model = 'llama-2-7b'\nlayers = 33", "layers = 33: choose 1 to 32"),
        ("model = 'llama-2-7b'\ntensor_parallel = 5", "num_heads = 32 cannot be split over tensor_parallel = 5"),
        ("model = 'llama-2-7b'\neffort = 'huge'", "key effort: Invalid enum value 'huge'"),
        ("model = 'llama-2-7b'\nregimes = []", "key regimes: Expected 'array' of length >= 1"),
        ("model = 'llama-2-7b'\nregimes = ['fast']", "key regimes[0]: Invalid enum value 'fast'"),
        ("model = 'llama-2-7b'\ncpu = 1", "key cpu: Expected 'object', got 'int'"),
        ("seq = 4\n[[gemm]]\nm = 1\nn = 1\nk = 1", "key 'seq' without 'model'"),
        ("lm_head = false\n[[gemm]]\nm = 1\nn = 1\nk = 1", "key 'lm_head' without 'model'"),
        ("[[gemm]", "not valid TOML"),
        ("a = 1\na = 2", "not valid TOML: Cannot overwrite a value (at end of document)"),
    ],
)
def test_malformed_suite(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refusal(write(tmp_path, text))


def test_malformed_cpu_table(tmp_path: Path) -> None:
    path = write(tmp_path, "model = 'llama-2-7b'\n[cpu]\nsequ = 4")
    assert "with [cpu]: unknown key 'sequ'" in refusal(path, device_kind="cpu")
    path = write(tmp_path, "model = 'llama-2-7b'\n[cpu.cpu]\nseq = 4")
    assert "with [cpu]: unknown key 'cpu'" in refusal(path, device_kind="cpu")


@given(st.text(max_size=60))
def test_any_text_is_a_suite_or_one_line(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("any") / "any.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    assert refusal(path)


def test_unknown_suite_and_dtype() -> None:
    with pytest.raises(
        SuiteError,
        match=r"^unknown suite 'quik': choose one of calibration, calibration-check, peak, quick, bloom-176b, .*\.toml",
    ):
        load_suite("quik")
    with pytest.raises(SuiteError, match=r"nowhere.toml: no such file"):
        load_suite("nowhere.toml")
    for name in ("quick", "peak", "llama-2-7b"):
        with pytest.raises(InputError, match=r"^unknown dtype 'float16': choose one of fp32"):
            load_suite(name, dtype="float16")


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("4096x4096x4096", (1, 4096, 4096, 4096)),
        ("1x2x3", (1, 1, 2, 3)),
        ("32X4096X4096X128", (32, 4096, 4096, 128)),
        ("7×8×9", (1, 7, 8, 9)),
        ("0064x1x1", (1, 64, 1, 1)),
    ],
)
def test_shapes(text: str, sizes: tuple[int, int, int, int]) -> None:
    problem = parse_shape(text)
    assert (problem.batch, problem.m, problem.n, problem.k) == sizes
    assert (problem.dtype, problem.layout) == ("bf16", "nn")


def test_shape_options() -> None:
    assert parse_shape("1x2x3", dtype="fp32", layout="tn").layout == "tn"
    fp8 = parse_shape("16x32x64", dtype="fp8_e4m3")
    assert (fp8.layout, fp8.scaling, fp8.out_dtype) == ("nt", "tensor", "bf16")
    suite = suite_from_shapes(["16x32x64", "2x4x4x4"], dtype="fp16")
    assert [item.problem.shape for item in suite.items] == ["16x32x64", "2x4x4x4"]
    assert [(item.role, item.headline, item.problem.dtype) for item in suite.items] == [("gemm", False, "fp16")] * 2


@pytest.mark.parametrize(
    "text",
    ["", "4096", "4096x4096", "1x2x3x4x5", "1x2x", "axbxc", "1x2x3\n", " 1x2x3", "1,2,3", "1x2x3.0", "1e3x2x3", "²x2x2",
     "9" * 5000 + "x1x1"],
)  # fmt: skip
def test_words_that_are_no_shape(text: str) -> None:
    with pytest.raises(InputError, match=r"^shape '.*': write MxNxK or BATCHxMxNxK with positive integers") as error:
        parse_shape(text)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 200


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0x4x4", "shape '0x4x4': M = 0 is outside 1..16777216"),
        ("4x-4x4", "N = -4 is outside"),
        ("4x4x16777217", "K = 16777217 is outside"),
        ("0x4x4x4", "BATCH = 0 is outside"),
        ("16777216x16777216x1", "TiB: give a shape that fits a GPU's memory"),
    ],
)
def test_sizes_that_no_gemm_has(text: str, expected: str) -> None:
    with pytest.raises(InputError) as error:
        parse_shape(text)
    assert expected in str(error.value)


def test_shape_of_an_unknown_dtype() -> None:
    with pytest.raises(InputError, match="unknown dtype 'half'"):
        parse_shape("4x4x4", dtype="half")
