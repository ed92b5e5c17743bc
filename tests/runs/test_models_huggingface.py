"""The Hugging Face reader, held against the shipped files and published sizes."""

from pathlib import Path

import pytest
from model_files import GPT2, LLAMA, hf, message

from flopwatt.errors import SuiteError
from flopwatt.runs.suites import linear_parameters, load_model
from flopwatt.runs.suites.huggingface import from_hf_config


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
