"""Self-verification: the same weights through transformers' own eager model and through ours.

The reference is transformers with its eager attention and experts, in float32. Ours runs as it
would serve. What is compared, on random tokens: the logits of whole sequences, the log-probabilities
of each next token, decoding through the paged cache against the whole sequence, and the tokens that
greedy decoding takes.

Left out: which op causes a difference; tests/kernels shows that on small shapes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from burnish.kernels.experts import has_experts
from burnish.kernels.folder import open_folder
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from torch import Tensor

BLOCK = 16


@dataclass(frozen=True)
class Comparison:
    """One comparison: the largest difference found, and the largest allowed."""

    name: str
    difference: float
    allowed: float

    @property
    def passed(self) -> bool:
        return self.difference <= self.allowed


class PagedDecoder:
    """Sequences of equal length that a model computes step by step over a paged cache."""

    def __init__(self, model: LoadedModel, rows: int, length: int, slot: int = 0) -> None:
        self.model, self.rows, self.slot = model, rows, slot
        reach = -(-length // BLOCK) * BLOCK
        self.pages = model.new_pages(rows * reach)
        # Pages of the rows interleave, so that a mistake in the table would show.
        blocks = np.arange(rows * reach // BLOCK).reshape(-1, rows).T[..., None]
        self.table = np.ascontiguousarray((blocks * BLOCK + np.arange(BLOCK)).reshape(rows, reach))
        self.length = 0

    def step(self, tokens: Tensor) -> Tensor:
        """Logits [rows, n, V] of the next tokens [rows, n]."""
        count = tokens.shape[1]
        batch = ForwardBatch(
            tokens=tokens.reshape(-1).cpu().numpy(),
            rows=np.arange(self.rows),
            starts=np.full(self.rows, self.length),
            counts=np.full(self.rows, count),
            slots=np.full(self.rows, self.slot),
            keep=np.arange(self.rows * count),
        )
        logits, _ = self.model.step(batch, self.table, self.pages)
        assert logits is not None
        self.length += count
        return logits.float().cpu().view(self.rows, count, -1)


def verify(
    folder: Path | str, *, rows: int = 4, length: int = 64, tolerance: float = 1e-3, seed: int = 0
) -> Iterator[Comparison]:
    """Compare on `rows` random sequences of `length` tokens; ModelError if ours does not load.

    `tolerance` is that of logits and log-probabilities in float32.
    """
    ours = load_model(folder, dtype="float32")
    experts = {"experts_implementation": "eager"} if has_experts(ours.config) else {}
    reference = open_folder(folder).from_pretrained(
        dtype="float32", attn_implementation="eager", **experts
    )
    reference.eval()
    vocab = ours.config.vocab_size
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, vocab, (rows, length), generator=generator)
    with torch.no_grad():
        expected = reference(tokens).logits
        whole = ours.forward(tokens.to(ours.device)).cpu()
        yield Comparison("whole sequences, logits", _gap(whole, expected), tolerance)
        half = length // 2
        decoder = PagedDecoder(ours, rows, length)
        steps = [decoder.step(tokens[:, :half])]
        steps += [decoder.step(tokens[:, at : at + 1]) for at in range(half, length)]
        cached = torch.cat(steps, dim=1)
        yield Comparison("decoding through the cache, logits", _gap(cached, expected), tolerance)
        pairs = (_next(logits, tokens) for logits in (cached, expected))
        yield Comparison("log-probabilities of the next token", _gap(*pairs), tolerance)
        prompts = tokens[:, :half]
        different = _greedy(ours, prompts, length) != _greedy_reference(reference, prompts, length)
        name = f"greedy tokens that differ, of {rows * length}"
        yield Comparison(name, float(different.sum()), 0.0)


def _gap(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max())


def _next(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits[:, :-1].log_softmax(-1).gather(2, tokens[:, 1:, None])


def _greedy(model: LoadedModel, prompts: Tensor, count: int) -> Tensor:
    decoder = PagedDecoder(model, len(prompts), prompts.shape[1] + count)
    tokens, output = prompts, []
    for _ in range(count):
        tokens = decoder.step(tokens)[:, -1].argmax(-1, keepdim=True)
        output.append(tokens)
    return torch.cat(output, dim=1)


def _greedy_reference(model: Any, prompts: Tensor, count: int) -> Tensor:
    whole = prompts
    for _ in range(count):  # without a cache, so as simple as can be
        whole = torch.cat([whole, model(whole).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    return whole[:, prompts.shape[1] :]
