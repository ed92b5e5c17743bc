"""Model configurations as Hugging Face writes them, and what tests of model files share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flopwatt.errors import SuiteError

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
