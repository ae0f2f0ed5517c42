"""Random-weight models for speed benchmarks: the shapes S, M, D and L, and building one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from burnish.ops.settings import EMBER
from transformers import AutoConfig, AutoModelForCausalLM

MAX_POSITIONS = 8192

# Fields of the transformers config. S fits a CPU's caches, M does not; D is SmolLM2-135M's shape, L
# that of Granite 3.0 1B-A400M: 1.3 billion weights, of which a token reads 400 million.
SHAPES: dict[str, dict[str, Any]] = {
    "S": {
        "model_type": "qwen3_moe",
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
        "model_type": "qwen3_moe",
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
    "D": {
        "model_type": "llama",
        "vocab_size": 49152,
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "intermediate_size": 1536,
        "tie_word_embeddings": True,
    },
    "L": {
        "model_type": "qwen3_moe",
        "vocab_size": 49155,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_experts": 32,
        "num_experts_per_tok": 8,
        "moe_intermediate_size": 512,
        "tie_word_embeddings": True,
    },
}


def build(shape: str | dict[str, Any], folder: Path) -> Path:
    """Write a random model in bfloat16 with ember's tokenizer; the same weights every time.

    `shape` is a name or the fields themselves. The tokenizer is padded with invented words, so that
    every token decodes to text. A folder that `build` has finished is kept as it is.
    """
    fields = SHAPES[shape] if isinstance(shape, str) else shape
    if (folder / "config.json").is_file():
        return folder
    config = AutoConfig.for_model(
        **{"max_position_embeddings": MAX_POSITIONS, "tie_word_embeddings": False, **fields}
    )
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    torch.manual_seed(0)
    # In bfloat16 from the start: a large one would not fit many memories in float32.
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(unfinished)
    for file in (*EMBER.glob("*token*"), EMBER / "chat_template.jinja"):
        shutil.copy(file, unfinished)
    _pad_vocabulary(unfinished / "tokenizer.json", config.vocab_size)
    return unfinished.replace(folder)  # an empty folder may be there already


def _pad_vocabulary(tokenizer: Path, size: int) -> None:
    """Pad a byte-level tokenizer's vocabulary to `size` ids with words that no text encodes to."""
    content = json.loads(tokenizer.read_text())
    vocab = content["model"]["vocab"]
    vocab.update({f"\u0120w{token}": token for token in range(len(vocab), size)})
    tokenizer.write_text(json.dumps(content))
