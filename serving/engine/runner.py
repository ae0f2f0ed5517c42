"""Runs a scheduled step: lays its tokens out flat, runs the model over the paged cache, samples.

Per-row state lives in preallocated arrays indexed by row, so a decode step of many rows costs a
handful of array operations and no loop over rows.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from burnish.kernels.forward_batch import ForwardBatch, SamplerOutput, SamplingMetadata
from burnish.kernels.model import LoadedModel
from burnish.serving.engine.drafts import MTPDraft
from burnish.serving.engine.mtp_drafter import MTPDrafter
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.sampler import Sampler, TopLogprobs, is_stateful
from burnish.serving.engine.scheduler import PrefillChunk, SchedulerOutput
from burnish.serving.engine.sequence import Sequence

# Decode steps taken in one call, as long as they take no longer than this in all; and how many where they are
# so short that nobody notices.
BURST_STEPS, BURST_S = 8, 0.050
SHORT_BURST_STEPS, SHORT_BURST_S = 32, 0.008
# Prompt tokens computed beside decoding sequences: until their time is known, and its bounds.
CHUNK, LEAST_CHUNK, LARGEST_CHUNK = 64, 32, 512
QUICK_S = 0.020  # that a step may take longer in any case: readers get their deltas less often
SMOOTHING = 0.2  # weight of the newest step among those that decode beside prompts


@dataclass(frozen=True)
class ModelRunnerOutput:
    """The tokens a step drew: `drawn.counts` for each of the `sequences`, and their alternatives.
    What was drawn for those that `failed` means nothing."""

    sequences: list[Sequence]
    drawn: SamplerOutput
    top: list[TopLogprobs]
    failed: dict[Sequence, Exception] = field(default_factory=dict)


class ModelRunner:
    """Executes scheduled steps. The arrays hold the state of every running row."""

    def __init__(self, model: LoadedModel, kv: PagedKV, rows: int, speculative: bool) -> None:
        self.model = model
        self.kv = kv
        vocab, ends = model.config.vocab_size, model.eos_token_ids
        self.sampler = Sampler(rows, vocab, ends, model.device)
        mtp = model.mtp if speculative else None
        self.mtp = None if mtp is None else MTPDrafter(mtp, kv, self.sampler)
        self._token = np.zeros(rows, dtype=np.int64)  # last drawn, input of the next decode
        self._prompt = np.zeros(rows, dtype=np.int64)  # tokens of the prompt
        self._drawn = np.zeros(rows, dtype=np.int64)  # how many were drawn
        self._max_tokens = np.zeros(rows, dtype=np.int64)  # how many may be drawn
        self._slot = np.zeros(rows, dtype=np.int64)  # adapter slot
        self._step_s = math.inf  # seconds of a decode step
        self._prompt_token_s = math.inf  # seconds of a prompt's token

    def admit(self, sequence: Sequence) -> None:
        """Set up the row of a sequence that is about to run."""
        row = sequence.row
        self._prompt[row] = len(sequence.request.prompt_ids)
        self._drawn[row] = len(sequence.tokens)  # not 0 if it was preempted
        self._max_tokens[row], self._slot[row] = sequence.max_tokens, sequence.slot
        self.sampler.admit(
            row,
            sequence.request.params,
            sequence.seed,
            sequence.tokens,
            sequence.grammar,
            sequence.request.prompt_ids,
            sequence.max_tokens,
        )

    @property
    def burst(self) -> int:
        """How many decode steps are short enough to be taken in one call."""
        if not self.model.native:
            return 1
        usual = min(BURST_STEPS, int(BURST_S / self._step_s))
        return max(1, usual, min(SHORT_BURST_STEPS, int(SHORT_BURST_S / self._step_s)))

    @property
    def chunk(self) -> int:
        """How many prompt tokens take about as long as a decode step, or QUICK_S: computed beside one,
        they hardly more than double the time to the next token."""
        if math.isinf(self._step_s) or math.isinf(self._prompt_token_s):
            return CHUNK
        fair = max(self._step_s, QUICK_S) / self._prompt_token_s
        return int(min(max(fair, LEAST_CHUNK), LARGEST_CHUNK)) // 16 * 16  # whole blocks

    def _measure(self, scheduled: SchedulerOutput, steps: int, seconds: float) -> None:
        """A step, or a burst of them, took so many seconds.

        Under load prompts never cease, so that a step decodes beside them: what they do not account
        for is then the decoding sequences'.
        """
        tokens = sum(chunk.end - chunk.start for chunk in scheduled.prefill)
        if not tokens:
            if not scheduled.drafted:
                self._step_s = seconds / steps
        elif not scheduled.decode:
            if tokens >= LEAST_CHUNK:  # less tells of the step, not of its tokens
                self._prompt_token_s = seconds / tokens
        elif not math.isinf(self._step_s + self._prompt_token_s):
            self._prompt_token_s = min(self._prompt_token_s, seconds / tokens)
            decode_s = seconds - tokens * self._prompt_token_s
            self._step_s += SMOOTHING * (decode_s - self._step_s)

    def mtp_draft(self, sequence: Sequence) -> MTPDraft | None:
        """Where the module's drafts of a new sequence will lie; None if it is not to draft for it."""
        return MTPDraft() if self.mtp is not None and _draftable(sequence) else None

    def draft(self, sequence: Sequence, lookup: bool, mtp: bool) -> None:
        """Give a decoding sequence the draft of one that looks up, or else of the model's module; none
        where each draw changes the next distribution."""
        sequence.draft, sequence.proposer = [], None
        foreseen = sequence.mtp.take() if sequence.mtp is not None else []
        if not sequence.prefilled or not _draftable(sequence):
            return
        if lookup:
            prompt, most = sequence.request.prompt_ids, sequence.remaining - 1
            sequence.draft = sequence.drafter.propose(prompt, sequence.tokens, most)
            sequence.proposer = sequence.drafter
        if mtp and foreseen and not sequence.draft:
            sequence.draft, sequence.proposer = foreseen, sequence.mtp

    def execute(self, scheduled: SchedulerOutput) -> ModelRunnerOutput:
        """Compute one step, or a burst of decode steps."""
        sequences = [*scheduled.decode, *(c.sequence for c in scheduled.prefill if c.last)]
        rows = np.fromiter((s.row for s in sequences), np.int64, len(sequences))
        started = time.perf_counter()
        if scheduled.drafted:
            drawn, top = self._verify_drafts(scheduled, sequences, rows)
        elif scheduled.scores:
            drawn, top = self._score_prompts(scheduled)
        else:
            drawn, top, _ = self._sample(scheduled, rows, np.zeros_like(rows))
        if self.mtp is not None:
            self.mtp.observe(scheduled, drawn.counts)
        steps = int(drawn.counts.max(initial=1))
        self._measure(scheduled, steps, time.perf_counter() - started)
        self._token[rows] = drawn.tokens[drawn.counts - 1, np.arange(len(rows))]
        self._drawn[rows] += drawn.counts
        failed = self.sampler.failures
        for at in np.flatnonzero(np.isnan(drawn.raw_logprobs).any(axis=0)).tolist():
            failed[int(rows[at])] = FloatingPointError("the model's logits are not numbers")
        for at in self.sampler.stateful[rows].nonzero()[0].tolist():
            row = int(rows[at])
            try:
                self.sampler.update(row, drawn.tokens[: drawn.counts[at], at].tolist())
            except Exception as error:  # noqa: BLE001 - this row's failure, and no other's
                failed[row] = error
        return ModelRunnerOutput(
            sequences, drawn, top, {s: failed[s.row] for s in sequences if s.row in failed}
        )

    def _sample(
        self,
        scheduled: SchedulerOutput,
        rows: np.ndarray,
        offsets: np.ndarray,
        draws: np.ndarray | None = None,
    ) -> tuple[SamplerOutput, list[TopLogprobs], torch.Tensor | None]:
        """Run the model and sample after each of its K kept tokens: their `rows` [K], and `offsets` [K]
        from what each row has drawn so far. Of some only the logits [K, V] are wanted, and nothing is
        drawn: `draws` bool [K]."""
        special = self.sampler.needs_reference(rows)
        if draws is not None:
            special |= ~draws
        steps = 1 if special.any() else scheduled.burst
        counts = self._drawn[rows] + offsets
        how = SamplingMetadata(
            params=self.sampler.how[rows],
            skip=special,
            num_generated=counts.astype(np.uint64),
            max_new_tokens=np.minimum(
                self._max_tokens[rows] - counts, self.sampler.free_draws[rows]
            ),
            is_eos=self.sampler.ends,
            ignore_eos=self.sampler.endless[rows],
            steps=steps,
        )
        batch = self._forward_batch(scheduled)
        hidden = None
        if self.mtp is not None:
            hidden = self.mtp.hidden_for(scheduled, steps * len(batch.tokens))
        logits, drawn = self.model.step(batch, self.kv.slots, self.kv.pages, how, hidden)
        if drawn is None:
            drawn, special = SamplerOutput.empty(1, len(rows)), np.ones(len(rows), bool)
        top: list[TopLogprobs] = [()] * len(rows)
        reference = (special if draws is None else special & draws).nonzero()[0]
        if len(reference) and logits is not None:
            *found, alternatives = self.sampler.draw(
                logits[reference], rows[reference], counts[reference]
            )
            for into, values in zip(drawn[:3], found, strict=True):
                into[0, reference] = values.cpu().numpy()
            drawn.counts[reference] = 1
            for at, these in zip(reference.tolist(), alternatives, strict=True):
                top[at] = these
        return drawn, top, logits

    def _score_prompts(self, scheduled: SchedulerOutput) -> tuple[SamplerOutput, list[TopLogprobs]]:
        """Run a step that tells some prompts' log-probabilities besides."""
        pieces = [(s.row, 1, True) for s in scheduled.decode]
        pieces += [(c.sequence.row, c.kept, c.last) for c in scheduled.prefill]
        sizes = np.array([size for _, size, _ in pieces])
        ends = sizes.cumsum()
        draws = np.zeros(ends[-1], dtype=bool)
        draws[[end - 1 for end, (_, _, last) in zip(ends, pieces, strict=True) if last]] = True
        rows = np.array([row for row, _, _ in pieces]).repeat(sizes)
        flat, top, logits = self._sample(scheduled, rows, np.zeros_like(rows), draws)
        assert logits is not None
        for chunk, end in zip(scheduled.prefill, ends[len(scheduled.decode) :], strict=True):
            if chunk.sequence.scores:
                _score(chunk, logits[end - chunk.kept : end])
        tokens, raw, processed = (values[:, draws] for values in flat[:3])
        drawn = SamplerOutput(tokens, raw, processed, flat.counts[draws])
        return drawn, [top[at] for at in np.flatnonzero(draws)]

    def _verify_drafts(
        self, scheduled: SchedulerOutput, sequences: list[Sequence], rows: np.ndarray
    ) -> tuple[SamplerOutput, list[TopLogprobs]]:
        """Run a step over drafts and keep the drafted tokens that were drawn, and the one after them."""
        drafts = [s.draft for s in sequences[: len(scheduled.decode)]]
        drafts += [[]] * (len(sequences) - len(drafts))
        sizes = np.array([len(draft) + 1 for draft in drafts])
        firsts = sizes.cumsum() - sizes
        offsets = np.arange(int(sizes.sum())) - firsts.repeat(sizes)
        flat, top, _ = self._sample(scheduled, rows.repeat(sizes), offsets)
        drawn = SamplerOutput.empty(int(sizes.max()), len(rows))
        tokens = flat.tokens[0].tolist()
        for at, (first, draft) in enumerate(zip(firsts.tolist(), drafts, strict=True)):
            hits = 0
            while hits < len(draft) and tokens[first + hits] == draft[hits]:
                hits += 1
            if draft:
                proposer = sequences[at].proposer
                assert proposer is not None
                proposer.update(len(draft), hits)
            drawn.counts[at] = hits + 1
            for into, values in zip(drawn[:3], flat[:3], strict=True):
                into[: hits + 1, at] = values[0, first : first + hits + 1]
        return drawn, [top[first] for first in firsts.tolist()]

    def _forward_batch(self, scheduled: SchedulerOutput) -> ForwardBatch:
        """One token of every decoding row, or with its draft several, then the prompts' chunks."""
        rows = np.fromiter((s.row for s in scheduled.decode), np.int64, len(scheduled.decode))
        # The last token drawn is not in the cache yet: it goes where the drawn ones end.
        where = self._prompt[rows] + self._drawn[rows] - 1
        if not scheduled.prefill and not scheduled.drafted:
            ones = np.ones_like(rows)
            keep = np.arange(len(rows))
            return ForwardBatch(self._token[rows], rows, where, ones, self._slot[rows], keep)
        chunks = scheduled.prefill
        last = self._token[rows].tolist()
        pieces = [[token, *s.draft] for token, s in zip(last, scheduled.decode, strict=True)]
        pieces += [c.sequence.prefill_ids[c.start : c.end] for c in chunks]
        counts = np.array([len(piece) for piece in pieces])
        rows = np.concatenate([rows, np.array([c.sequence.row for c in chunks], np.int64)])
        kept = np.array([len(s.draft) + 1 for s in scheduled.decode] + [c.kept for c in chunks])
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


def _draftable(sequence: Sequence) -> bool:
    """Whether its draws can be foreseen, and nothing but the draws is wanted."""
    params = sequence.request.params
    return not is_stateful(params) and not params.logprobs


def _score(chunk: PrefillChunk, logits: torch.Tensor) -> None:
    """Tell the log-probabilities of the prompt's tokens that follow those of a chunk: logits [n, V]."""
    sequence, wanted = chunk.sequence, chunk.sequence.request.params.prompt_logprobs
    following = sequence.request.prompt_ids[chunk.start + 1 : chunk.end + 1]
    logp = logits[: len(following)].float().log_softmax(-1)
    told = torch.tensor(following, dtype=torch.long, device=logp.device)
    chosen = logp.gather(1, told[:, None])[:, 0].tolist()
    best = logp.topk(min(wanted or 0, logp.shape[-1]))
    tops = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    for value, (ids, values) in zip(chosen, tops, strict=True):
        sequence.scored.append((value, tuple(zip(ids, values, strict=True))))
