"""From a plan to a step: lays its tokens out flat, runs the model over the paged cache, and draws.

Per-row state lives in preallocated arrays indexed by row, so a decode step of many rows costs a
handful of array operations and no loop over rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from burnish.kernels.model import LoadedModel
from burnish.kernels.step import Drawn, Draws, Feed
from burnish.serving.engine.grammars import Grammars
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.sampler import Sampler, Top
from burnish.serving.engine.scheduler import Plan, Sequence

# Steps without anybody looking in between, as long as they take no longer than this in all.
BURST_STEPS, BURST_S = 8, 0.020


@dataclass(frozen=True)
class Outcome:
    """What a step drew: for each of the `sequences`, `drawn.made` tokens, and alternatives."""

    sequences: list[Sequence]
    drawn: Drawn
    top: list[Top]


class Runner:
    """Runs plans. `token`, `drawn` and the rest are the state of every running row."""

    def __init__(self, model: LoadedModel, kv: PagedKV, rows: int) -> None:
        self.model = model
        self.kv = kv
        vocab, ends = model.config.vocab_size, model.eos_token_ids
        self.grammars = Grammars(model.tokenizer, vocab, ends)
        self.sampler = Sampler(rows, vocab, ends, model.device, self.grammars)
        self._token = np.zeros(rows, dtype=np.int64)  # last drawn, input of the next decode
        self._prompt = np.zeros(rows, dtype=np.int64)  # tokens of the prompt
        self._drawn = np.zeros(rows, dtype=np.int64)  # how many were drawn
        self._most = np.zeros(rows, dtype=np.int64)  # how many may be
        self._slot = np.zeros(rows, dtype=np.int64)  # adapter slot
        self._pace = 1.0  # seconds of a decode step, lately

    def admit(self, sequence: Sequence) -> None:
        """Set up the row of a sequence that is about to run."""
        row = sequence.row
        self._prompt[row] = len(sequence.request.prompt_ids)
        self._drawn[row] = len(sequence.tokens)  # some, if it was sent back
        self._most[row], self._slot[row] = sequence.max_tokens, sequence.slot
        self.sampler.admit(row, sequence.request.params, sequence.seed, sequence.tokens)

    @property
    def burst(self) -> int:
        """How many decode steps are short enough to be taken in one."""
        return max(1, min(BURST_STEPS, int(BURST_S / self._pace))) if self.model.native else 1

    def run(self, plan: Plan) -> Outcome:
        """Compute one step, or the plan's burst of them."""
        sequences = [*plan.decode, *(c.sequence for c in plan.prefill if c.last)]
        rows = np.fromiter((s.row for s in sequences), np.int64, len(sequences))
        special = self.sampler.special(rows)
        steps = 1 if special.any() else plan.burst
        draws = Draws(
            how=self.sampler.how[rows],
            skip=special,
            count=self._drawn[rows].astype(np.uint64),
            room=np.minimum(self._most[rows] - self._drawn[rows], self.sampler.room[rows]),
            ends=self.sampler.ends,
            endless=self.sampler.endless[rows],
            steps=steps,
        )
        began = time.perf_counter()
        logits, drawn = self.model.step(self._feed(plan), self.kv.slots, self.kv.pages, draws)
        if not plan.prefill:
            self._pace = (time.perf_counter() - began) / steps
        if drawn is None:
            drawn, special = Drawn.empty(1, len(rows)), np.ones(len(rows), bool)
        top: list[Top] = [()] * len(rows)
        if special.any() and logits is not None:
            own = special.nonzero()[0]
            some = rows[own]
            *found, alternatives = self.sampler.draw(logits[own], some, self._drawn[some])
            for into, values in zip(drawn[:3], found, strict=True):
                into[0, own] = values.cpu().numpy()
            drawn.made[own] = 1
            for at, these in zip(own.tolist(), alternatives, strict=True):
                top[at] = these
        self._token[rows] = drawn.token[drawn.made - 1, np.arange(len(rows))]
        self._drawn[rows] += drawn.made
        for at in self.sampler.watched[rows].nonzero()[0].tolist():
            self.sampler.took(int(rows[at]), drawn.token[: drawn.made[at], at].tolist())
        return Outcome(sequences, drawn, top)

    def _feed(self, plan: Plan) -> Feed:
        """One token of every decoding row, then the prompts' chunks."""
        single = np.fromiter((s.row for s in plan.decode), np.int64, len(plan.decode))
        # The last token drawn is not in the cache yet: it goes where the drawn ones end.
        where = self._prompt[single] + self._drawn[single] - 1
        if not plan.prefill:
            ones = np.ones_like(single)
            keep = np.arange(len(single))
            return Feed(self._token[single], single, where, ones, self._slot[single], keep)
        chunks = plan.prefill
        rows = np.concatenate([single, [c.sequence.row for c in chunks]])
        counts = np.concatenate([np.ones_like(single), [c.end - c.start for c in chunks]])
        prompts = [c.sequence.given[c.start : c.end] for c in chunks]
        last = [True] * len(single) + [c.last for c in chunks]
        return Feed(
            tokens=np.concatenate([self._token[single], *(np.array(p, np.int64) for p in prompts)]),
            rows=rows,
            starts=np.concatenate([where, [c.start for c in chunks]]),
            counts=counts,
            slots=self._slot[rows],
            keep=(counts.cumsum() - 1)[last],
        )
