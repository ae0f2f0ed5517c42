"""Converts a Qwen3-MoE folder to a GGUF file for llama.cpp, without a vocabulary."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

NAMES = {
    "input_layernorm.weight": "attn_norm.weight",
    "post_attention_layernorm.weight": "ffn_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight",
    "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight",
    "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight",
    "self_attn.k_norm.weight": "attn_k_norm.weight",
    "mlp.gate.weight": "ffn_gate_inp.weight",
}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}


def write_gguf(folder: Path, weights: str) -> Path:
    """Write `folder/weights.gguf` with matrices as `bf16` or `q8_0`; norms and routers stay float32."""
    gguf: Any = importlib.import_module("gguf")

    config: Any = AutoConfig.from_pretrained(folder)
    path = folder / f"{weights}.gguf"
    writer = gguf.GGUFWriter(path, "qwen3moe")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_expert_count(config.num_experts)
    writer.add_expert_used_count(config.num_experts_per_tok)
    writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")
    kind = {
        "bf16": gguf.GGMLQuantizationType.BF16,
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
    }[weights]
    for name, tensor in _tensors(folder, config.num_hidden_layers):
        data = tensor.float().numpy()
        if tensor.ndim == 1 or "ffn_gate_inp" in name:
            writer.add_tensor(name, np.ascontiguousarray(data))
        else:
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _tensors(folder: Path, layers: int) -> list[tuple[str, torch.Tensor]]:
    stored: dict[str, torch.Tensor] = {}
    for file in folder.glob("*.safetensors"):
        stored.update(load_file(file))
    found = [(gguf, stored[name]) for name, gguf in WHOLE.items()]
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        found += [(f"blk.{layer}.{new}", stored[prefix + old]) for old, new in NAMES.items()]
        for old, new in (("gate_proj", "gate"), ("up_proj", "up"), ("down_proj", "down")):
            experts = sorted(
                (
                    name
                    for name in stored
                    if name.startswith(f"{prefix}mlp.experts.") and old in name
                ),
                key=lambda name: int(name.split(".")[5]),
            )
            stacked = torch.stack([stored[name] for name in experts])
            found.append((f"blk.{layer}.ffn_{new}_exps.weight", stacked))
    return found
