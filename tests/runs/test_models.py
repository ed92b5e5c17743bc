"""Model files, overrides and the Hugging Face reader, held against published sizes."""

import json
from pathlib import Path

import pytest

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

LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "num_hidden_layers": 32,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "tie_word_embeddings": False,
}

GPT2 = {
    "model_type": "gpt2",
    "n_embd": 768,
    "n_head": 12,
    "n_layer": 12,
    "n_inner": None,
    "n_positions": 1024,
    "vocab_size": 50257,
}


def hf(tmp_path: Path, config: dict, name: str = "config.json") -> Path:
    path = tmp_path / name
    path.write_text(json.dumps(config))
    return path


def message(error: pytest.ExceptionInfo[SuiteError]) -> str:
    text = str(error.value)
    assert text.isprintable()
    assert len(text) <= 500
    return text


def test_shipped_models() -> None:
    assert list_models() == (
        "gpt-3-175b",
        "llama-2-70b",
        "llama-2-7b",
        "llama-3.1-405b",
        "llama-3.1-70b",
        "llama-3.1-8b",
    )
    for name in list_models():
        model = load_model(name)
        assert model.name == name
        assert "https://arxiv.org/abs/" in model.source
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
    assert "unknown model 'llama-9': choose one of gpt-3-175b, " in message(error)
    assert "config.json" in message(error)


def test_hf_llama_equals_the_shipped_file(tmp_path: Path) -> None:
    folder = tmp_path / "Llama-3.1-8B"
    folder.mkdir()
    model = load_model(hf(folder, LLAMA))
    shipped = load_model("llama-3.1-8b")
    assert model.name == "Llama-3.1-8B"
    assert (model.head_dim, model.seq, model.tensor_parallel) == (128, 8192, 1)
    assert linear_parameters(model) == linear_parameters(shipped)
    assert load_model(hf(folder, LLAMA)).with_(tensor_parallel=8).kv_heads_per_rank == 1


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(
            {
                "model_type": "mistral",
                "hidden_size": 5120,
                "intermediate_size": 14336,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "num_hidden_layers": 40,
                "vocab_size": 131072,
                "max_position_embeddings": 1024000,
            },
            {"head_dim": 128, "num_kv_heads": 8, "gated_mlp": True, "tied_embeddings": False, "seq": 8192},
            id="mistral-nemo",
        ),
        pytest.param(
            {
                "model_type": "qwen2",
                "hidden_size": 896,
                "intermediate_size": 4864,
                "num_attention_heads": 14,
                "num_key_value_heads": 2,
                "num_hidden_layers": 24,
                "vocab_size": 151936,
                "max_position_embeddings": 32768,
                "tie_word_embeddings": True,
            },
            {"head_dim": 64, "num_kv_heads": 2, "gated_mlp": True, "tied_embeddings": True, "seq": 8192},
            id="qwen2-0.5b",
        ),
        pytest.param(
            {
                "model_type": "qwen3",
                "hidden_size": 1024,
                "intermediate_size": 3072,
                "num_attention_heads": 16,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "num_hidden_layers": 28,
                "vocab_size": 151936,
                "max_position_embeddings": 40960,
                "tie_word_embeddings": True,
            },
            {"head_dim": 128, "num_heads": 16, "num_kv_heads": 8, "seq": 8192},
            id="qwen3-0.6b",
        ),
        pytest.param(
            {
                "model_type": "gpt2",
                "n_embd": 768,
                "n_head": 12,
                "n_layer": 12,
                "n_positions": 1024,
                "vocab_size": 50257,
            },
            {
                "hidden_size": 768,
                "intermediate_size": 3072,
                "num_kv_heads": 12,
                "head_dim": 64,
                "gated_mlp": False,
                "seq": 1024,
            },
            id="gpt2",
        ),
        pytest.param(
            GPT2 | {"n_inner": 2048},
            {"intermediate_size": 2048, "tied_embeddings": True},
            id="gpt2-n_inner",
        ),
        pytest.param(
            {
                "model_type": "gpt_neox",
                "hidden_size": 6144,
                "intermediate_size": 24576,
                "num_attention_heads": 64,
                "num_hidden_layers": 44,
                "vocab_size": 50432,
                "max_position_embeddings": 2048,
                "tie_word_embeddings": False,
            },
            {"head_dim": 96, "num_kv_heads": 64, "gated_mlp": False, "tied_embeddings": False, "seq": 2048},
            id="gpt-neox-20b",
        ),
        pytest.param(
            {
                "model_type": "opt",
                "hidden_size": 4096,
                "ffn_dim": 16384,
                "num_attention_heads": 32,
                "num_hidden_layers": 32,
                "vocab_size": 50272,
                "max_position_embeddings": 2048,
                "word_embed_proj_dim": 4096,
            },
            {"intermediate_size": 16384, "num_kv_heads": 32, "gated_mlp": False, "tied_embeddings": True, "seq": 2048},
            id="opt-6.7b",
        ),
        pytest.param(
            {
                "model_type": "gemma2",
                "hidden_size": 2304,
                "intermediate_size": 9216,
                "num_attention_heads": 8,
                "num_key_value_heads": 4,
                "head_dim": 256,
                "num_hidden_layers": 26,
                "vocab_size": 256000,
                "max_position_embeddings": 8192,
            },
            {
                "head_dim": 256,
                "num_heads": 8,
                "num_kv_heads": 4,
                "gated_mlp": True,
                "tied_embeddings": True,
                "seq": 8192,
            },
            id="gemma-2-2b",
        ),
    ],
)
def test_hf_architectures(tmp_path: Path, config: dict, expected: dict) -> None:
    model = from_hf_config(hf(tmp_path, config))
    assert {key: getattr(model, key) for key in expected} == expected
    assert (model.micro_batch, model.tensor_parallel) == (1, 1)


