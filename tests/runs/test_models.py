"""Model files and overrides, held against published sizes."""

from pathlib import Path

import pytest
from model_files import LLAMA, hf, message

from flopwatt.errors import SuiteError
from flopwatt.runs.suites import linear_parameters, list_models, load_model
from flopwatt.runs.suites.huggingface import from_hf_config

PUBLISHED_PARAMETERS = {
    # Totals of the published checkpoints: linear layers, embedding table and RMS norms.
    "llama-2-7b": 6_738_415_616,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
}


def test_shipped_models() -> None:
    assert list_models() == (
        "bloom-176b",
        "gpt-3-175b",
        "llama-13b",
        "llama-2-70b",
        "llama-2-7b",
        "llama-3.1-405b",
        "llama-3.1-70b",
        "llama-3.1-8b",
        "llama-65b",
        "llama-7b",
        "megatron-1.7b",
        "megatron-16b",
        "megatron-177b",
        "megatron-314b",
        "megatron-462b",
        "megatron-7.1b",
        "mpt-70b",
        "mpt-7b",
        "mt-nlg-530b",
    )
    for name in list_models():
        model = load_model(name)
        assert model.name == name
        assert "https://" in model.source
        assert model.micro_batch == 1


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_sizes_add_up_to_the_published_parameter_count(name: str) -> None:
    model = load_model(name).with_(tensor_parallel=1)
    embedding = model.vocab_size * model.hidden_size
    norms = (2 * model.num_layers + 1) * model.hidden_size
    assert linear_parameters(model) + embedding + norms == PUBLISHED_PARAMETERS[name]


def test_gpt3_has_twelve_h_squared_per_layer() -> None:
    model = load_model("gpt-3-175b")
    in_layers = linear_parameters(model) - model.padded_vocab_size * model.hidden_size
    assert in_layers == 12 * 96 * 12288**2
    assert 174.5e9 < in_layers + 50257 * 12288 < 175.0e9


@pytest.mark.parametrize(
    ("name", "seq", "tensor_parallel", "padded"),
    [
        ("gpt-3-175b", 2048, 8, 51200),
        ("llama-2-7b", 4096, 1, 32000),
        ("llama-2-70b", 4096, 8, 32768),
        ("llama-3.1-8b", 8192, 1, 128256),
        ("llama-3.1-70b", 8192, 8, 129024),
        ("llama-3.1-405b", 8192, 8, 129024),
    ],
)
def test_fixed_training_shape_and_padded_vocabulary(name: str, seq: int, tensor_parallel: int, padded: int) -> None:
    model = load_model(name)
    assert (model.seq, model.tensor_parallel, model.tokens) == (seq, tensor_parallel, seq)
    assert model.padded_vocab_size == padded


def test_overrides() -> None:
    model = load_model("llama-3.1-8b").with_(seq=4096, micro_batch=4, tensor_parallel=2)
    assert (model.seq, model.micro_batch, model.tensor_parallel, model.tokens) == (4096, 4, 2, 16384)
    assert model.with_() == model
    assert load_model("llama-3.1-8b").seq == 8192


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seq": 0}, "key seq: Expected 'int' >= 1"),
        ({"seq": -5}, "key seq"),
        ({"micro_batch": 2**25}, "key micro_batch: Expected 'int' <= 16777216"),
        ({"tensor_parallel": 3}, "num_heads = 32 cannot be split over tensor_parallel = 3: choose a divisor"),
        ({"tensor_parallel": 64}, "num_heads = 32 cannot be split"),
    ],
)
def test_impossible_overrides(changes: dict[str, int], expected: str) -> None:
    with pytest.raises(SuiteError) as error:
        load_model("llama-3.1-8b").with_(**changes)
    assert expected in message(error)
    assert message(error).startswith("model llama-3.1-8b: ")


def test_kv_heads_are_split_or_copied() -> None:
    model = load_model("llama-3.1-8b")
    assert [model.with_(tensor_parallel=tp).kv_heads_per_rank for tp in (1, 2, 4, 8, 16, 32)] == [8, 4, 2, 1, 1, 1]


