"""Tiny random Hugging Face folders for tests: real formats, no network, seconds to build.

`build_tiny_model(folder)` writes a Qwen3-MoE, `build_tiny_model(folder, "llama")` a dense Llama; the
other families are there for parity tests. Independent of the package under test.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    Glm4MoeConfig,
    Glm4MoeForCausalLM,
    Glm4MoeLiteConfig,
    Glm4MoeLiteForCausalLM,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    OlmoeConfig,
    OlmoeForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
    Qwen3NextConfig,
    Qwen3NextForCausalLM,
)

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>")

CHAT_TEMPLATE = """\
{%- if tools %}<|im_start|>system
Tools: {{ tools | tojson }}<|im_end|>
{% endif -%}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}<tool_call>
{{ (call.function or call) | tojson }}
</tool_call>{% endfor %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif -%}"""

CORPUS = [
    "the quick brown fox jumps over the lazy dog and says hello to the world",
    "user assistant system tool answer question number twelve plus seven is nineteen",
    '{"name": "calculator", "arguments": {"expression": "12 * 7"}}',
]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 300 tokens that can spell any text."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.train_from_iterator(
        CORPUS * 4,
        trainers.BpeTrainer(
            vocab_size=300,
            special_tokens=[AddedToken(text, special=True) for text in SPECIALS],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    core.add_tokens([AddedToken(text, special=False) for text in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        model_max_length=512,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_tiny_model(folder: Path, family: str = "qwen3_moe", **overrides: Any) -> Path:
    """Write config, weights and tokenizer of a random model; deterministic; returns the folder."""
    tokenizer = build_tokenizer()
    common: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        "bos_token_id": None,
        "initializer_range": 0.1,  # larger than usual, so that random logits differ visibly
    }
    experts = {"num_experts": 4, "num_experts_per_tok": 2}
    families: dict[str, tuple[Any, Any, dict[str, Any]]] = {
        "qwen3_moe": (
            Qwen3MoeConfig,
            Qwen3MoeForCausalLM,
            {"intermediate_size": 96, "moe_intermediate_size": 48, "head_dim": 16, **experts},
        ),
        "qwen2": (Qwen2Config, Qwen2ForCausalLM, {"intermediate_size": 96}),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"intermediate_size": 96, "head_dim": 16}),
        "llama": (LlamaConfig, LlamaForCausalLM, {"intermediate_size": 96}),
        "mixtral": (
            MixtralConfig,
            MixtralForCausalLM,
            {"intermediate_size": 48, "num_local_experts": 4, "num_experts_per_tok": 2},
        ),
        "olmoe": (OlmoeConfig, OlmoeForCausalLM, {"intermediate_size": 48, **experts}),
        "gpt_oss": (  # sinks, every other layer windowed, biases, a gate of its own
            GptOssConfig,
            GptOssForCausalLM,
            {
                "intermediate_size": 48,
                "head_dim": 16,
                "num_local_experts": 4,
                "num_experts_per_tok": 2,
                "sliding_window": 8,
            },
        ),
        "deepseek_v3": (  # MLA, groups of experts, a shared one, the first layer dense
            DeepseekV3Config,
            DeepseekV3ForCausalLM,
            {
                "intermediate_size": 96,
                "moe_intermediate_size": 48,
                "num_key_value_heads": 4,
                "n_routed_experts": 8,
                "num_experts_per_tok": 2,
                "n_group": 2,
                "topk_group": 1,
                "first_k_dense_replace": 1,
                "q_lora_rank": 32,
                "kv_lora_rank": 16,
                "qk_nope_head_dim": 16,
                "qk_rope_head_dim": 8,
                "v_head_dim": 16,
            },
        ),
        "glm4_moe_lite": (  # MLA, the first layer dense
            Glm4MoeLiteConfig,
            Glm4MoeLiteForCausalLM,
            {
                "intermediate_size": 96,
                "moe_intermediate_size": 48,
                "num_key_value_heads": 4,
                "n_routed_experts": 8,
                "num_experts_per_tok": 2,
                "n_group": 1,
                "topk_group": 1,
                "q_lora_rank": 32,
                "kv_lora_rank": 16,
                "qk_nope_head_dim": 16,
                "qk_rope_head_dim": 8,
                "v_head_dim": 16,
            },
        ),
        "qwen3_next": (  # three layers of linear attention to one of the other kind
            Qwen3NextConfig,
            Qwen3NextForCausalLM,
            {
                "num_hidden_layers": 4,
                "intermediate_size": 96,
                "moe_intermediate_size": 48,
                "shared_expert_intermediate_size": 48,
                "head_dim": 16,
                "linear_num_key_heads": 2,
                "linear_num_value_heads": 4,
                "linear_key_head_dim": 16,
                "linear_value_head_dim": 16,
                **experts,
            },
        ),
        "glm4_moe": (
            Glm4MoeConfig,
            Glm4MoeForCausalLM,
            {
                "intermediate_size": 96,
                "moe_intermediate_size": 48,
                "head_dim": 16,
                "n_routed_experts": 8,
                "num_experts_per_tok": 2,
                "first_k_dense_replace": 1,
            },
        ),
    }
    config_class, model_class, own = families[family]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config_class(**{**common, **own, **overrides}))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
