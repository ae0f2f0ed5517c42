"""Tiny random GGUF files for tests, as llama.cpp's converter writes them.

Names come from the converter's own table (in the gguf package) and blocks from its quantisers, so what
is read back is compared with something that the package under test did not make.
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as GgmlType
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny_model import build_tiny_model

ARCHITECTURES = {
    "llama": "llama",
    "mixtral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "olmoe": "olmoe",
}
# Where half-precision scales lie in the blocks that the gguf package can read and cannot make.
SCALES = {GgmlType.Q4_K: (0, 2), GgmlType.Q5_K: (0, 2), GgmlType.Q6_K: (208,)}


class TinyGguf:
    """A file, and the folder of a model that holds the numbers in it."""

    def __init__(self, folder: Path, family: str = "llama", kind: str = "Q8_0", **overrides: Any):
        width = 256 if kind.endswith("K") else 64  # whole blocks
        widths: dict[str, Any] = {"hidden_size": width, "intermediate_size": width}
        if family == "qwen3_moe":
            widths |= {"moe_intermediate_size": width, "norm_topk_prob": True}
        self.folder = build_tiny_model(folder / "dequantised", family, **widths, **overrides)
        self.file = folder / "tiny.gguf"
        self.kind = GgmlType[kind]
        self.rng = np.random.default_rng(3)
        model = AutoModelForCausalLM.from_pretrained(self.folder, dtype="float32")
        self.config = model.config
        self.writer = gguf.GGUFWriter(self.file, ARCHITECTURES[family])
        self._settings()
        self._tokenizer()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.uniform_(-1, 1)
                parameter.copy_(torch.from_numpy(self._add(name, parameter.numpy())))
        model.save_pretrained(self.folder)

    def write(self) -> Path:
        """Write what was added; the file."""
        self.writer.write_header_to_file()
        self.writer.write_kv_data_to_file()
        self.writer.write_tensors_to_file()
        self.writer.close()
        return self.file

    def _settings(self) -> None:
        config, writer = self.config, self.writer
        writer.add_context_length(config.max_position_embeddings)
        writer.add_embedding_length(config.hidden_size)
        writer.add_block_count(config.num_hidden_layers)
        writer.add_feed_forward_length(config.intermediate_size)
        writer.add_head_count(config.num_attention_heads)
        writer.add_head_count_kv(config.num_key_value_heads)
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
        writer.add_vocab_size(config.vocab_size)
        if width := getattr(config, "head_dim", None):
            writer.add_key_length(width)
            writer.add_value_length(width)
        if experts := getattr(config, "num_local_experts", getattr(config, "num_experts", 0)):
            writer.add_expert_count(experts)
            writer.add_expert_used_count(config.num_experts_per_tok)
        if width := getattr(config, "moe_intermediate_size", None):
            writer.add_expert_feed_forward_length(width)

    def _tokenizer(self) -> None:
        tokenizer, writer = AutoTokenizer.from_pretrained(self.folder), self.writer
        added = tokenizer.added_tokens_decoder
        kinds = {number: 3 if token.special else 4 for number, token in added.items()}
        merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
        writer.add_token_types([kinds.get(number, 1) for number in range(len(tokenizer))])
        writer.add_token_merges([" ".join(merge) for merge in merges])
        writer.add_eos_token_id(tokenizer.eos_token_id)
        writer.add_pad_token_id(tokenizer.pad_token_id)
        writer.add_chat_template(tokenizer.chat_template)

    def _add(self, name: str, weight: np.ndarray) -> np.ndarray:
        """Add a parameter of transformers' model to the file; what it is once dequantised."""
        read = [self._add_tensor(*named) for named in self._tensors(name, weight)]
        return np.concatenate(read, axis=1) if read[1:] else read[0]

    def _tensors(self, name: str, weight: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
        arch = next(a for a, n in gguf.MODEL_ARCH_NAMES.items() if n == self.writer.arch)
        table = gguf.get_tensor_name_map(arch, self.config.num_hidden_layers)
        stem, suffix = name.removesuffix(".weight").removesuffix(".bias"), Path(name).suffix
        if name.endswith("gate_up_proj"):
            for part, half in zip(("gate", "up"), np.split(weight, 2, axis=1), strict=True):
                called = table.get_name(stem.replace("gate_up", part))
                yield f"{called}.weight", half
        else:
            yield f"{table.get_name(stem)}{'.bias' if suffix == '.bias' else '.weight'}", weight

    def _add_tensor(self, name: str, weight: np.ndarray) -> np.ndarray:
        if weight.ndim == 1 or "ffn_gate_inp" in name:
            self.writer.add_tensor(name, self._interleaved(name, weight).copy())
            return weight
        blocks = self._blocks(np.ascontiguousarray(weight))
        self.writer.add_tensor(name, self._interleaved(name, blocks).copy(), raw_dtype=self.kind)
        read = gguf.quants.dequantize(blocks, self.kind).reshape(weight.shape)
        if self.kind in (GgmlType.F32, GgmlType.F16):
            return read
        return torch.from_numpy(read.copy()).bfloat16().float().numpy()

    def _blocks(self, weight: np.ndarray) -> np.ndarray:
        if self.kind not in SCALES:
            return gguf.quants.quantize(weight, self.kind)
        numbers, size = gguf.GGML_QUANT_SIZES[self.kind]
        blocks = self.rng.integers(0, 256, (weight.size // numbers, size), dtype=np.uint8)
        for at in SCALES[self.kind]:
            blocks[:, at : at + 2] = np.frombuffer(struct.pack("<e", 1e-4), np.uint8)
        return blocks.reshape(*weight.shape[:-1], -1)

    def _interleaved(self, name: str, rows: np.ndarray) -> np.ndarray:
        """`permute` of llama.cpp's converter, for the family that it rotates by neighbours."""
        config = self.config
        heads = {".attn_q.": config.num_attention_heads, ".attn_k.": config.num_key_value_heads}
        count = next((heads[part] for part in heads if part in name), None)
        if count is None or self.writer.arch != "llama":
            return rows
        pairs = rows.reshape(count, 2, rows.shape[0] // count // 2, *rows.shape[1:])
        return pairs.swapaxes(1, 2).reshape(rows.shape)
