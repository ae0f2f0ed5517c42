"""Sampling: all rows of a step at once, each row with its own parameters and its own seed.

A row's random number depends on nothing but its seed and how many tokens it has drawn, so a seeded
request draws the same tokens alone and in any batch. The native library draws for most rows (see
kernels/cpu/native/sampling.h); here is the reference, which also knows biases, penalties, grammars and
alternatives.

Order: repetition penalty, logit bias, the other penalties, thinking and grammar, temperature, top-k, top-p, min-p.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from burnish.kernels.forward_batch import SAMPLING_DTYPE
from burnish.serving.engine.grammars import CompiledGrammar
from burnish.serving.engine.logits_processor import UNBOUNDED, LogitsProcessor
from burnish.serving.engine.types import SamplingParams

# What is beyond changes no draw, and float32 has no room for it.
COLDEST, HOTTEST, STRONGEST = 1e-6, 1e6, 1e6  # temperatures; bias and penalties

TopLogprobs = tuple[tuple[int, float], ...]  # (token id, raw log-probability), best first


def uniform(seeds: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1) from (seed, count), by splitmix64: seeds uint64 [R], counts [R]."""

    def mix(x: np.ndarray) -> np.ndarray:
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return x ^ (x >> np.uint64(31))

    golden = np.uint64(0x9E3779B97F4A7C15)
    stepped = mix(seeds + golden) + golden * (counts.astype(np.uint64) + np.uint64(1))
    return (mix(stepped) >> np.uint64(11)) * 2.0**-53


def is_stateful(params: SamplingParams) -> bool:
    """Whether each draw changes what the next one is drawn from."""
    penalised = params.presence_penalty or params.frequency_penalty
    repeats = params.repetition_penalty != 1
    return bool(penalised or repeats or params.grammar or params.thinking)


def _bounded(strength: float) -> float:
    return min(max(strength, -STRONGEST), STRONGEST)


