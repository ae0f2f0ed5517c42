"""Converts a Llama or Qwen3-MoE folder to a GGUF file for llama.cpp, without a vocabulary."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig

FORMATS = ("bf16", "q8_0", "q4_0")
ARCHITECTURES = {"llama": "llama", "qwen3_moe": "qwen3moe"}  # by transformers' model_type
EXPERTS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
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
    **{f"mlp.{old}.weight": f"ffn_{new}.weight" for old, new in EXPERTS.items()},
}
WHOLE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",  # absent where embeddings are tied
}


def write_gguf(folder: Path, weights: str) -> Path:
    """Write `folder/<weights>.gguf` with matrices in one of FORMATS; norms and routers stay float32.

    A file that is there already is kept.
    """
    gguf: Any = importlib.import_module("gguf")

    path = folder / f"{weights}.gguf"
    if path.is_file():
        return path
    config: Any = AutoConfig.from_pretrained(folder)
    unfinished = path.with_suffix(".unfinished")
    writer = gguf.GGUFWriter(unfinished, ARCHITECTURES[config.model_type])
    _describe(writer, config)
    kind = gguf.GGMLQuantizationType[weights.upper()]
    for name, tensor in _tensors(folder, config):
        data = tensor.float().numpy()
        if tensor.ndim == 1 or "ffn_gate_inp" in name:
            writer.add_tensor(name, np.ascontiguousarray(data))
        else:
            writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return unfinished.replace(path)


def _describe(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if config.model_type == "qwen3_moe":
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("no_vocab")


def _tensors(folder: Path, config: Any) -> Iterator[tuple[str, Tensor]]:
    """GGUF's name and the tensor as llama.cpp wants it, one after the other."""
    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as stored:
        names = set(stored.keys())
        for name, new in WHOLE.items():
            if name in names:
                yield new, stored.get_tensor(name)
        for layer in range(config.num_hidden_layers):
            prefix = f"model.layers.{layer}."
            for old, new in NAMES.items():
                if prefix + old in names:
                    yield f"blk.{layer}.{new}", _arranged(stored, prefix + old, config)
            if config.model_type != "qwen3_moe":
                continue
            for old, new in EXPERTS.items():
                each = (
                    stored.get_tensor(f"{prefix}mlp.experts.{expert}.{old}.weight")
                    for expert in range(config.num_experts)
                )
                yield f"blk.{layer}.ffn_{new}_exps.weight", torch.stack([*each])


def _arranged(stored: Any, name: str, config: Any) -> Tensor:
    """llama.cpp's `llama` rotates neighbouring dimensions, transformers the halves of a head."""
    tensor = stored.get_tensor(name)
    if config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        return (
            tensor.view(-1, 2, config.head_dim // 2, tensor.shape[1])
            .transpose(1, 2)
            .reshape(tensor.shape)
        )
    return tensor
