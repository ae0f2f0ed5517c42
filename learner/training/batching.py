"""Batches of rollouts: groups of similar length, and their answer tokens as flat tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial

import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.training.rollouts import Rollout
from torch import Tensor

CHUNK_TOKENS = 1024  # padded tokens that go through the model at once
ROWS = 32  # of logits that pass through a softmax at once


@dataclass(frozen=True)
class TokenBatch:
    """All N answer tokens of some rollouts, one rollout after the other; each tensor is [N].

    `behaviour` is the log-probability under the policy that sampled the token.
    """

    token_ids: Tensor
    advantage: Tensor
    behaviour: Tensor
    imitated: Tensor

    @classmethod
    def of(cls, rollouts: Sequence[Rollout], device: torch.device) -> TokenBatch:
        put = partial(torch.tensor, device=device)
        return cls(
            token_ids=put([token for rollout in rollouts for token in rollout.token_ids]),
            advantage=put([rollout.advantage for rollout in rollouts for _ in rollout.token_ids]),
            behaviour=put([logprob for rollout in rollouts for logprob in rollout.logprobs]),
            imitated=put([rollout.imitated for rollout in rollouts for _ in rollout.token_ids]),
        )

    def chosen(self, logprobs: Tensor) -> Tensor:
        """Of log-probabilities [N, V], those of the tokens of this batch, [N]."""
        return logprobs.gather(1, self.token_ids[:, None]).squeeze(1)

    def rows(self, rows: slice) -> TokenBatch:
        """The batch of some of its tokens."""
        return TokenBatch(*(getattr(self, field.name)[rows] for field in fields(self)))


def answer_logits(model: LoadedModel, rollouts: Sequence[Rollout], slot: int = 0) -> Tensor:
    """Logits [N, V] that predict each answer token, of the base or under the adapter in `slot`."""
    sequences = [rollout.sequence for rollout in rollouts]
    starts = [len(rollout.prompt_ids) for rollout in rollouts]
    return model.read(sequences, starts, slot=slot)


@torch.no_grad()
def answer_logprobs(model: LoadedModel, rollouts: Sequence[Rollout], slot: int = 0) -> Tensor:
    """The log-probability of each answer token [N], of the base or under the adapter in `slot`."""
    batch = TokenBatch.of(rollouts, model.device)
    logits = answer_logits(model, rollouts, slot)
    parts = zip(logits.split(ROWS), batch.token_ids.split(ROWS), strict=True)
    return torch.cat([part.log_softmax(-1).gather(1, ids[:, None])[:, 0] for part, ids in parts])


def token_logprobs(
    model: LoadedModel, rollouts: Sequence[Rollout], slot: int = 0
) -> list[tuple[float, ...]]:
    """The log-probability of each answer token, of the base or of the adapter in `slot`, in the order of
    the rollouts."""
    found: dict[Rollout, tuple[float, ...]] = {}
    for chunk in chunks(rollouts):
        chosen = answer_logprobs(model, chunk, slot)
        parts = chosen.split([len(rollout.token_ids) for rollout in chunk])
        found.update((r, tuple(part.tolist())) for r, part in zip(chunk, parts, strict=True))
    return [found[rollout] for rollout in rollouts]


def chunks(rollouts: Sequence[Rollout], budget: int = CHUNK_TOKENS) -> Iterator[list[Rollout]]:
    """Split into groups of similar length, each at most `budget` padded tokens or one rollout."""
    chunk: list[Rollout] = []
    for rollout in sorted(rollouts, key=lambda rollout: len(rollout.sequence)):
        if chunk and len(rollout.sequence) * (len(chunk) + 1) > budget:
            yield chunk
            chunk = []
        chunk.append(rollout)
    if chunk:
        yield chunk
