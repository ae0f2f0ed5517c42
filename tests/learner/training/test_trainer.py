from pathlib import Path
from random import Random

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.lora import LoraSpec, init_adapter
from burnish.kernels.model import LoadedModel
from burnish.learner import tasks
from burnish.learner.training.trainer import (
    Answer,
    PolicyTrainer,
    Tokens,
    TrainerConfig,
    base_features,
    chunks,
    task_prompt,
)
from burnish.serving.engine import LocalEngine

HYPER = TrainerConfig(learning_rate=1e-2, clip_norm=1.0, kl_weight=0.05, kl_budget=10.0)


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model)


@pytest.fixture(scope="module")
def engine(model: LoadedModel) -> LocalEngine:
    return LocalEngine(model, max_running=32)


def trainee(
    model: LoadedModel, engine: LocalEngine, hyper: TrainerConfig = HYPER, **more
) -> PolicyTrainer:
    adapter = init_adapter(model.model, LoraSpec(rank=4, alpha=8), seed=0)
    return PolicyTrainer(model, engine, adapter, hyper, **more)


def answers(count: int = 8, advantage: float = 1.0) -> list[Answer]:
    rng = Random(0)
    return [
        Answer(
            tuple(rng.randrange(20, 200) for _ in range(rng.randrange(3, 9))),
            tuple(rng.randrange(20, 200) for _ in range(rng.randrange(2, 6))),
            (-5.0,) * 5,
            advantage,
        )
        for _ in range(count)
    ]


def fitting(some: list[Answer]) -> list[Answer]:
    return [Answer(a.prompt, a.tokens, a.logprobs[: len(a.tokens)], a.advantage) for a in some]


def likelihood(model: LoadedModel, some: list[Answer], slot: int) -> float:
    batch = Tokens.of(some, torch.device("cpu"))
    with torch.no_grad():
        logits = model.read(
            [a.prompt + a.tokens for a in some], [len(a.prompt) for a in some], slot
        )
    return float(logits.log_softmax(-1).gather(1, batch.chosen[:, None]).mean())


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_step_moves_answers_by_the_sign_of_their_advantage(model, engine, advantage):
    from burnish.learner.training.trainer import SLOT

    learner = trainee(model, engine)
    batch = fitting(answers(advantage=advantage))
    before = likelihood(model, batch, slot=0)
    for _ in range(5):
        learner.step(batch)
    after = likelihood(model, batch, slot=SLOT)
    learner.close()
    assert (after - before) * advantage > 0


def test_training_leaves_the_base_as_it_was(model, engine):
    batch = fitting(answers())
    before = likelihood(model, batch, slot=0)
    learner = trainee(model, engine)
    for _ in range(3):
        learner.step(batch)
    learner.close()
    assert likelihood(model, batch, slot=0) == before


def test_kl_is_zero_at_first_and_grows(model, engine):
    learner = trainee(model, engine)
    batch = fitting(answers())
    reports = [learner.step(batch) for _ in range(4)]
    learner.close()
    assert reports[0].kl == pytest.approx(0.0, abs=1e-5)
    assert reports[-1].kl > 0.001
    assert reports[0].entropy > 0


def test_past_its_kl_budget_the_policy_is_only_pulled_back(model, engine):
    learner = trainee(model, engine, TrainerConfig(1e-2, 1.0, kl_weight=1.0, kl_budget=0.01))
    batch = fitting(answers())
    kls = [learner.step(batch).kl for _ in range(40)]
    learner.close()
    assert max(kls[20:]) < 0.5


def test_it_samples_what_it_has_learnt_and_knows_the_odds(model, engine):
    learner = trainee(model, engine)
    for _ in range(3):
        learner.step(fitting(answers()))
    groups = learner.sample([(30, 31, 32), (40, 41)], samples=3, max_tokens=6, seed=1)
    assert [len(group) for group in groups] == [3, 3]
    report = learner.step([a.with_advantage(1.0) for group in groups for a in group])
    learner.close()
    assert report.ratio == pytest.approx(1.0, abs=1e-3), "what it drew is what it now is"
    assert not engine.adapters


def test_the_same_seed_draws_the_same_answers(model, engine):
    learner = trainee(model, engine)
    draws = [learner.sample([(30, 31)], samples=4, max_tokens=8, seed=5) for _ in range(2)]
    learner.close()
    assert draws[0] == draws[1]
    assert len({answer.tokens for answer in draws[0][0]}) > 1


def test_importance_weights_are_truncated(model, engine):
    learner = trainee(model, engine)
    batch = [Answer(a.prompt, a.tokens, (-50.0,) * len(a.tokens), 1.0) for a in answers()]
    report = learner.step(batch)
    learner.close()
    assert report.ratio == pytest.approx(HYPER.ratio_cap)


def test_moments_survive_being_saved(model, engine):
    batch = fitting(answers())
    whole = trainee(model, engine)
    for _ in range(4):
        whole.step(batch)
    first = trainee(model, engine)
    for _ in range(2):
        first.step(batch)
    second = PolicyTrainer(model, engine, first.adapter.detached(), HYPER, first.moments())
    for _ in range(2):
        second.step(batch)
    for name, tensor in whole.adapter.tensors.items():
        torch.testing.assert_close(second.adapter.tensors[name], tensor)
    second.close()


def test_features_do_not_depend_on_the_company(model):
    some = fitting(answers(6))
    together = base_features(model, some)
    alone = torch.cat([base_features(model, [answer]) for answer in some])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4)
    assert together.shape == (6, 3 * model.config.hidden_size)


def test_chunks_keep_everybody_and_their_size():
    some = answers(50)
    groups = list(chunks(some, budget=64))
    assert sorted(map(id, (a for group in groups for a in group))) == sorted(map(id, some))
    assert all(
        len(group) == 1 or len(group) * max(len(a.prompt) + len(a.tokens) for a in group) <= 64
        for group in groups
    )


@pytest.mark.parametrize("family", sorted(tasks.FAMILIES))
def test_every_family_has_a_prompt(model, family):
    task = tasks.sample(Random(0), family)
    assert len(task_prompt(model, task)) > 3
