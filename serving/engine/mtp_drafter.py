"""Speculative decoding with a model's own module for multi-token prediction (kernels/mtp.py).

What a step computed for a sequence passes through the module once the tokens that follow are known, so
that the module's cache keeps up with the model's; the last position of it gives the draft's first
token, and the module's own output each further one. A draft is drawn with the random numbers that
the draws themselves will take: where the module's distribution is the model's, so is the token. The
runner verifies drafts as it does those of prompt lookup, so no token depends on them.
(DeepSeek-V3 Technical Report, 2024; Leviathan et al., 2023, for a draft that the seed determines.)

Left out: catching up. A sequence that decodes without the module for one step is not drafted for by it
any more.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from burnish.kernels.forward_batch import ForwardBatch, SamplingMetadata
from burnish.kernels.mtp import MTPModule
from burnish.serving.engine.drafts import MTPDraft
from burnish.serving.engine.paged_kv import PagedKV
from burnish.serving.engine.sampler import Sampler
from burnish.serving.engine.scheduler import SchedulerOutput
from burnish.serving.engine.sequence import Sequence


@dataclass(frozen=True)
class Computed:
    """A piece of a sequence that the last step computed."""

    sequence: Sequence
    start: int  # its first position
    hidden: np.ndarray  # rows of the step's hidden states

    @property
    def following(self) -> list[int]:
        """The token after each of its positions."""
        prompt, drawn = self.sequence.request.prompt_ids, self.sequence.tokens
        first, last = self.start + 1, self.start + 1 + len(self.hidden)
        size = len(prompt)
        return [*prompt[first:last], *drawn[max(first - size, 0) : max(last - size, 0)]]


class MTPDrafter:
    """The module beside the engine's rows: its pages lie as the model's do."""

    def __init__(self, module: MTPModule, kv: PagedKV, sampler: Sampler) -> None:
        self._module, self._kv, self._sampler = module, kv, sampler
        self._pages = module.new_pages(kv.pool.total * kv.block_size)
        self._computed: list[Computed] = []
        self._hidden = torch.empty(0, module.width)

    def hidden_for(self, scheduled: SchedulerOutput, tokens: int) -> torch.Tensor | None:
        """Where a step puts its hidden states [tokens, H]; None if no sequence needs them."""
        self._computed = []
        if all(sequence.mtp is None for sequence in scheduled.sequences):
            return None
        self._hidden = torch.empty(tokens, self._module.width)
        return self._hidden

    def observe(self, scheduled: SchedulerOutput, counts: np.ndarray) -> None:
        """A step was computed and drew that many tokens for each of its sequences; they are not yet
        among the sequences' tokens."""
        first, decoding = 0, len(scheduled.decode)
        for at, (sequence, count) in enumerate(zip(scheduled.decode, counts, strict=False)):
            if scheduled.drafted:
                rows = first + np.arange(count)
                first += 1 + len(sequence.draft)
            else:  # a burst: step by step
                rows = at + np.arange(count) * decoding
                first += 1
            held = len(sequence.request.prompt_ids) + len(sequence.tokens)
            self._note(Computed(sequence, held - 1, rows))
        for chunk in scheduled.prefill:
            rows = first + np.arange(chunk.end - chunk.start)
            first += len(rows)
            self._note(Computed(chunk.sequence, chunk.start, rows))

    def _note(self, computed: Computed) -> None:
        if computed.sequence.mtp is not None:
            self._computed.append(computed)

    def propose(self, wanted: bool) -> None:
        """Pass the last step's positions through the module; where drafts are `wanted`, fill those of the
        sequences that decode."""
        pieces = [c for c in self._computed if c.sequence.row >= 0 and c.sequence.mtp is not None]
        self._computed = []
        if not pieces:
            return
        pieces.sort(key=lambda piece: len(piece.hidden) > 1)  # single tokens first
        counts = np.array([len(piece.hidden) for piece in pieces])
        lengths = np.array([self._length(piece.sequence) if wanted else 0 for piece in pieces])
        rows = np.array([piece.sequence.row for piece in pieces])
        batch = ForwardBatch(
            tokens=np.concatenate([np.array(piece.following, np.int64) for piece in pieces]),
            rows=rows,
            starts=np.array([piece.start for piece in pieces]),
            counts=counts,
            slots=np.zeros_like(rows),
            keep=(counts.cumsum() - 1)[lengths > 0],
        )
        hidden = self._hidden[np.concatenate([piece.hidden for piece in pieces])]
        drafting = [piece.sequence for piece, n in zip(pieces, lengths, strict=True) if n]
        self._extend(batch, hidden, drafting, lengths[lengths > 0])

    def _extend(
        self,
        batch: ForwardBatch,
        hidden: torch.Tensor,
        drafting: list[Sequence],
        lengths: np.ndarray,
    ) -> None:
        """Draw the first token of each draft from a step, and one more from a step on each token, up to
        `lengths`."""
        for depth in range(max(1, lengths.max(initial=0))):
            going = np.flatnonzero(lengths > depth + 1)
            tokens, after = self._draw(batch, hidden, drafting, depth, bool(going.size))
            for sequence, token in zip(drafting, tokens, strict=True):
                _draft(sequence).tokens.append(token)
            if after is None:
                return
            hidden = after[batch.keep[going]]
            drafting, lengths = [drafting[at] for at in going], lengths[going]
            rows = np.array([sequence.row for sequence in drafting])
            batch = ForwardBatch(
                tokens=np.array([_draft(sequence).tokens[-1] for sequence in drafting]),
                rows=rows,
                starts=np.array([_held(sequence) - 1 + depth for sequence in drafting]),
                counts=np.ones_like(rows),
                slots=np.zeros_like(rows),
                keep=np.arange(len(rows)),
            )

    def _draw(
        self,
        batch: ForwardBatch,
        hidden: torch.Tensor,
        drafting: list[Sequence],
        depth: int,
        deeper: bool,
    ) -> tuple[list[int], torch.Tensor | None]:
        """Run the module: what it draws for each of `drafting`, `depth` tokens into their drafts, and, to go
        `deeper`, its hidden states."""
        rows = np.array([sequence.row for sequence in drafting], np.int64)
        drawn = np.array([len(sequence.tokens) + depth for sequence in drafting], np.int64)
        how = SamplingMetadata(
            params=self._sampler.how[rows],
            skip=np.zeros(len(rows), bool),
            num_generated=drawn.astype(np.uint64),
            max_new_tokens=np.ones_like(rows),
            is_eos=self._sampler.ends,
            ignore_eos=self._sampler.endless[rows],
        )
        logits, output, after = self._module.step(
            batch, hidden, self._kv.slots, self._pages, how, deeper
        )
        if output is not None:
            return output.tokens[0].tolist(), after
        if logits is None or not drafting:
            return [], after
        return self._sampler.draw(logits, rows, drawn)[0].tolist(), after

    def _length(self, sequence: Sequence) -> int:
        """How many tokens to draft for a sequence: within its answer, and within the blocks it has."""
        if not sequence.prefilled:
            return 0
        room = len(sequence.blocks) * self._kv.block_size - _held(sequence)
        return max(0, min(_draft(sequence).length, sequence.remaining - 1, 2 + room))


def _held(sequence: Sequence) -> int:
    """Tokens of its prompt and answer."""
    return len(sequence.request.prompt_ids) + len(sequence.tokens)


def _draft(sequence: Sequence) -> MTPDraft:
    assert sequence.mtp is not None
    return sequence.mtp
