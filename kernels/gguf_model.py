"""From a GGUF file to a model of transformers: its config, its weights by their names there, its tokenizer.

llama.cpp's converter renames tensors and stacks experts, and for Llama it interleaves the rows of queries
and keys, because its rotary embedding turns neighbours where transformers' turns halves. All of that is
taken back here. What a file says and is not known here is refused: a setting passed over makes a
model subtly wrong. (transformers' own reader passes over the widths of heads and experts, and rotary
scaling; its tokenizers are taken as they are.)

Quantised weights are dequantised to bfloat16, for serving and training alike. It rounds a weight by at most
2^-9 of itself, while Q8_0, the finest of these types, is off by up to 2^-8 of a block's largest.
Left out: architectures that are not in `FAMILIES`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import pi
from pathlib import Path
from typing import Any

import torch
from burnish.kernels.gguf_file import GgufFile, GgufTensor
from torch import Tensor
from transformers import AutoConfig, PreTrainedTokenizerFast

# A file's settings, after the name of its architecture -> names in transformers' configs.
SETTINGS = {
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
}
ROPE = {
    "rope.freq_base": "rope_theta",
    "rope.scaling.type": "rope_type",
    "rope.scaling.factor": "factor",
    "rope.scaling.original_context_length": "original_max_position_embeddings",
    "rope.scaling.yarn_beta_fast": "beta_fast",
    "rope.scaling.yarn_beta_slow": "beta_slow",
}
ROPE_TYPES = {"none": "default", "linear": "linear", "yarn": "yarn"}
LLAMA3 = {"low_freq_factor": 1, "high_freq_factor": 4, "original_max_position_embeddings": 8192}
WITHOUT_EFFECT = {"vocab_size", "rope.scaling.finetuned"}

# Tensors -> parameters of transformers; a layer's are named `blk.N.` and `model.layers.N.` before it.
WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
}
TENSOR = re.compile(r"(?:blk\.(?P<layer>\d+)\.)?(?P<stem>\w+)\.(?P<kind>weight|bias)")
GATES, GATED, DOWN = (f"ffn_{name}_exps" for name in ("gate", "up", "down"))  # of all experts
FACTORS = "rope_freqs.weight"

# How byte-level vocabularies cut text before merging, beside those that transformers knows.
LIKE_GPT2 = {"gpt-2", "olmo", "mpt"}
LIKE_GPT2_BUT_DIGITS = {"smollm", "starcoder", "refact"}  # each digit alone

# Control tokens that end an answer whatever else a file names, as llama.cpp has it.
ENDS = {"<|eot_id|>", "<|eom_id|>", "<|im_end|>", "<|end|>", "<|end_of_text|>", "<|endoftext|>"}
CONTROL = 3  # a token's type


@dataclass(frozen=True)
class Family:
    """What an architecture of llama.cpp is in transformers."""

    model_type: str
    interleaved: bool = False  # rows of queries and keys
    settings: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)  # written into llama.cpp's code


EXPERTS = {"expert_count": "num_experts", "expert_used_count": "num_experts_per_tok"}
FAMILIES = {
    "llama": Family("llama", interleaved=True),
    "llama with experts": Family(
        "mixtral", interleaved=True, settings=EXPERTS | {"expert_count": "num_local_experts"}
    ),
    "qwen2": Family("qwen2"),
    "qwen3": Family("qwen3"),
    "qwen3moe": Family(
        "qwen3_moe",
        settings=EXPERTS | {"expert_feed_forward_length": "moe_intermediate_size"},
        fixed={"norm_topk_prob": True},
    ),
    "olmoe": Family("olmoe", settings=EXPERTS, fixed={"norm_topk_prob": False}),
}


@dataclass(frozen=True)
class Weight:
    """A parameter as transformers has it, read from the file when the loader asks for it."""

    parts: tuple[GgufTensor, ...]
    heads: int = 0  # whose rows are interleaved

    def __getitem__(self, _: Any) -> Tensor:
        found = [part.read() for part in self.parts]
        whole = torch.cat(found, dim=1) if found[1:] else found[0]
        if not self.heads:
            return whole
        pairs = whole.unflatten(0, (self.heads, -1, 2))
        return pairs.transpose(1, 2).reshape(whole.shape)


def config_of(file: GgufFile) -> Any:
    """transformers' config. ValueError with the reason where a file says what is not known here."""
    family, told = _told(file)
    names = SETTINGS | family.settings
    told.setdefault("attention.head_count_kv", told.get("attention.head_count"))
    values = {}
    for key, name in names.items():
        values[name] = told.pop(key, None)
        if not isinstance(values[name], int | float) or values[name] <= 0:
            raise ValueError(f"its setting {key} is {values[name]}, and a number above 0 is wanted")
    head = told.get("attention.key_length", values["hidden_size"] // values["num_attention_heads"])
    rope = _rope(told, head, file.tensors.get(FACTORS))
    _check_rest(told, head)
    if (embeddings := file.tensors.get("token_embd.weight")) is None:
        raise ValueError("it lacks the tensor token_embd.weight")
    return AutoConfig.for_model(
        family.model_type,
        **values,
        **family.fixed,
        head_dim=head,
        vocab_size=embeddings.shape[0],
        rope_parameters=rope,
        attention_bias="blk.0.attn_q.bias" in file.tensors,
        tie_word_embeddings="output.weight" not in file.tensors,
        dtype=file.dtype or torch.bfloat16,
        bos_token_id=file.metadata.get("tokenizer.ggml.bos_token_id"),
        pad_token_id=file.metadata.get("tokenizer.ggml.padding_token_id"),
        eos_token_id=_ends(file.metadata),
    )


def _told(file: GgufFile) -> tuple[Family, dict[str, Any]]:
    """A file's family, and the settings of its architecture."""
    name = file.metadata.get("general.architecture")
    told = {
        key.removeprefix(f"{name}."): value
        for key, value in file.metadata.items()
        if key.startswith(f"{name}.")
    }
    if name == "llama" and told.get("expert_count"):
        name = "llama with experts"
    if name not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise ValueError(
            f"GGUF files of the architecture {name} are not read, only of {known}; take the model"
            " as a folder of safetensors"
        )
    return FAMILIES[name], told


def _rope(told: dict[str, Any], head: int, factors: GgufTensor | None) -> dict[str, Any]:
    """transformers' rope_parameters; what they say is taken out of `told`."""
    rope = {name: told.pop(key) for key, name in ROPE.items() if key in told}
    rope.setdefault("rope_theta", 10_000.0)
    kind = rope.pop("rope_type", "none")
    if kind not in ROPE_TYPES:
        raise ValueError(f"its rotary embedding is scaled by {kind}, which is unknown here")
    if factors is None:
        return rope | {"rope_type": ROPE_TYPES[kind]}
    # Llama 3's scaling is stored as what it does to each frequency.
    divisors = factors.read().flatten()
    factor, reach = float(divisors.max()), LLAMA3["original_max_position_embeddings"]
    low, high = LLAMA3["low_freq_factor"], LLAMA3["high_freq_factor"]
    wavelengths = 2 * pi * rope["rope_theta"] ** (torch.arange(0, head, 2) / head)
    kept = ((reach / wavelengths - low) / (high - low)).clamp(0, 1)
    expected = 1 / ((1 - kept) / factor + kept)
    same = divisors.shape == expected.shape and torch.allclose(divisors, expected, rtol=1e-3)
    if kind != "none" or not same:
        raise ValueError(f"its {FACTORS} are not those of Llama 3, and others are unknown here")
    return rope | LLAMA3 | {"rope_type": "llama3", "factor": factor}


def _check_rest(told: dict[str, Any], head: int) -> None:
    """ValueError for a setting that transformers' model would not follow."""
    followed = {
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.dimension_count": head,
        "rope.scaling.attn_factor": 1,
        "attention.causal": True,
        "attention.sliding_window": 0,
        "expert_count": 0,
        "expert_used_count": 0,
    }
    for key, value in sorted(told.items()):
        if key not in WITHOUT_EFFECT and (key not in followed or followed[key] != value):
            raise ValueError(
                f"its setting {key} = {value} is unknown here; take the model as a folder of safetensors"
            )


def state_dict(file: GgufFile, config: Any) -> dict[str, Any]:
    """`Weight`s by transformers' names. ValueError for a tensor that has no place in the model."""
    return dict(_weights(file, config))


def _weights(file: GgufFile, config: Any) -> Iterator[tuple[str, Weight]]:
    rows = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    heads = rows if _told(file)[0].interleaved else {}
    for name, tensor in file.tensors.items():
        found = TENSOR.fullmatch(name)
        layer, stem, kind = found.group("layer", "stem", "kind") if found else (None, name, "")
        experts = f"model.layers.{layer}.mlp.experts."
        if name == FACTORS or stem == GATED:
            continue  # part of the config; read with its gates
        elif stem == GATES and (gated := file.tensors.get(name.replace(GATES, GATED))):
            yield f"{experts}gate_up_proj", Weight((tensor, gated))
        elif stem == DOWN:
            yield f"{experts}down_proj", Weight((tensor,))
        elif layer is None and stem in WHOLE:
            yield f"{WHOLE[stem]}.{kind}", Weight((tensor,))
        elif layer is not None and stem in LAYER:
            parameter = f"model.layers.{layer}.{LAYER[stem]}.{kind}"
            yield parameter, Weight((tensor,), heads.get(stem, 0))
        else:
            raise ValueError(
                f"its tensor {name} has no place in a model of type {config.model_type}"
            )


def tokenizer_of(path: Path, metadata: dict[str, Any]) -> Any:
    """transformers' tokenizer, with the file's chat template. ValueError if it has none that is known."""
    from tokenizers import pre_tokenizers
    from transformers.integrations.gguf.gguf_tokenizer_mapping import (
        GGUF_PRE_TOKENIZER_SPLITS,
        convert_gguf_tokenizer,
        get_gguf_tokenizer,
    )

    kind, cut = (metadata.get(f"tokenizer.ggml.{key}") for key in ("model", "pre"))
    if "tokenizer.ggml.tokens" not in metadata:
        raise ValueError("it has no tokenizer")
    if kind == "gpt2" and cut not in LIKE_GPT2 | LIKE_GPT2_BUT_DIGITS | set(
        GGUF_PRE_TOKENIZER_SPLITS
    ):
        raise ValueError(f"its tokenizer cuts text the way of {cut}, which is unknown here")
    architecture, described, settings = get_gguf_tokenizer(str(path))
    core, _ = convert_gguf_tokenizer(architecture, described)
    if kind == "gpt2" and cut in LIKE_GPT2_BUT_DIGITS:
        digits = pre_tokenizers.Digits(individual_digits=True)
        core.pre_tokenizer = pre_tokenizers.Sequence([digits, core.pre_tokenizer])
    return PreTrainedTokenizerFast(tokenizer_object=core, **settings)


def _ends(metadata: dict[str, Any]) -> list[int]:
    """Tokens that end an answer: those the file names, and those of `ENDS`."""
    named = {metadata.get(f"tokenizer.ggml.{end}_token_id") for end in ("eos", "eot", "eom")}
    tokens = metadata.get("tokenizer.ggml.tokens", ())
    types = metadata.get("tokenizer.ggml.token_type", ())
    known = {
        number
        for number, (text, kind) in enumerate(zip(tokens, types, strict=False))
        if kind == CONTROL and text in ENDS
    }
    return sorted(known | {number for number in named if number is not None})
