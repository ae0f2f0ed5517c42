"""The policy gradient's loss over a chunk of rollouts, one for every trainer.

Policy gradient with token-level truncated importance weights, and the exact KL to the frozen base over
the vocabulary as a penalty. It is a sum over tokens: a trainer divides by the tokens of the whole batch,
wherever they are computed.

Each token's share depends on its own logits alone, so a few rows at a time pass through softmax and
gradient: besides the logits of policy and base only the gradient is ever held for all of a vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.training.batching import ROWS, TokenBatch, answer_logits
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
    base = answer_logits(model, chunk)  # [N, V]
    policy = answer_logits(model, chunk, slot=slot)
    return _ByRows.apply(policy, base, batch, weights)  # type: ignore[no-any-return]


def token_losses(
    policy: Tensor, base: Tensor, batch: TokenBatch, weights: LossWeights
) -> tuple[Tensor, Tensor]:
    """What `policy_loss` returns, of logits [N, V]."""
    policy, base = policy.log_softmax(-1), base.log_softmax(-1)
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


class _ByRows(torch.autograd.Function):
    """`token_losses`, ROWS rows at a time, differentiated as it goes."""

    @staticmethod
    def forward(
        ctx: Any, policy: Tensor, base: Tensor, batch: TokenBatch, weights: LossWeights
    ) -> tuple[Tensor, Tensor]:
        gradient = torch.empty_like(policy)
        losses, sums = [], []
        for at in range(0, len(policy), ROWS):
            rows = slice(at, at + ROWS)
            with torch.enable_grad():
                logits = policy[rows].detach().requires_grad_()
                loss, of_rows = token_losses(logits, base[rows], batch.rows(rows), weights)
            (gradient[rows],) = torch.autograd.grad(loss, logits)
            losses.append(loss.detach())
            sums.append(of_rows)
        total = torch.stack(sums).sum(0)
        ctx.mark_non_differentiable(total)
        ctx.save_for_backward(gradient)
        return torch.stack(losses).sum(), total

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return (
            gradient.mul_(upstream[0]),
            None,
            None,
            None,
        )  # in place: it is as large as the logits
