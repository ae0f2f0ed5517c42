"""From a plan to a step: lays its tokens out flat, runs the model over the paged cache, and draws.

Per-row state lives in preallocated arrays indexed by row, so a decode step of many rows costs a
handful of array operations and no loop over rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from burnish.kernels.forward_batch import ForwardBatch, SamplerOutput, SamplingMetadata
from burnish.kernels.model import LoadedModel
from burnish.serving.engine.grammars import Grammars
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.sampler import Sampler, Top
from burnish.serving.engine.scheduler import Plan, Sequence

# Steps without anybody looking in between, as long as they take no longer than this in all.
BURST_STEPS, BURST_S = 8, 0.050


@dataclass(frozen=True)
class Outcome:
    """What a step drew: for each of the `sequences`, `drawn.counts` tokens, and alternatives."""

    sequences: list[Sequence]
    drawn: SamplerOutput
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

    def draft(self, sequence: Sequence) -> list[int]:
        """Tokens worth proposing for a decoding sequence. None where each draw changes the next."""
        row = sequence.row
        if self.sampler.watched[row] or self.sampler.top_n[row]:
            return []
        prompt = sequence.request.prompt_ids
        return sequence.lookup.propose(prompt, sequence.tokens, sequence.ahead - 1)

    def run(self, plan: Plan) -> Outcome:
        """Compute one step, or the plan's burst of them."""
        sequences = [*plan.decode, *(c.sequence for c in plan.prefill if c.last)]
        rows = np.fromiter((s.row for s in sequences), np.int64, len(sequences))
        if plan.drafted:
            drawn, top = self._verified(plan, sequences, rows)
        else:
            drawn, top = self._drawn_for(plan, rows, np.zeros_like(rows))
        self._token[rows] = drawn.tokens[drawn.counts - 1, np.arange(len(rows))]
        self._drawn[rows] += drawn.counts
        for at in self.sampler.watched[rows].nonzero()[0].tolist():
            self.sampler.took(int(rows[at]), drawn.tokens[: drawn.counts[at], at].tolist())
        return Outcome(sequences, drawn, top)

    def _drawn_for(
        self, plan: Plan, rows: np.ndarray, ahead: np.ndarray
    ) -> tuple[SamplerOutput, list[Top]]:
        """Run the model and draw for its kept tokens: `rows` [K], and how many tokens `ahead` [K] of
        what the row has drawn each of them is."""
        special = self.sampler.special(rows)
        steps = 1 if special.any() else plan.burst
        counts = self._drawn[rows] + ahead
        draws = SamplingMetadata(
            params=self.sampler.how[rows],
            skip=special,
            num_generated=counts.astype(np.uint64),
            max_new_tokens=np.minimum(self._most[rows] - counts, self.sampler.room[rows]),
            is_eos=self.sampler.ends,
            ignore_eos=self.sampler.endless[rows],
            steps=steps,
        )
        began = time.perf_counter()
        logits, drawn = self.model.step(self._feed(plan), self.kv.slots, self.kv.pages, draws)
        if not plan.prefill and not plan.drafted:
            self._pace = (time.perf_counter() - began) / steps
        if drawn is None:
            drawn, special = SamplerOutput.empty(1, len(rows)), np.ones(len(rows), bool)
        top: list[Top] = [()] * len(rows)
        if special.any() and logits is not None:
            own = special.nonzero()[0]
            *found, alternatives = self.sampler.draw(logits[own], rows[own], counts[own])
            for into, values in zip(drawn[:3], found, strict=True):
                into[0, own] = values.cpu().numpy()
            drawn.counts[own] = 1
            for at, these in zip(own.tolist(), alternatives, strict=True):
                top[at] = these
        return drawn, top

    def _verified(
        self, plan: Plan, sequences: list[Sequence], rows: np.ndarray
    ) -> tuple[SamplerOutput, list[Top]]:
        """A step along drafts: of each sequence's draws those that count."""
        drafts = [s.draft for s in sequences[: len(plan.decode)]]
        drafts += [[]] * (len(sequences) - len(drafts))
        sizes = np.array([len(draft) + 1 for draft in drafts])
        firsts = sizes.cumsum() - sizes
        ahead = np.arange(int(sizes.sum())) - firsts.repeat(sizes)
        flat, top = self._drawn_for(plan, rows.repeat(sizes), ahead)
        drawn = SamplerOutput.empty(int(sizes.max()), len(rows))
        tokens = flat.tokens[0].tolist()
        for at, (first, draft) in enumerate(zip(firsts.tolist(), drafts, strict=True)):
            hits = 0
            while hits < len(draft) and tokens[first + hits] == draft[hits]:
                hits += 1
            if draft:
                sequences[at].lookup.judge(len(draft), hits)
            drawn.counts[at] = hits + 1
            for into, values in zip(drawn[:3], flat[:3], strict=True):
                into[: hits + 1, at] = values[0, first : first + hits + 1]
        return drawn, [top[first] for first in firsts.tolist()]

    def _feed(self, plan: Plan) -> ForwardBatch:
        """One token of every decoding row, or with its draft several, then the prompts' chunks."""
        rows = np.fromiter((s.row for s in plan.decode), np.int64, len(plan.decode))
        # The last token drawn is not in the cache yet: it goes where the drawn ones end.
        where = self._prompt[rows] + self._drawn[rows] - 1
        if not plan.prefill and not plan.drafted:
            ones = np.ones_like(rows)
            keep = np.arange(len(rows))
            return ForwardBatch(self._token[rows], rows, where, ones, self._slot[rows], keep)
        chunks = plan.prefill
        last = self._token[rows].tolist()
        pieces = [[token, *s.draft] for token, s in zip(last, plan.decode, strict=True)]
        pieces += [c.sequence.given[c.start : c.end] for c in chunks]
        counts = np.array([len(piece) for piece in pieces])
        rows = np.concatenate([rows, np.array([c.sequence.row for c in chunks], np.int64)])
        kept = np.array([len(s.draft) + 1 for s in plan.decode] + [int(c.last) for c in chunks])
        ends = counts.cumsum()
        keep = [np.arange(end - n, end) for end, n in zip(ends, kept, strict=True)]
        return ForwardBatch(
            tokens=np.concatenate([np.array(piece, np.int64) for piece in pieces]),
            rows=rows,
            starts=np.concatenate([where, np.array([c.start for c in chunks], np.int64)]),
            counts=counts,
            slots=self._slot[rows],
            keep=np.concatenate(keep),
        )
