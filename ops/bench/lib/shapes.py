"""Random-weight models for speed benchmarks: shapes S and M, and building one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from burnish.ops.settings import EMBER
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

# S fits a CPU's caches, M does not.
SHAPES: dict[str, dict[str, Any]] = {
    "S": {
        "vocab_size": 4096,
        "hidden_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "num_experts": 16,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 256,
    },
    "M": {
        "vocab_size": 16384,
        "hidden_size": 512,
        "num_hidden_layers": 10,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "num_experts": 32,
        "num_experts_per_tok": 4,
        "moe_intermediate_size": 384,
    },
}


def build(shape: str, folder: Path) -> Path:
    """Write a random model in bfloat16 with ember's tokenizer; the same weights every time.

    The tokenizer is padded with invented words, so that every token decodes to text.
    """
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        **SHAPES[shape], max_position_embeddings=2048, tie_word_embeddings=False
    )
    model: Any = Qwen3MoeForCausalLM(config)
    model = model.to(torch.bfloat16)
    model.save_pretrained(folder)
    for file in (*EMBER.glob("*token*"), EMBER / "chat_template.jinja"):
        shutil.copy(file, folder)
    _pad_vocabulary(folder / "tokenizer.json", config.vocab_size)
    return folder


def _pad_vocabulary(tokenizer: Path, size: int) -> None:
    """Pad a byte-level tokenizer's vocabulary to `size` ids with words that no text encodes to."""
    content = json.loads(tokenizer.read_text())
    vocab = content["model"]["vocab"]
    vocab.update({f"\u0120w{token}": token for token in range(len(vocab), size)})
    tokenizer.write_text(json.dumps(content))
