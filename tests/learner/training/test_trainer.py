"""The policy trainer: which way a step moves, how far, and what it samples."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from burnish.kernels.lora import AdapterWeights, LoraSpec, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner.training.batching import answer_logprobs
from burnish.learner.training.optimiser import read_state
from burnish.learner.training.rollouts import Rollout
from burnish.learner.training.sampling import SCORING_SLOT, PolicySampler
from burnish.learner.training.trainer import SLOT, PolicyTrainer, TrainerConfig
from burnish.serving.engine import LocalEngine
from torch import Tensor

from tests.learner.training.conftest import random_rollouts

CONFIG = TrainerConfig(learning_rate=1e-2, clip_norm=1.0, kl_weight=0.05, kl_budget=10.0)


@pytest.fixture(scope="module")
def engine(model: LoadedModel) -> LocalEngine:
    return LocalEngine(model, max_running=32)


def new_trainer(
    model: LoadedModel, config: TrainerConfig = CONFIG, state: Mapping[str, Tensor] | None = None
) -> PolicyTrainer:
    adapter = init_adapter(model.model, LoraSpec(rank=4, alpha=8), seed=0)
    return PolicyTrainer(model, adapter, config, state)


def likelihood(model: LoadedModel, rollouts: Sequence[Rollout], slot: int = 0) -> float:
    return float(answer_logprobs(model, rollouts, slot).mean())


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_step_moves_answers_by_the_sign_of_their_advantage(model, engine, advantage):
    trainer = new_trainer(model)
    batch = random_rollouts(advantage=advantage)
    before = likelihood(model, batch)
    for _ in range(5):
        trainer.step(batch)
    after = likelihood(model, batch, SLOT)
    trainer.close()
    assert (after - before) * advantage > 0


def test_training_leaves_the_base_as_it_was(model, engine):
    batch = random_rollouts()
    before = likelihood(model, batch)
    trainer = new_trainer(model)
    for _ in range(3):
        trainer.step(batch)
    trainer.close()
    assert likelihood(model, batch) == before


def test_kl_is_zero_at_first_and_grows(model, engine):
    trainer = new_trainer(model)
    batch = random_rollouts()
    reports = [trainer.step(batch) for _ in range(4)]
    trainer.close()
    assert reports[0].kl == pytest.approx(0.0, abs=1e-5)
    assert reports[-1].kl > 0.001
    assert reports[0].entropy > 0


def test_past_its_kl_budget_the_policy_returns(model, engine):
    kls = {}
    for budget in (0.01, 1e9):
        config = TrainerConfig(1e-2, 1.0, kl_weight=1.0, kl_budget=budget)
        trainer = new_trainer(model, config)
        batch = random_rollouts()
        kls[budget] = [trainer.step(batch).kl for _ in range(40)]
        trainer.close()
    assert max(kls[0.01][20:]) < 0.5 < max(kls[1e9][20:])


def test_samples_come_from_the_trained_policy_with_its_probabilities(model, engine):
    trainer = new_trainer(model)
    for _ in range(3):
        trainer.step(random_rollouts())
    policy = PolicySampler(model, engine, trainer)
    groups = policy.sample([(30, 31, 32), (40, 41)], samples=3, max_tokens=6, seed=1)
    assert [len(group) for group in groups] == [3, 3]
    report = trainer.step([r.with_advantage(1.0) for group in groups for r in group])
    policy.close()
    trainer.close()
    assert report.ratio == pytest.approx(1.0, abs=1e-3)
    assert not engine.adapters


def test_given_answers_are_as_likely_as_the_present_weights_make_them(model, engine):
    trainer, batch = new_trainer(model), random_rollouts()
    policy = PolicySampler(model, engine, trainer)
    assert policy.logprobs(batch) == policy.base_logprobs(batch), "it has not moved yet"
    for _ in range(3):
        trainer.step(batch)
    present = policy.logprobs(batch)
    trainer.model.set_adapter(SLOT, trainer.adapter)
    assert [len(tokens) for tokens in present] == [len(rollout.token_ids) for rollout in batch]
    tokens = [logprob for tokens in present for logprob in tokens]
    assert sum(tokens) / len(tokens) == pytest.approx(likelihood(model, batch, SLOT), abs=1e-5)
    own = [replace(r, logprobs=o) for r, o in zip(batch, present, strict=True)]
    assert trainer.step(own).ratio == pytest.approx(1.0, abs=1e-5)
    trainer.close()


class TrainerElsewhere:
    """A trainer that keeps no adapter in this process's model."""

    def __init__(self, adapter: AdapterWeights) -> None:
        self.adapter = adapter.detached()


def test_a_trainer_elsewhere_is_asked_for_its_weights_alone(model, engine):
    trainer, batch = new_trainer(model), random_rollouts()
    for _ in range(3):
        trainer.step(batch)
    here = PolicySampler(model, engine, trainer).logprobs(batch)
    trainer.close()
    elsewhere = PolicySampler(model, engine, TrainerElsewhere(trainer.adapter))  # type: ignore[arg-type]
    for ours, theirs in zip(here, elsewhere.logprobs(batch), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert model.adapter(SCORING_SLOT) is None, "the slot is free again"


def test_the_same_seed_draws_the_same_answers(model, engine):
    trainer = new_trainer(model)
    policy = PolicySampler(model, engine, trainer)
    draws = [policy.sample([(30, 31)], samples=4, max_tokens=8, seed=5) for _ in range(2)]
    policy.close()
    trainer.close()
    assert draws[0] == draws[1]
    assert len({rollout.token_ids for rollout in draws[0][0]}) > 1


def test_importance_weights_are_truncated(model, engine):
    trainer = new_trainer(model)
    report = trainer.step(random_rollouts(logprob=-50.0))
    trainer.close()
    assert report.ratio == pytest.approx(CONFIG.ratio_cap)


def test_training_goes_on_from_a_saved_optimiser_state(model, tmp_path):
    batch = random_rollouts()
    whole = new_trainer(model)
    for _ in range(4):
        whole.step(batch)
    first = new_trainer(model)
    for _ in range(2):
        first.step(batch)
    first.save_optimiser(tmp_path)
    second = PolicyTrainer(model, first.adapter.detached(), CONFIG, read_state(tmp_path))
    for _ in range(2):
        second.step(batch)
    for name, tensor in whole.adapter.tensors.items():
        torch.testing.assert_close(second.adapter.tensors[name], tensor)
    second.close()


def test_past_its_kl_budget_a_policy_returns_in_another_process_too(model, tmp_path):
    config = TrainerConfig(1e-2, 1.0, kl_weight=1.0, kl_budget=1e-4)
    first, batch = new_trainer(model, config), random_rollouts()
    while first.step(batch).kl <= config.kl_budget:
        pass
    first.save_optimiser(tmp_path)
    second = PolicyTrainer(model, first.adapter.detached(), config, read_state(tmp_path))
    first.step(batch)
    second.step(batch)
    for name, tensor in first.adapter.tensors.items():
        torch.testing.assert_close(second.adapter.tensors[name], tensor)
    second.close()
