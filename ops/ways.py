"""`burnish kernels`: every op, the way it takes here, why, and its error; exit code 1 if one is off.

Adds to kernels/ways.py what only the engine knows: drawing tokens, whose reference is the sampler.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from burnish.kernels import attention, native
from burnish.kernels.model import LoadedModel
from burnish.kernels.step import DRAW, Draws, Feed
from burnish.kernels.ways import NOBODY, Way, machine, ways
from burnish.serving.engine.sampler import Sampler
from burnish.serving.engine.types import SamplingParams
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, Qwen3Config

ROWS = 48


def sampling() -> Way:
    """Log-probabilities of drawn tokens, ours against the sampler's; another token is infinitely far."""
    if native.library() is None:
        return Way("sampling", "PyTorch", "it is the reference itself", 0.0)
    why = "biases, penalties, grammars and alternatives go to PyTorch"
    return Way("sampling", "native library", why, _sampling_error())


def _sampling_error() -> float:
    torch.manual_seed(0)
    attention.register()
    config = Qwen3Config(
        vocab_size=512, hidden_size=64, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=32, max_position_embeddings=64,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention.NAME, dtype=torch.float32
    ).eval()
    loaded = LoadedModel(model, NOBODY, Path(), "")
    loaded.use_native()
    sampler = Sampler(ROWS, config.vocab_size, frozenset(), torch.device("cpu"))
    rng = np.random.default_rng(0)
    for row in range(ROWS):
        params = SamplingParams(
            temperature=float(rng.choice([0.0, 0.5, 1.0, 1.7])),
            top_p=float(rng.choice([0.3, 0.9, 1.0])),
            top_k=int(rng.choice([0, 3, 40])),
            min_p=float(rng.choice([0.0, 0.1])),
        )
        sampler.admit(row, params, row)
    rows = np.arange(ROWS)
    ones, zeros = np.ones_like(rows), np.zeros_like(rows)
    feed = Feed(rng.integers(0, 512, ROWS), rows, zeros, ones, zeros, rows)
    table = np.arange(ROWS * 16).reshape(ROWS, 16)
    pages = loaded.new_pages(table.size)
    no = np.zeros(ROWS, bool)
    how: np.ndarray = sampler.how.astype(DRAW)
    draws = Draws(how, no, zeros.astype(np.uint64), ones * 9, np.zeros(512, bool), no)
    logits, _ = loaded.step(feed, table, pages)
    _, drawn = loaded.step(feed, table, pages, draws)
    assert logits is not None
    assert drawn is not None
    tokens, raw, processed, _ = sampler.draw(logits, rows, zeros)
    if tokens.tolist() != drawn.token[0].tolist():
        return float("inf")
    pairs = ((drawn.raw, raw), (drawn.processed, processed))
    return max(float(np.abs(ours[0] - theirs.numpy()).max()) for ours, theirs in pairs)


def run(console: Console) -> int:
    """Print the report; 1 if an op is further from its reference than allowed."""
    for name, value in machine().items():
        console.print(f"{name}: {value}", highlight=False, soft_wrap=True)
    table = Table("op", "way taken", "why", "largest error", box=None)
    failed = False
    for way in (*ways(), sampling()):
        failed = failed or not way.passed
        error = f"{way.error:.1g} (at most {way.allowed:g})"
        table.add_row(way.op, way.way, way.why, error if way.passed else f"[red]{error} NOT OK")
    console.print(table)
    return 1 if failed else 0