def test_kv_heads_that_fit_no_rank_count(tmp_path: Path) -> None:
    config = LLAMA | {
        "num_attention_heads": 12,
        "num_key_value_heads": 6,
        "hidden_size": 3072,
        "intermediate_size": 4096,
    }
    with pytest.raises(SuiteError) as error:
        from_hf_config(hf(tmp_path, config), tensor_parallel=4)
    assert "num_kv_heads = 6 can be neither split nor copied evenly over tensor_parallel = 4" in message(error)


def test_own_model_file(tmp_path: Path) -> None:
    text = (Path(load_model.__code__.co_filename).parent / "models/llama-3.1-8b.toml").read_text()
    path = tmp_path / "mine.toml"
    path.write_text(text.replace('name = "llama-3.1-8b"', 'name = "mine"').replace("num_layers = 32", "num_layers = 2"))
    model = load_model(path)
    assert (model.name, model.num_layers) == ("mine", 2)
    assert load_model("mine.toml", base=tmp_path) == model


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("num_layers = 32\n", "", "missing key 'num_layers': add it"),
        (
            "num_layers = 32",
            "num_layers = 32\nlayer_count = 3",
            "unknown key 'layer_count': remove it, or use one of name",
        ),
        ("num_layers = 32", 'num_layers = "32"', "key num_layers: Expected 'int', got 'str': correct the value"),
        ("num_layers = 32", "num_layers = 32.0", "key num_layers: Expected 'int', got 'float'"),
        ("num_layers = 32", "num_layers = true", "key num_layers: Expected 'int', got 'bool'"),
        ("num_layers = 32", "num_layers = 0", "key num_layers: Expected 'int' >= 1"),
        ("num_layers = 32", "num_layers = ", "not valid TOML: Invalid value (at line"),
        ("num_kv_heads = 8", "num_kv_heads = 7", "num_kv_heads = 7 does not divide num_heads = 32"),
        ('name = "llama-3.1-8b"', 'name = ""', "key name"),
        ('name = "llama-3.1-8b"', 'name = "a\\nb"', "key name"),
        ("num_layers = 32", 'num_layers = 32\n"a\\nb" = 1', "unknown key 'a\\nb'"),
    ],
)
def test_malformed_model_file(tmp_path: Path, old: str, new: str, expected: str) -> None:
    text = (Path(load_model.__code__.co_filename).parent / "models/llama-3.1-8b.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(SuiteError) as error:
        load_model(path)
    assert message(error).startswith(f"{path}: ")
    assert expected in message(error)


def test_unreadable_model_files(tmp_path: Path) -> None:
    for name, content, expected in [
        ("big.toml", b"#" * (2**20 + 1), "larger than 1 MiB"),
        ("latin.toml", b"name = '\xff'", "not UTF-8 at byte 8"),
        ("deep.toml", b"a = " + b"[" * 100_000, "not valid TOML"),
        ("digits.toml", b"a = " + b"9" * 5000, "not valid TOML"),
        ("deep.json", b"[" * 100_000, "not a JSON object"),
        ("list.json", b"[]", "not a JSON object"),
        ("broken.json", b'{"model_type": ', "not a JSON object"),
    ]:
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(SuiteError) as error:
            load_model(path)
        assert expected in message(error), name
        assert str(path) in message(error)
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(SuiteError, match="not a regular file"):
        load_model(tmp_path / "folder.toml")
    with pytest.raises(SuiteError, match="no such file: check the path"):
        load_model(tmp_path / "absent.toml")
    with pytest.raises(SuiteError, match="cannot be read"):
        load_model("x" * 5000 + ".toml")
    with pytest.raises(SuiteError, match=r"^nul\?byte.toml: "):
        load_model("nul\0byte.toml")


def test_a_file_of_exactly_one_mebibyte_is_read(tmp_path: Path) -> None:
    text = (Path(load_model.__code__.co_filename).parent / "models/llama-3.1-8b.toml").read_bytes()
    path = tmp_path / "padded.toml"
    path.write_bytes(text + b"#" * (2**20 - len(text)))
    assert load_model(path) == load_model("llama-3.1-8b")


def test_unknown_model_names_the_choices() -> None:
    with pytest.raises(SuiteError) as error:
        load_model("llama-9")
    assert "unknown model 'llama-9': choose one of bloom-176b, gpt-3-175b, " in message(error)
    assert "config.json" in message(error)
