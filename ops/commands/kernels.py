"""`burnish kernels`: each op's backend, why it was chosen, and its error; exit code 1 if one is too large.
Then, for one model, which way computes each kind of work, and the times that decided.

Adds to kernels/backends.py the op that only the engine knows: sampling, whose reference is the sampler.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from burnish.kernels import attention
from burnish.kernels.backends import NO_TOKENIZER, Backend, backends, machine
from burnish.kernels.choice import Choice
from burnish.kernels.cpu import library as native
from burnish.kernels.formats import Weights
from burnish.kernels.forward_batch import SAMPLING_DTYPE, ForwardBatch, SamplingMetadata
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.ops.commands.output import print_json
from burnish.serving.engine.sampler import Sampler
from burnish.serving.engine.types import SamplingParams
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, Qwen3Config

ROWS, VOCAB = 48, 512


def sampling() -> Backend:
    """Error of sampled tokens' log-probabilities against the sampler's; infinite if a token differs."""
    if torch.cuda.is_available():
        return Backend(
            "sampling", "PyTorch, on the device", "that is where logits are", _device_error()
        )
    if native.library() is None:
        return Backend("sampling", "PyTorch", "it is the reference itself", 0.0)
    why = "biases, penalties, grammars and alternatives go to PyTorch"
    return Backend("sampling", "native library", why, _sampling_error())


def _sampling_error() -> float:
    torch.manual_seed(0)
    attention.register()
    config = Qwen3Config(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=64,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention.NAME, dtype=torch.float32
    ).eval()
    loaded = LoadedModel(model, NO_TOKENIZER, Path(), "")
    loaded.use_native()
    rng = np.random.default_rng(0)
    sampler = _sampler("cpu", rng)
    rows = np.arange(ROWS)
    ones, zeros = np.ones_like(rows), np.zeros_like(rows)
    batch = ForwardBatch(rng.integers(0, VOCAB, ROWS), rows, zeros, ones, zeros, rows)
    table = np.arange(ROWS * 16).reshape(ROWS, 16)
    pages = loaded.new_pages(table.size)
    no = np.zeros(ROWS, bool)
    params: np.ndarray = sampler.how.astype(SAMPLING_DTYPE)
    metadata = SamplingMetadata(
        params, no, zeros.astype(np.uint64), ones * 9, np.zeros(VOCAB, bool), no
    )
    logits, _ = loaded.step(batch, table, pages)
    _, output = loaded.step(batch, table, pages, metadata)
    assert logits is not None
    assert output is not None
    reference = sampler.draw(logits, rows, zeros)
    return _largest_error([torch.from_numpy(part[0]) for part in output[:3]], reference)


def _device_error() -> float:
    logits, rows = torch.randn(ROWS, VOCAB) * 3, np.arange(ROWS)
    drawn, reference = (
        _sampler(device, np.random.default_rng(0)).draw(logits.to(device), rows, rows * 0)
        for device in ("cuda", "cpu")
    )
    return _largest_error(drawn, reference)


def _sampler(device: str, rng: np.random.Generator) -> Sampler:
    """A sampler whose rows differ in temperature, top-p, top-k and min-p."""
    sampler = Sampler(ROWS, VOCAB, frozenset(), torch.device(device))
    for row in range(ROWS):
        params = SamplingParams(
            temperature=float(rng.choice([0.0, 0.5, 1.0, 1.7])),
            top_p=float(rng.choice([0.3, 0.9, 1.0])),
            top_k=int(rng.choice([0, 3, 40])),
            min_p=float(rng.choice([0.0, 0.1])),
        )
        sampler.admit(row, params, row)
    return sampler


def _largest_error(drawn: Sequence[Any], reference: Sequence[Any]) -> float:
    """Largest difference of log-probabilities; infinite where a sampled token differs."""
    if drawn[0].tolist() != reference[0].tolist():
        return float("inf")
    return max(float((drawn[at].cpu() - reference[at]).abs().max()) for at in (1, 2))


def run(
    console: Console, model: Path | None = None, weights: Weights = "auto", *, as_json: bool = False
) -> int:
    """Print the report, with the choice for the model in that folder; returns 1 if an op's error exceeds
    what is allowed. ModelError."""
    if as_json:
        return _print_json(model, weights)
    console.print(f"weights in serving: {weights} (BURNISH_WEIGHTS chooses)", highlight=False)
    for name, value in machine().items():
        console.print(f"{name}: {value}", highlight=False, soft_wrap=True)
    table = Table("op", "backend", "why", "largest error", box=None)
    failed = False
    for backend in (*backends(weights=weights), sampling()):
        failed = failed or not backend.passed
        error = f"{backend.error:.1g} (at most {backend.allowed:g})"
        shown = error if backend.passed else f"[red]{error} NOT OK"
        table.add_row(backend.op, backend.name, backend.reason, shown)
    console.print(table)
    if model is not None:
        print_choice(console, model, load_model(model).choice)
    return 1 if failed else 0


def _print_json(model: Path | None, weights: Weights) -> int:
    ops = (*backends(weights=weights), sampling())
    choice = load_model(model).choice if model is not None else None
    told = {
        "weights": weights,
        "machine": machine(),
        "ops": [{**vars(one), "passed": one.passed} for one in ops],
        "choice": {
            work: {"native": way.native, "why": way.why} for work, way in choice.ways.items()
        }
        if choice
        else None,
    }
    print_json(told)
    return 0 if all(one.passed for one in ops) else 1


def print_choice(console: Console, model: Path, choice: Choice | None) -> None:
    """What computes each kind of work of a model, in what time, and why."""
    console.print(f"\nchoice for {model}", highlight=False, soft_wrap=True)
    if choice is None:
        console.print("on the device, no other way was timed")
        return
    table = Table("work", "chosen", "native ms", "PyTorch ms", "why", box=None)
    for work, way in choice.ways.items():
        times = way.times
        both = (f"{times.native_ms:.3g}", f"{times.pytorch_ms:.3g}") if times else ("", "")
        table.add_row(work, "native library" if way.native else "PyTorch", *both, way.why)
    console.print(table)
    if choice.timed_at:
        kept = choice.kept or "nowhere: the next start times again"
        console.print(f"timed {choice.timed_at}, kept in {kept}", highlight=False, soft_wrap=True)