def test_hf_training_shape_and_names(tmp_path: Path) -> None:
    model = from_hf_config(hf(tmp_path, LLAMA), seq=2048, micro_batch=2, tensor_parallel=4)
    assert (model.seq, model.micro_batch, model.tensor_parallel) == (2048, 2, 4)
    assert from_hf_config(hf(tmp_path, LLAMA, "own.json")).name == "own"
    assert from_hf_config(hf(tmp_path, LLAMA | {"_name_or_path": "meta-llama/X-8B"})).name == "X-8B"
    without_kv = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    assert from_hf_config(hf(tmp_path, without_kv)).num_kv_heads == 32
    assert from_hf_config(hf(tmp_path, LLAMA | {"head_dim": None})).head_dim == 128


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"hidden_size": None}, "missing key 'hidden_size': add it"),
        ({"vocab_size": "many"}, "key 'vocab_size' is 'many': give a positive integer"),
        ({"vocab_size": True}, "key 'vocab_size' is True"),
        ({"num_hidden_layers": 0}, "key 'num_hidden_layers' is 0"),
        ({"num_hidden_layers": 32.0}, "key 'num_hidden_layers' is 32.0"),
        ({"max_position_embeddings": None}, "missing key 'max_position_embeddings'"),
        ({"hidden_size": 4097}, "key 'hidden_size' = 4097 is no multiple of 'num_attention_heads' = 32"),
        ({"tie_word_embeddings": "no"}, "key 'tie_word_embeddings' is 'no': give true or false"),
        ({"num_key_value_heads": 5}, "num_kv_heads = 5 does not divide num_heads = 32"),
        ({"model_type": None}, "missing key 'model_type': add it, one of llama, mistral"),
        ({"model_type": "bert"}, "model_type 'bert' is not supported: write a .toml model file, or use one of llama"),
        ({"model_type": "mixtral", "num_local_experts": 8}, "key 'num_local_experts' makes it a mixture of experts"),
        (
            {"model_type": "deepseek_v3", "n_routed_experts": 256},
            "key 'n_routed_experts' makes it a mixture of experts",
        ),
        ({"model_type": "gemma3", "text_config": {}}, "key 'text_config' makes it a multimodal model"),
        ({"model_type": "mistral", "num_key_value_heads": None}, "missing key 'num_key_value_heads'"),
        ({"model_type": "gemma"}, "missing key 'head_dim'"),
        ({"model_type": "opt", "ffn_dim": 1, "word_embed_proj_dim": 512}, "key 'word_embed_proj_dim' differs"),
        ({"hidden_size": 2**30}, "key hidden_size: Expected 'int' <= 16777216"),
    ],
)
def test_hf_refusals(tmp_path: Path, changes: dict, expected: str) -> None:
    path = hf(tmp_path, LLAMA | changes)
    with pytest.raises(SuiteError) as error:
        from_hf_config(path)
    assert message(error).startswith(f"{path}: ")
    assert expected in message(error)
