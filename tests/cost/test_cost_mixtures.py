"""Mixtures of experts from a Hugging Face config.json, as the dense model of their active parameters."""

import json
from pathlib import Path

import pytest

from flopwatt.analysis.cost.architecture import load
from flopwatt.errors import SuiteError

MIXTRAL = {
    "model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "num_hidden_layers": 32, "vocab_size": 32000, "max_position_embeddings": 32768,
    "num_local_experts": 8, "num_experts_per_tok": 2, "tie_word_embeddings": False, "_name_or_path": "mixtral-8x7b",
}  # fmt: skip


def written(folder: Path, **changes: object) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(MIXTRAL | changes))
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


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"num_experts_per_tok": 9}, "'num_experts_per_tok' = 9 exceeds 'num_local_experts' = 8"),
        ({"num_experts_per_tok": None}, "key 'num_experts_per_tok' is None: give a positive integer"),
        ({"num_local_experts": -8}, "key 'num_local_experts' is -8"),
        ({"shared_expert_intermediate_size": "x"}, "key 'shared_expert_intermediate_size' is 'x'"),
        ({"num_attention_heads": 0}, "'num_attention_heads'"),
        ({"model_type": "unheard-of"}, "is not supported|makes it a mixture"),
    ],
)
def test_what_cannot_be_read(change: dict[str, object], reason: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=reason):
        load(written(tmp_path, **change))


def test_a_dense_config_is_no_mixture(tmp_path: Path) -> None:
    dense = {"model_type": "llama", "num_local_experts": None, "num_experts_per_tok": None}
    assert load(written(tmp_path, **dense)).approximation is None
