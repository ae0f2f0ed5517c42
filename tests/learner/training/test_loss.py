"""The loss, a few rows at a time: the same as all at once, in value and gradient."""

import pytest
import torch
from burnish.kernels.lora import LoraSpec, init_adapter
from burnish.learner.training import batching, loss
from burnish.learner.training.batching import TokenBatch, answer_logits, answer_logprobs
from burnish.learner.training.loss import LossWeights, policy_loss, token_losses
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.learner.training.conftest import random_rollouts

WEIGHTS = LossWeights(gain=1.0, kl=0.25, ratio_cap=2.0)


def random_batch(rows: int) -> TokenBatch:
    return TokenBatch(
        token_ids=torch.randint(0, 50, (rows,)),
        advantage=torch.randn(rows),
        behaviour=-4 + torch.randn(rows),
        imitated=torch.rand(rows) < 0.3,
    )


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 2 * loss.ROWS + 1),
    gain=st.floats(0, 2),
    kl=st.floats(0, 2),
    upstream=st.floats(-2, 2),
    seed=st.integers(0, 99),
)
def test_loss_and_gradient_by_rows_are_those_of_all_rows(rows, gain, kl, upstream, seed):
    torch.manual_seed(seed)
    batch, weights = random_batch(rows), LossWeights(gain, kl, ratio_cap=2.0)
    base = 3 * torch.randn(rows, 50)
    policy = (base + torch.randn(rows, 50)).requires_grad_()
    whole, sums = token_losses(policy, base, batch, weights)
    (want,) = torch.autograd.grad(upstream * whole, policy)
    found, found_sums = loss._ByRows.apply(policy, base, batch, weights)
    (gradient,) = torch.autograd.grad(upstream * found, policy)
    torch.testing.assert_close(found, whole, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(found_sums, sums, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(gradient, want, atol=1e-5, rtol=1e-4)


def test_no_softmax_sees_more_than_a_few_rows(model, monkeypatch):
    """Or a vocabulary of fifty thousand would fill the memory with what one of eight hundred needs."""
    monkeypatch.setattr(loss, "ROWS", 4)
    monkeypatch.setattr(batching, "ROWS", 4)
    seen = []
    softmax = torch.Tensor.log_softmax
    monkeypatch.setattr(
        torch.Tensor, "log_softmax", lambda x, *a, **k: seen.append(len(x)) or softmax(x, *a, **k)
    )
    rollouts = random_rollouts()
    model.set_adapter(1, init_adapter(model.model, LoraSpec(rank=4, alpha=8), seed=0).trainable())
    policy_loss(model, rollouts, 1, WEIGHTS)[0].backward()
    answer_logprobs(model, rollouts, 1)
    model.set_adapter(1, None)
    assert max(seen) <= 4
    assert sum(seen) == 3 * sum(len(rollout.token_ids) for rollout in rollouts)


def test_logprobs_are_those_of_the_tokens_that_were_said(model):
    rollouts = random_rollouts(40)
    logits = answer_logits(model, rollouts)
    said = torch.tensor([token for rollout in rollouts for token in rollout.token_ids])
    want = logits.log_softmax(-1)[torch.arange(len(said)), said]
    assert len(said) > batching.ROWS
    torch.testing.assert_close(answer_logprobs(model, rollouts), want)
    with pytest.raises(RuntimeError, match="does not require grad"):
        answer_logprobs(model, rollouts).sum().backward()
