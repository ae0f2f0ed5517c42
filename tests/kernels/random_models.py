"""Small random models of every family with a native step, and adapters for them."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from burnish.kernels import attention, experts
from burnish.kernels.lora import AdapterWeights, LoraSpec, default_targets, init_adapter
from burnish.kernels.model import LoadedModel
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Glm4MoeConfig,
    Glm4MoeLiteConfig,
    GptOssConfig,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OlmoeConfig,
    Qwen2Config,
    Qwen3Config,
    Qwen3MoeConfig,
    YoutuConfig,
)

DENSE = ["qwen3", "llama", "qwen2", "mistral", "youtu"]
MLA = ["deepseek_v3", "glm4_moe_lite", "youtu"]
MOE = ["qwen3_moe", "olmoe", "mixtral", "glm4_moe", "gpt_oss", "deepseek_v3", "glm4_moe_lite"]
FAMILIES = [*MOE, *DENSE]
NO_TOKENIZER = SimpleNamespace(eos_token_id=0)


def config_of(family: str, hidden: int, heads: tuple[int, int], width: int, **more: Any) -> Any:
    kinds = {
        "glm4_moe": Glm4MoeConfig,
        "gpt_oss": GptOssConfig,
        "qwen3_moe": Qwen3MoeConfig,
        "olmoe": OlmoeConfig,
        "mixtral": MixtralConfig,
        "qwen3": Qwen3Config,
        "llama": LlamaConfig,
        "qwen2": Qwen2Config,  # biases on query, key and value
        "mistral": MistralConfig,
        "deepseek_v3": DeepseekV3Config,
        "glm4_moe_lite": Glm4MoeLiteConfig,
        "youtu": YoutuConfig,  # dense
    }
    if family == "olmoe":  # its heads share the hidden size
        width = hidden // heads[0]
    if family in MLA:  # its heads share nothing and have widths of their own
        heads = heads[0], heads[0]
        more |= {"qk_nope_head_dim": width}
    else:
        more |= {"head_dim": width}
    return kinds[family](
        vocab_size=77,
        hidden_size=hidden,
        num_hidden_layers=2,
        num_attention_heads=heads[0],
        num_key_value_heads=heads[1],
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=None,
        **more,
    )


def build(config: Any, seed: int) -> tuple[LoadedModel, LoadedModel]:
    """The same random weights on PyTorch and on the native library."""
    torch.manual_seed(seed)
    attention.register()
    experts.register()
    moe = hasattr(config, "num_experts") or hasattr(config, "num_local_experts")
    model = AutoModelForCausalLM.from_config(
        config,
        attn_implementation=attention.NAME,
        dtype=torch.float32,
        **({"experts_implementation": experts.NAME} if moe else {}),
    ).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # norms start at one, which would hide mistakes
                parameter.uniform_(0.5, 1.5)
            elif "embed" not in name:
                parameter.normal_(0, parameter.shape[-1] ** -0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.normal_(0, 0.1)
    slow, fast = (LoadedModel(model, NO_TOKENIZER, Path(), "") for _ in range(2))
    assert fast.use_native() is None
    return slow, fast


def adapter_of(
    model: LoadedModel, rank: int, seed: int, targets: tuple[str, ...] | None = None
) -> AdapterWeights:
    spec = LoraSpec(rank, 2.0 * rank, targets or default_targets(model.model))
    fresh = init_adapter(model.model, spec, seed)
    generator = torch.Generator().manual_seed(seed)
    filled = {
        name: torch.randn(t.shape, generator=generator) * 0.1 if "lora_B" in name else t
        for name, t in fresh.tensors.items()
    }
    return AdapterWeights(spec, filled)
