"""Which models the native step covers, and what it says of others."""

import pytest
from burnish.kernels.cpu.support import unsupported_reason
from transformers import AutoModelForCausalLM

from tests.kernels.random_models import config_of


@pytest.mark.usefixtures("native_library")
def test_a_model_that_is_not_covered_says_why() -> None:
    fine = config_of("qwen3", 32, (2, 1), 16, intermediate_size=16)
    assert unsupported_reason(AutoModelForCausalLM.from_config(fine)) is None
    odd = config_of("qwen3", 36, (2, 1), 18, intermediate_size=16)
    model = AutoModelForCausalLM.from_config(odd)
    assert "36" in (unsupported_reason(model) or "")
    odd = config_of("deepseek_v3", 32, (2, 2), 16, kv_lora_rank=18, n_routed_experts=4)
    model = AutoModelForCausalLM.from_config(odd)
    assert "kv_lora_rank 18" in (unsupported_reason(model) or "")
