"""Closed-loop load: clients that each send their next request once the last is answered, and what a
time in the midst of such a load tells.

Left out: how a request is sent, which is the caller's to say.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from burnish.ops.bench.lib.sse import Streamed
from transformers import AutoTokenizer

NEW = 64  # tokens of an answer, about
WARM_S = 1.5


@dataclass(frozen=True)
class Prompt:
    """What a user says, and the tokens that the chat template makes of it."""

    text: str
    ids: tuple[int, ...]


Ask = Callable[[Prompt, int, int], Awaitable[Streamed]]
"""Sends one request (prompt, max tokens, seed) and reads the answer."""


class Prompts:
    """Prompts of random words that a model's tokenizer knows."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        known = self._tokenizer.get_vocab()
        self._words = sorted(
            word[1:] for word in known if word[1:].isalpha() and word[0] == "\u0120"
        )

    def draw(self, count: int, tokens: int, rng: np.random.Generator) -> list[Prompt]:
        """`count` prompts of about `tokens` tokens."""
        return [self._make(rng.choice(self._words, tokens).tolist()) for _ in range(count)]

    def _make(self, words: list[str]) -> Prompt:
        text = " ".join(words)
        asked = [{"role": "user", "content": text}]
        said = self._tokenizer.apply_chat_template(
            asked, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return Prompt(text, tuple(self._tokenizer.encode(said, add_special_tokens=False)))


async def load(
    asks: list[Ask], seconds: float, prompts: Iterator[Prompt], rng: np.random.Generator
) -> list[Streamed]:
    """Closed-loop load: each client sends its next request once the previous one is answered."""
    seen: list[Streamed] = []

    async def client(ask: Ask, until: float) -> None:
        while time.perf_counter() < until:
            # Of different lengths, or all answers would start and end in lockstep.
            tokens = int(rng.integers(NEW // 2, NEW * 3 // 2 + 1))
            seen.append(await ask(next(prompts), tokens, int(rng.integers(1 << 30))))

    until = time.perf_counter() + seconds
    await asyncio.gather(*(client(ask, until) for ask in asks))
    return seen


@dataclass(frozen=True)
class Window:
    """A time within a steady load: its begin and end in seconds, the answers of the load, and the CPU seconds
    that each process used in it."""

    began: float
    ended: float
    seen: list[Streamed]
    cpu: dict[str, float]

    @property
    def tokens(self) -> float:
        return sum(answer.tokens_between(self.began, self.ended) for answer in self.seen)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / (self.ended - self.began)

    @property
    def begun(self) -> list[Streamed]:
        """The answers that were asked for in this time."""
        return [answer for answer in self.seen if self.began <= answer.began < self.ended]


async def measure(
    asks: list[Ask],
    seconds: float,
    prompts: Iterator[Prompt],
    cpu: Callable[[], dict[str, float]],
    seed: int,
) -> Window:
    """A load after it has become steady and before its last answers, when fewer and fewer are left;
    `cpu` returns the CPU seconds used so far by each process."""
    rng = np.random.default_rng([len(asks), seed])
    running = asyncio.create_task(load(asks, WARM_S + seconds, prompts, rng))
    await asyncio.sleep(WARM_S)
    before, began = cpu(), time.perf_counter()
    await asyncio.sleep(seconds)
    after, ended = cpu(), time.perf_counter()
    used = {name: after[name] - before.get(name, 0.0) for name in after}
    return Window(began, ended, await running, used)


def figures(windows: list[Window]) -> dict[str, Any]:
    seen = [answer for window in windows for answer in window.begun]
    tokens = sum(window.tokens for window in windows)
    firsts = [s.arrivals[0] - s.began for s in seen]
    each = [(s.arrivals[-1] - s.arrivals[0]) / (s.tokens - 1) for s in seen if s.tokens > 1]
    return {
        "answers": len(seen),
        "tokens_per_s": tokens / sum(window.ended - window.began for window in windows),
        "first_token_ms_p50": 1e3 * float(np.percentile(firsts, 50)),
        "first_token_ms_p99": 1e3 * float(np.percentile(firsts, 99)),
        "per_token_ms_p50": 1e3 * float(np.percentile(each, 50)),
        "per_token_ms_p99": 1e3 * float(np.percentile(each, 99)),
        "cpu_us_per_token": {
            name: round(1e6 * sum(window.cpu[name] for window in windows) / tokens, 1)
            for name in windows[0].cpu
        },
    }


def compared(pairs: list[tuple[Window, Window]]) -> dict[str, Any]:
    """Of pairs of the bare engine and HTTP: figures of HTTP, and the quartiles of its share."""
    shares = [http.tokens_per_s / engine.tokens_per_s for engine, http in pairs]
    quarter, half, three = np.percentile(shares, (25, 50, 75)).tolist()
    return {
        **figures([http for _, http in pairs]),
        "engine_tokens_per_s": figures([engine for engine, _ in pairs])["tokens_per_s"],
        "share_of_engine": half,
        "share_of_engine_quartiles": [quarter, three],
    }