class Sampler:
    """The sampling parameters of every running row, and the draw."""

    def __init__(
        self,
        rows: int,
        vocab: int,
        ends: frozenset[int],
        device: torch.device,
    ) -> None:
        self.vocab = vocab
        self.device = device
        self.how = np.zeros(rows, dtype=SAMPLING_DTYPE)
        self.params: list[SamplingParams | None] = [None] * rows
        self.filtered = np.zeros(rows, dtype=bool)  # top_p, top_k or min_p in use
        self.shifted = np.zeros(rows, dtype=bool)  # bias or penalties in use
        self.constrained = np.zeros(rows, dtype=bool)  # the processor constrains the next draw
        self.free_draws = np.full(
            rows, UNBOUNDED, dtype=np.int64
        )  # draws before the processor is asked again
        self.stateful = np.zeros(rows, dtype=bool)  # `update` wants to know what was drawn
        self.top_n = np.zeros(rows, dtype=np.int64)
        self.endless = np.zeros(rows, dtype=bool)
        self.ends = np.zeros(vocab, dtype=bool)
        self.ends[[token for token in ends if token < vocab]] = True
        self._bias: dict[int, torch.Tensor] = {}  # row -> [V]
        self._counts: dict[int, torch.Tensor] = {}  # row -> [V] tokens drawn so far
        self._held: dict[int, torch.Tensor] = {}  # row -> bool [V]: tokens of prompt and answer
        self._processors: dict[int, LogitsProcessor] = {}
        self.failures: dict[int, Exception] = {}  # by row, of the last `draw`

    def admit(
        self,
        row: int,
        params: SamplingParams,
        seed: int,
        drawn: Sequence[int] = (),
        grammar: CompiledGrammar | None = None,
        prompt: Sequence[int] = (),
        max_tokens: int | None = None,
    ) -> None:
        """Set up a row for a request that has `drawn` these tokens already. `grammar` is that of the
        parameters."""
        self.params[row] = params
        top_k = params.top_k if params.top_k < self.vocab else 0
        seed &= 0xFFFFFFFFFFFFFFFF
        temperature = params.temperature and min(max(params.temperature, COLDEST), HOTTEST)
        self.how[row] = (temperature, params.top_p, params.min_p, top_k, seed)
        self.filtered[row] = params.top_p < 1 or params.min_p > 0 or top_k > 0
        self.top_n[row] = params.logprobs
        self.endless[row] = params.ignore_eos
        penalised = bool(params.presence_penalty or params.frequency_penalty)
        repeats = params.repetition_penalty != 1
        self.shifted[row] = penalised or repeats or bool(params.logit_bias)
        self.stateful[row] = is_stateful(params)
        self._bias.pop(row, None)
        self._counts.pop(row, None)
        self._held.pop(row, None)
        self._processors.pop(row, None)
        self.failures.pop(row, None)
        if params.grammar or params.thinking:
            matcher = None if grammar is None else grammar.matcher()
            ends = torch.from_numpy(self.ends)
            limit = max_tokens if params.close_at_limit and not params.ignore_eos else None
            self._processors[row] = LogitsProcessor(
                self.vocab, ends, params.thinking, matcher, drawn, limit
            )
        self._update_constraint(row)
        if params.logit_bias:
            bias = torch.zeros(self.vocab, device=self.device)
            for token, value in params.logit_bias.items():
                if 0 <= token < self.vocab:
                    bias[token] = _bounded(value)
            self._bias[row] = bias
        if penalised:
            counts = torch.bincount(torch.tensor(drawn, dtype=torch.long), minlength=self.vocab)
            self._counts[row] = counts.float().to(self.device)
        if repeats:
            held = torch.zeros(self.vocab, dtype=torch.bool)
            held[torch.tensor([*prompt, *drawn], dtype=torch.long)] = True
            self._held[row] = held.to(self.device)

    def needs_reference(self, rows: np.ndarray) -> np.ndarray:
        """bool [R]: rows that only this reference can draw for."""
        return self.shifted[rows] | self.constrained[rows] | (self.top_n[rows] > 0)

    def update(self, row: int, tokens: Sequence[int]) -> None:
        """Tell a stateful row which tokens were drawn."""
        for token in tokens:
            if row in self._counts:
                self._counts[row][token] += 1
            if row in self._held:
                self._held[row][token] = True
            if row in self._processors:
                self._processors[row].accept(token)
        self._update_constraint(row)

    def _update_constraint(self, row: int) -> None:
        processor = self._processors.get(row)
        self.constrained[row] = processor is not None and processor.constrains
        self.free_draws[row] = UNBOUNDED if processor is None else processor.free_draws

    def draw(
        self, logits: torch.Tensor, rows: np.ndarray, counts: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, list[TopLogprobs]]:
        """One token per row: logits [R, V], row indices [R], tokens drawn before [R].

        Returns tokens, their log-probabilities before and after the rows' parameters (each [R]), and
        each row's alternatives.
        """
        logits = logits.float()
        raw = logits.log_softmax(-1)
        processed = self._process(logits, raw, rows)
        weights = processed.exp().cumsum(-1, dtype=torch.float64)  # [R, V]
        random = torch.from_numpy(uniform(self.how["seed"][rows], counts)).to(self.device)
        target = random[:, None] * weights[:, -1:]
        chosen = torch.searchsorted(weights, target, right=True).clamp_max_(self.vocab - 1)
        tokens = chosen[:, 0]
        return (
            tokens,
            raw.gather(1, chosen)[:, 0],
            processed.gather(1, chosen)[:, 0],
            self._alternatives(raw, processed, rows),
        )

    def _alternatives(
        self, raw: torch.Tensor, processed: torch.Tensor, rows: np.ndarray
    ) -> list[TopLogprobs]:
        wanted = self.top_n[rows].tolist()
        most = min(max(wanted), self.vocab)
        if not most:
            return [()] * len(rows)
        found: dict[str, tuple[list, list]] = {}
        for mode, logp in (("raw", raw), ("processed", processed)):
            if mode == "raw" or processed is not raw:
                values, ids = logp.topk(most)
                found[mode] = values.tolist(), ids.tolist()
        tops = []
        for at, (row, n) in enumerate(zip(rows.tolist(), wanted, strict=True)):
            params = self.params[row]
            assert params is not None
            values, ids = found.get(params.logprobs_mode, found["raw"])
            pairs = zip(ids[at][:n], values[at][:n], strict=True)
            tops.append(tuple(pair for pair in pairs if pair[1] > -math.inf))
        return tops

    def _process(self, logits: torch.Tensor, raw: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """Log-probabilities [R, V] of the distribution each row draws from."""
        changed = self.shifted[rows] | self.constrained[rows]
        shifted = bool(changed.any())
        temperature = self.how["temperature"][rows]
        if not shifted and (temperature == 1).all() and not self.filtered[rows].any():
            return raw
        if shifted:
            logits = logits.clone()
            for at, row in enumerate(rows.tolist()):
                if changed[at]:
                    try:
                        self._shift(logits[at], row)
                    except Exception as error:  # noqa: BLE001 - this row's failure, and no other's
                        self.failures[row] = error
        greedy = temperature == 0
        scale = torch.from_numpy(np.where(greedy, 1, temperature)).to(self.device)[:, None]
        processed = (logits / scale).log_softmax(-1)
        if self.filtered[rows].any():
            processed = self._filter(processed, rows)
        if greedy.any():
            # A point mass on the best token: its log-probability is 0, all others are impossible.
            peak = torch.full_like(processed, -math.inf)
            peak.scatter_(1, logits.argmax(-1, keepdim=True), 0.0)
            processed = torch.where(
                torch.from_numpy(greedy).to(self.device)[:, None], peak, processed
            )
        return processed

    def _shift(self, logits: torch.Tensor, row: int) -> None:
        """Bias, penalties and logits processor of one row, in place on its logits [V]."""
        params = self.params[row]
        assert params is not None
        if row in self._held:
            penalty = min(max(params.repetition_penalty, 1 / STRONGEST), STRONGEST)
            less = torch.where(logits > 0, logits / penalty, logits * penalty)
            logits.copy_(torch.where(self._held[row], less, logits))
        if row in self._bias:
            logits += self._bias[row]
        if row in self._counts:
            counts = self._counts[row]
            frequency, presence = map(_bounded, (params.frequency_penalty, params.presence_penalty))
            logits -= frequency * counts + presence * (counts > 0)
        if self.constrained[row]:
            logits.masked_fill_(~self._processors[row].allowed().to(logits.device), -math.inf)

    def _filter(self, logp: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
        """top-k, top-p and min-p, renormalised: logp [R, V] -> [R, V]."""
        top_k, top_p, min_p = (
            torch.from_numpy(values[rows]).to(self.device)[:, None]
            for values in (self.how[name] for name in ("top_k", "top_p", "min_p"))
        )
        top_k = torch.where(top_k == 0, self.vocab, top_k)
        top_p = torch.where(top_p == 1, 2, top_p)  # must drop nothing through rounding
        ordered, ids = logp.sort(-1, descending=True)
        rank = torch.arange(self.vocab, device=self.device)
        p = ordered.exp().masked_fill(rank >= top_k, 0)
        p = p / p.sum(-1, keepdim=True)
        # A token stays while the mass before it is below top_p; min-p is relative to the best.
        drop = (rank >= top_k) | (p.cumsum(-1) - p >= top_p) | (p < min_p * p[:, :1])
        drop[:, 0] = False
        kept = torch.empty_like(drop).scatter_(1, ids, drop)
        return logp.masked_fill(kept, -math.inf).log_softmax(-1)
