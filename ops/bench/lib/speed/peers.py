"""transformers as an engine to compare with: prefill and decode of a batch of prompts of equal length.

Each context manager turns a model folder into a `Peer`; llama.cpp's is in llama_cpp.py, ours in ours.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch


class Timing(NamedTuple):
    """Total seconds; where measured apart, seconds until every prompt was read (`prefill`) and of those
    after it (`decoding`), in which `decoded` tokens were written; and what each stream saw: seconds to
    its first token (`firsts`) and between what then arrived (`gaps`)."""

    seconds: float
    prefill: float | None = None
    decoding: float = 0.0
    decoded: int = 0
    firsts: tuple[float, ...] = ()
    gaps: tuple[float, ...] = ()


# Prompts [n, length] and new tokens per prompt.
Peer = Callable[[np.ndarray, int], Timing]


@contextmanager
def transformers_generate(folder: Path, threads: int, rank: int = 0) -> Iterator[Peer]:
    """model.generate on a dense batch in bfloat16; with `rank`, through a peft adapter on attention
    and experts, as during training."""
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    if rank:
        from peft import LoraConfig, get_peft_model

        experts = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
        projections = ["q_proj", "k_proj", "v_proj", "o_proj"]
        model = get_peft_model(
            model,
            LoraConfig(
                r=rank,
                lora_alpha=2 * rank,
                target_modules=projections,
                target_parameters=experts,
            ),
        )

    def run(prompts: np.ndarray, new: int) -> Timing:
        inputs = torch.from_numpy(prompts)
        began = time.perf_counter()
        model.generate(
            input_ids=inputs,
            attention_mask=torch.ones_like(inputs),
            do_sample=True,
            min_new_tokens=new,
            max_new_tokens=new,
            pad_token_id=0,
        )
        return Timing(time.perf_counter() - began)

    yield run
