"""Self-verification: the same weights through transformers' own eager model and through ours.

The reference is transformers with its eager attention and experts, in float32. Ours runs as it
would serve. What is compared, on random tokens: the logits of whole sequences, the log-probabilities
of each next token, decoding through the paged cache against the whole sequence, and the tokens that
greedy decoding takes. Float32 rounds in proportion to what it holds, so differences count in spreads:
standard deviations of the reference's logits.

Of a format that is not lossless, what it costs is measured: on text that the model itself draws, since
on random tokens no model is at home.

Left out: which op causes a difference; tests/kernels shows that on small shapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from burnish.kernels.experts import has_experts
from burnish.kernels.folder import open_folder
from burnish.kernels.formats import Cache, Weights
from burnish.kernels.forward_batch import ForwardBatch
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from torch import Tensor

BLOCK = 16


@dataclass(frozen=True)
class Bounds:
    """The most that a format may cost: see `_costs`."""

    logits: float  # spreads
    divergence: float  # nats per token
    changed: float  # share of tokens


# Rounding moves a weight by 0.2 % (bfloat16), 1 % (int8) or 9 % (int4) of its row's spread on average, and
# a model adds up what its layers move. Small models pay most: SmolLM2-135M is within the bounds of int8
# (0.04, 0.006, 0.05), and beyond those of int4, where half of its likeliest tokens change.
ALLOWED = {
    "bfloat16": Bounds(0.05, 0.005, 0.05),
    "int8": Bounds(0.15, 0.02, 0.10),
    "int4": Bounds(0.60, 0.40, 0.40),
}


@dataclass(frozen=True)
class Comparison:
    """One comparison: the largest difference found, and the largest allowed. A `cost` is of the format
    that weights or the cache are rounded to, and no mistake of ours."""

    name: str
    difference: float
    allowed: float
    cost: bool = False

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


def phases(weights: Weights, kv_cache: Cache) -> int:
    """How many times `verify` reports progress."""
    return 5 if weights in ("auto", "float32") and kv_cache == "auto" else 7


def verify(
    folder: Path | str,
    *,
    weights: Weights = "auto",
    kv_cache: Cache = "auto",
    rows: int = 4,
    length: int = 64,
    tolerance: float = 1e-3,
    seed: int = 0,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Comparison]:
    """Compare on `rows` random sequences of `length` tokens; ModelError if ours does not load.

    `tolerance` is that of logits and log-probabilities in float32, in spreads. `progress` is called
    with what begins next.
    """
    progress("loading the model as it is served")
    ours = load_model(folder, dtype="float32", weights=weights, kv_cache=kv_cache)
    rounded = None
    if not ours.lossless:
        rounded, ours = ours, load_model(folder, dtype="float32")
    progress("loading transformers' eager model")
    reference = _reference(folder, ours)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, ours.config.vocab_size, (rows, length), generator=generator)
    half = length // 2

    progress("whole sequences")
    expected = reference(tokens)
    spread = float(expected.std())

    def gap(found: Tensor, wanted: Tensor) -> float:
        return float((found - wanted).abs().max()) / spread

    whole = ours.forward(tokens.to(ours.device)).detach().cpu()
    yield Comparison("whole sequences, logits", gap(whole, expected), tolerance)
    progress("decoding through the cache")
    decoder = PagedDecoder(ours, rows, length)
    steps = [decoder.step(tokens[:, :half])]
    steps += [decoder.step(tokens[:, at : at + 1]) for at in range(half, length)]
    cached = torch.cat(steps, dim=1)
    yield Comparison("decoding through the cache, logits", gap(cached, expected), tolerance)
    pairs = (_next(logits, tokens) for logits in (cached, expected))
    yield Comparison("log-probabilities of the next token", gap(*pairs), tolerance)
    progress("greedy decoding")
    greedy = _decode(ours, tokens[:, :half], length, lambda logits: logits.argmax(-1, keepdim=True))
    behind = _behind_best(reference, tokens[:, :half], greedy)
    name = f"greedy tokens behind the reference's best, of {rows * length}"
    yield Comparison(name, behind / spread, tolerance)
    if rounded is None:
        return

    def draw(logits: Tensor) -> Tensor:
        return torch.multinomial(logits.softmax(-1), 1, generator=generator)

    progress("drawing text from the model")
    text = torch.cat([tokens[:, :1], _decode(ours, tokens[:, :1], length - 1, draw)], dim=1)
    progress(f"what {rounding(weights, kv_cache)} costs")
    found = PagedDecoder(rounded, rows, length).step(text)
    yield from _costs(
        found, reference(text), rounding(weights, kv_cache), rounded.rounded or kv_cache
    )


def rounding(weights: Weights, kv_cache: Cache) -> str:
    """What is rounded, in words."""
    said = [] if weights == "auto" else [weights]
    said += [] if kv_cache == "auto" else [f"a cache in {kv_cache}"]
    return " with ".join(said)


def _reference(folder: Path | str, ours: LoadedModel) -> Callable[[Tensor], Tensor]:
    """Logits [B, T, V] of token ids [B, T] by transformers alone."""
    experts = {"experts_implementation": "eager"} if has_experts(ours.config) else {}
    model = open_folder(folder).from_pretrained(
        dtype="float32", attn_implementation="eager", **experts
    )
    model.eval()

    @torch.no_grad()
    def logits(tokens: Tensor) -> Tensor:
        return model(tokens, use_cache=False).logits

    return logits


def _next(logits: Tensor, tokens: Tensor) -> Tensor:
    return logits[:, :-1].log_softmax(-1).gather(2, tokens[:, 1:, None])


def _decode(
    model: LoadedModel, prompts: Tensor, count: int, choose: Callable[[Tensor], Tensor]
) -> Tensor:
    """The `count` tokens that follow, each chosen from its logits [rows, V]: [rows, count]."""
    decoder = PagedDecoder(model, len(prompts), prompts.shape[1] + count)
    tokens, output = prompts, []
    for _ in range(count):
        tokens = choose(decoder.step(tokens)[:, -1])
        output.append(tokens)
    return torch.cat(output, dim=1)


def _behind_best(reference: Callable[[Tensor], Tensor], prompts: Tensor, chosen: Tensor) -> float:
    """By how much the logit of a chosen token is behind the best, after the same tokens; 0 where all are
    the reference's own choice."""
    start = prompts.shape[1] - 1
    logits = reference(torch.cat([prompts, chosen[:, :-1]], dim=1))[:, start:]
    return float((logits.amax(-1) - logits.gather(2, chosen[..., None])[..., 0]).max())


def root_mean_square(found: Tensor, expected: Tensor) -> float:
    """Error of logits in spreads."""
    return float((found - expected).square().mean().sqrt() / expected.std())


def _costs(found: Tensor, expected: Tensor, form: str, bounds: str) -> Iterator[Comparison]:
    """What rounding does to logits, to the distribution of the next token, and to the likeliest one."""
    allowed = ALLOWED[bounds]
    error = root_mean_square(found, expected)
    yield Comparison(f"{form}: logits, root mean square", error, allowed.logits, cost=True)
    p, q = expected.log_softmax(-1), found.log_softmax(-1)
    divergence = float((p.exp() * (p - q)).sum(-1).mean())
    yield Comparison(
        f"{form}: KL divergence, nats per token", divergence, allowed.divergence, cost=True
    )
    changed = float((found.argmax(-1) != expected.argmax(-1)).float().mean())
    yield Comparison(
        f"{form}: share of likeliest tokens that change", changed, allowed.changed, cost=True
    )
