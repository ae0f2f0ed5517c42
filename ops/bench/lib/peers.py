"""Engines to compare with in the same run: prefill and decode of a batch of prompts of equal length.

Each context manager turns a model folder into a `Peer`. llama.cpp is fed fixed tokens, so that it is
timed without sampling.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch


class Timing(NamedTuple):
    """Total seconds; where measured, seconds until every prompt had its first token (`prefill`), and
    the number of tokens after that (`decoded`)."""

    seconds: float
    prefill: float | None = None
    decoded: int = 0


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


@contextmanager
def transformers_batching(folder: Path, threads: int) -> Iterator[Peer]:
    """transformers' continuous batching."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    torch.set_num_threads(threads)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa").eval()

    def run(prompts: np.ndarray, new: int) -> Timing:
        config = GenerationConfig(
            max_new_tokens=new, do_sample=True, eos_token_id=-1, pad_token_id=0
        )
        began = time.perf_counter()
        done = model.generate_batch(
            inputs=prompts.tolist(), generation_config=config, progress_bar=False
        )
        seconds = time.perf_counter() - began
        made = [len(answer.generated_tokens) for answer in done.values()]
        if made != [new] * len(prompts):
            raise RuntimeError(f"continuous batching made {made} tokens, not {new} each")
        return Timing(seconds)

    yield run


def llama_cpp(weights: str) -> Callable[[Path, int], Any]:
    """llama.cpp on a GGUF of the same weights, `bf16` or `q8_0`."""

    @contextmanager
    def peer(folder: Path, threads: int) -> Iterator[Peer]:
        ll: Any = importlib.import_module("llama_cpp")
        from burnish.ops.bench.lib.gguf_file import write_gguf

        file = write_gguf(folder, weights)
        ll.llama_backend_init()
        callback = _silent_log(ll)  # referenced until the end: the library keeps calling it
        ll.llama_log_set(callback, None)
        model = ll.llama_model_load_from_file(str(file).encode(), ll.llama_model_default_params())
        if not model:
            raise RuntimeError(f"llama.cpp does not load {file}")

        def run(prompts: np.ndarray, new: int) -> Timing:
            rows, length = prompts.shape
            options = ll.llama_context_default_params()
            options.n_ctx = rows * (length + new + 16)
            options.n_batch = options.n_ubatch = 512
            options.n_seq_max = rows
            options.n_threads = options.n_threads_batch = threads
            options.kv_unified = True
            context = ll.llama_init_from_model(model, options)
            batch = ll.llama_batch_init(512, 0, 1)
            try:
                began = time.perf_counter()
                entries = [
                    (prompts[r, i], i, r, i == length - 1)
                    for r in range(rows)
                    for i in range(length)
                ]
                for at in range(0, len(entries), 512):
                    _decode(ll, context, batch, entries[at : at + 512])
                first = time.perf_counter() - began
                for n in range(new - 1):
                    _decode(ll, context, batch, [(5 + n, length + n, r, True) for r in range(rows)])
                return Timing(time.perf_counter() - began, first, rows * (new - 1))
            finally:
                ll.llama_batch_free(batch)
                ll.llama_free(context)

        try:
            yield run
        finally:
            ll.llama_model_free(model)
            ll.llama_log_set(ll.llama_log_callback(0), None)
            del callback

    return peer


def _decode(ll: Any, context: Any, batch: Any, entries: list[tuple[int, int, int, bool]]) -> None:
    """One llama_decode of (token, position, sequence, whether to compute its logits)."""
    batch.n_tokens = len(entries)
    for i, (token, position, sequence, wanted) in enumerate(entries):
        batch.token[i] = int(token)
        batch.pos[i] = position
        batch.n_seq_id[i] = 1
        batch.seq_id[i][0] = sequence
        batch.logits[i] = wanted
    if ll.llama_decode(context, batch):
        raise RuntimeError("llama_decode failed")


def _silent_log(ll: Any) -> Any:
    @ll.llama_log_callback
    def log(level: int, text: bytes, data: Any) -> None:
        pass

    return log
