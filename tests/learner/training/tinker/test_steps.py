"""The Tinker trainer's steps are those of PolicyTrainer, but for a penalty that is folded in, and what
they report is known or estimated."""

import math
from dataclasses import replace

import pytest
import torch
from burnish.kernels.lora import LoraSpec, default_targets, init_adapter
from burnish.learner.training.batching import TokenBatch, answer_logits, answer_logprobs
from burnish.learner.training.protocol import NOTHING, Trainer
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.trainer import PolicyTrainer

from tests.learner.training.conftest import random_rollouts
from tests.learner.training.sharded_case import batch_of
from tests.learner.training.tinker.conftest import (
    CONFIG,
    RANK,
    STEPS,
    TOLERANCE,
    changes,
    difference,
    sample,
)
from tests.learner.training.tinker.service import ALPHA


@pytest.mark.parametrize("folder", ["qwen3_moe", "llama"], indirect=True)
def test_steps_are_those_of_the_policy_trainer(model, new_trainer, folder):
    """With behaviour probabilities so far off that importance weights are truncated."""
    spec = LoraSpec(RANK, ALPHA, default_targets(model.outline))
    adapter = init_adapter(model.outline, spec, seed=0)
    here = PolicyTrainer(model, adapter, CONFIG)
    there: Trainer = new_trainer(adapter=adapter)
    for step in range(STEPS):
        want, got = here.step(batch_of(step)), there.step(batch_of(step))
        assert (got.answers, got.tokens) == (want.answers, want.tokens)
        assert got.ratio == pytest.approx(want.ratio, rel=1e-4)
        assert got.grad_norm == pytest.approx(want.grad_norm, rel=1e-4)
    here.close()
    assert difference(model, there.adapter, here.adapter.detached()) < TOLERANCE
    assert changes(model, here.adapter).norm() > 0.1


def test_what_is_downloaded_is_what_acts_and_learns(engine, new_trainer, service):
    trainer = new_trainer()
    for step in range(2):
        trainer.step(batch_of(step))
    rollouts = [rollout.with_advantage(1.0) for rollout in sample(engine, trainer)]
    report = trainer.step(rollouts)
    assert report.ratio == pytest.approx(1.0, abs=1e-3)
    assert service.calls["files"] == 2, "two files, downloaded once"
    assert not [path for path in service.checkpoints if "external" in path]


def test_kl_and_entropy_are_estimates_of_the_exact_ones(engine, model, new_trainer):
    trainer = new_trainer(replace(CONFIG, learning_rate=5e-2))
    for step in range(3):
        trainer.step(batch_of(step))
    assert trainer.step(random_rollouts()).kl > 0.001
    rollouts = sample(engine, trainer)
    model.set_adapter(1, trainer.adapter)
    with torch.no_grad():
        base, policy = (answer_logits(model, rollouts, slot).log_softmax(-1) for slot in (0, 1))
    model.set_adapter(1, None)
    kl = float((policy.exp() * (policy - base)).sum(1).mean())
    entropy = float(-(policy.exp() * policy).sum(1).mean())
    report = trainer.step(rollouts)
    assert report.kl == pytest.approx(kl, rel=0.25)
    assert report.entropy == pytest.approx(entropy, rel=0.05)


@pytest.mark.parametrize(("budget", "gain", "weight"), [(10.0, 1.0, 0.5), (1e-6, 0.0, 2.0)])
def test_the_penalty_is_folded_into_the_advantages_and_alone_past_the_budget(
    model, new_trainer, service, budget, gain, weight
):
    """Each token's share: the batch's mean of log p_behaviour - log p_base, less its own."""
    trainer = new_trainer(replace(CONFIG, kl_weight=0.5, kl_budget=budget))
    assert trainer.step(random_rollouts()).kl == pytest.approx(0.0, abs=1e-5)
    assert trainer.step(random_rollouts()).kl > 1e-4
    service.advantages.clear()
    rollouts = batch_of(0)
    trainer.step(rollouts)
    batch = TokenBatch.of(rollouts, torch.device("cpu"))
    drift = batch.behaviour - answer_logprobs(model, rollouts)
    want = gain * batch.advantage + weight * (drift.mean() - drift)
    answers = [
        of[len(rollout.prompt_ids) - 1 :]
        for of, rollout in zip(service.advantages, rollouts, strict=True)
    ]
    torch.testing.assert_close(torch.cat(answers) * len(want), want, atol=1e-4, rtol=1e-4)
    prompts = [
        of[: len(rollout.prompt_ids) - 1]
        for of, rollout in zip(service.advantages, rollouts, strict=True)
    ]
    assert not torch.cat(prompts).any()


def test_the_penalty_brings_the_policy_back(engine, new_trainer):
    trainer = new_trainer(replace(CONFIG, kl_weight=0.5, learning_rate=3e-2))
    for _ in range(6):
        trainer.step([r.with_advantage(5.0) for r in random_rollouts(logprob=-2.0)])
    kls = [trainer.step(sample(engine, trainer, 24, seed=100 * i)).kl for i in range(5)]
    assert sum(kls[-2:]) / 2 < 0.75 * kls[0], kls


def test_a_batch_without_answers_asks_nothing_of_the_service(new_trainer, service):
    trainer = new_trainer()
    assert trainer.step([Rollout((1, 2), (), ())]) == NOTHING
    assert not service.calls["forward_backward"] + service.calls["asample"]


def test_a_norm_that_is_not_told_is_not_made_up(new_trainer, service):
    service.tells_norm = False
    assert math.isnan(new_trainer().step(batch_of(0)).grad_norm)
