"""Mixtures of experts from a Hugging Face config.json, as the dense model of their active parameters."""

import json
from pathlib import Path

import msgspec
import pytest

from flopwatt.analysis.cost.architecture import load
from flopwatt.errors import SuiteError

MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 32000, "max_position_embeddings": 32768,
    "num_local_experts": 8, "num_experts_per_tok": 2, "tie_word_embeddings": False, "_name_or_path": "mixtral-8x7b",
}  # fmt: skip


DEEPSEEK = {
    "model_type": "deepseek_v3", "hidden_size": 7168, "intermediate_size": 18432, "num_attention_heads": 128,
    "num_key_value_heads": 128, "num_hidden_layers": 61, "vocab_size": 129280, "max_position_embeddings": 163840,
    "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 2048,
    "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64, "v_head_dim": 128, "tie_word_embeddings": False,
}  # fmt: skip
"""What matters of https://huggingface.co/deepseek-ai/DeepSeek-V3/blob/main/config.json."""


def written(folder: Path, base: dict[str, object] = MIXTRAL, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(base | changes))
    return path


def test_mixtral_has_its_published_parameters(tmp_path: Path) -> None:
    found = load(written(tmp_path))
    assert found.name == "mixtral-8x7b"
    assert found.total_parameters / 1e9 == pytest.approx(46.7, rel=0.002)
    assert found.active_parameters / 1e9 == pytest.approx(12.9, rel=0.005)
    assert found.approximation is not None


def test_a_shared_expert_counts_too(tmp_path: Path) -> None:
    sizes = {"model_type": "qwen2_moe", "num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408}
    found = load(written(tmp_path, **sizes, shared_expert_intermediate_size=5632))
    assert found.model.intermediate_size == 4 * 1408 + 5632


def test_deepseeks_own_config_is_the_shipped_file(tmp_path: Path) -> None:
    found, shipped = load(written(tmp_path, base=DEEPSEEK)), load("deepseek-v3")
    named = {"name": "deepseek-v3", "source": shipped.model.source, "seq": 4096}
    assert msgspec.structs.replace(found.model, **named) == shipped.model
    assert found.total_parameters == pytest.approx(shipped.total_parameters, rel=1e-3)
    assert found.approximation == shipped.approximation


def test_latent_attention_without_a_rank_of_its_own_for_queries(tmp_path: Path) -> None:
    sizes = {"hidden_size": 2048, "num_attention_heads": 16, "q_lora_rank": None, "num_hidden_layers": 27}
    experts = {"n_routed_experts": 64, "num_experts_per_tok": 6, "n_shared_experts": 2, "moe_intermediate_size": 1408}
    words = {"model_type": "deepseek_v2", "vocab_size": 102400, "first_k_dense_replace": 1}
    found = load(written(tmp_path, base=DEEPSEEK, **sizes, **experts, **words))
    assert found.total_parameters / 1e9 == pytest.approx(15.7, rel=0.01), "DeepSeek-V2-Lite, arXiv:2405.04434"
    assert found.active_parameters / 1e9 == pytest.approx(2.66, rel=0.05), "2.4 and the input embedding"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_experts_per_tok": 9}, "'num_experts_per_tok' = 9 exceeds 'num_local_experts' = 8"),
        ({"num_experts_per_tok": None}, "key 'num_experts_per_tok' is None: give an integer from 1 to 16777216"),
        ({"num_local_experts": -8}, "key 'num_local_experts' is -8"),
        ({"shared_expert_intermediate_size": "x"}, "key 'shared_expert_intermediate_size' is 'x'"),
        ({"num_attention_heads": 0}, "'num_attention_heads'"),
        ({**DEEPSEEK, "kv_lora_rank": "x"}, "key 'kv_lora_rank' is 'x'"),
        ({**DEEPSEEK, "v_head_dim": 10**30}, "key 'v_head_dim' is 1000"),
        ({"model_type": "unheard-of"}, "is not supported|makes it a mixture"),
    ],
)
def test_what_cannot_be_read(change: dict[str, object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=reason):
        load(written(tmp_path, **change))


def test_a_dense_config_is_no_mixture(tmp_path: Path) -> None:
    dense = {"model_type": "llama", "num_local_experts": None, "num_experts_per_tok": None}
    assert load(written(tmp_path, **dense)).approximation is None
