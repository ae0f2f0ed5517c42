"""The policy gradient's loss over a chunk of rollouts, one for every trainer.

Policy gradient with token-level truncated importance weights, and the exact KL to the frozen base over
the vocabulary as a penalty. It is a sum over tokens: a trainer divides by the tokens of the whole batch,
wherever they are computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.training.batching import TokenBatch, answer_logprobs
from burnish.learner.training.rollouts import Rollout
from torch import Tensor


@dataclass(frozen=True)
class LossWeights:
    """Of the gain and of the KL penalty; `ratio_cap` truncates importance weights."""

    gain: float
    kl: float
    ratio_cap: float


def policy_loss(
    model: LoadedModel, chunk: Sequence[Rollout], slot: int, weights: LossWeights
) -> tuple[Tensor, Tensor]:
    """The loss summed over the chunk's tokens, differentiable in the adapter in `slot`, and the sums
    [3] of KL, entropy and truncated importance weights, in nats where that applies."""
    batch = TokenBatch.of(chunk, model.device)
    base = answer_logprobs(model, chunk)  # [N, V]
    policy = answer_logprobs(model, chunk, slot=slot)
    chosen = batch.chosen(policy)  # [N]
    ratio = (chosen.detach() - batch.behaviour).exp().clamp(max=weights.ratio_cap)
    ratio = ratio.where(~batch.imitated, 1.0)
    probabilities = policy.exp()
    kl = (probabilities * (policy - base)).sum(1)  # [N]
    gain = (ratio * batch.advantage * chosen).sum()
    loss = weights.kl * kl.sum() - weights.gain * gain
    with torch.no_grad():
        entropy = -(probabilities * policy).sum()
        return loss, torch.stack([kl.sum(), entropy, ratio.sum()])
