"""Which transformers models the native step covers, and the sizes it takes from their configs."""

from __future__ import annotations

from typing import Any

from burnish.kernels.cpu import library as native
from burnish.kernels.cpu.latent import latent_unsupported_reason
from burnish.kernels.cpu.packing import BLOCK
from burnish.kernels.cpu.target import TARGET, WIDTH

# model_type -> whether q_norm and k_norm (where there are any) normalise each head separately
FAMILIES = {
    "qwen3_moe": True,
    "olmoe": False,
    "mixtral": True,
    "qwen3": True,
    "qwen2": True,
    "llama": True,
    "mistral": True,
    "glm4_moe": True,
    "gpt_oss": True,
    "deepseek_v3": True,
    "glm4_moe_lite": True,
    "youtu": True,
}
ROPES = ("default", "linear", "llama3", "yarn")


def unsupported_reason(model: Any) -> str | None:
    """Why the native step cannot run a transformers model; None: it can."""
    if model.device.type != "cpu":
        return "it runs on CPUs only"
    return config_unsupported_reason(model.config)


def config_unsupported_reason(config: Any) -> str | None:
    """The same of a model of this config on a CPU."""
    if config.model_type not in FAMILIES:
        return f"there is no native step for {config.model_type}"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if rope not in ROPES:
        return f"rope type {rope}"
    if config.hidden_act != "silu":
        return f"activation {config.hidden_act}"
    if config.hidden_size % BLOCK:
        return f"hidden size {config.hidden_size} is no multiple of {BLOCK}"
    if latent_width(config):
        if reason := latent_unsupported_reason(config, WIDTH):
            return reason
    elif head_width(config) % WIDTH:
        return f"head width {head_width(config)} is no multiple of {WIDTH}"
    if TARGET is None:
        return "BURNISH_CPU=pytorch"
    if native.library() is None:
        return "no C++ compiler"
    return None


def head_width(config: Any) -> int:
    """Dimensions of one head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def latent_width(config: Any) -> int:
    """Width of the latent that MLA caches, without the rotated key; 0: no MLA."""
    return getattr(config, "kv_lora_rank", None) or 0


def window(config: Any, attention: Any) -> int:
    """Sliding window: positions a token sees, itself included; 0: all."""
    window = getattr(attention, "sliding_window", getattr(config, "sliding_window", None))
    return window or 0
