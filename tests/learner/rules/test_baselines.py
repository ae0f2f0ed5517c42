"""The rules to compare with, `kto`, `dpo` and `grpo`: their losses' slopes, what they learn from, and which way."""

from random import Random

import pytest
import torch
from burnish.learner.reward.experience import Correction
from burnish.learner.rules import RULES, NothingToLearn, StepConfig, TrainingData
from burnish.learner.rules.corrections import corrections
from burnish.learner.rules.dpo import dpo_slopes, liked_and_disliked
from burnish.learner.rules.grpo import group_advantages
from burnish.learner.rules.kto import Lambdas, kto_slopes
from burnish.learner.rules.sequence_loss import EPOCHS, descending, read_in_batches
from burnish.learner.tasks import GeneratorPack, Task, TaskSource
from burnish.learner.training.rollouts import Rollout
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid

from tests.learner.rules.conftest import data_of, judged, random_log

ratios = st.floats(-20, 20)
betas = st.floats(0.01, 2)
weights = st.floats(0.05, 1)


def slopes_of(loss: Tensor, log_probabilities: Tensor) -> list[float]:
    (gradient,) = torch.autograd.grad(loss, log_probabilities)
    return gradient.tolist()


@given(
    st.lists(st.tuples(ratios, weights, st.booleans()), min_size=1, max_size=6),
    st.floats(0, 10),
    betas,
)
def test_ktos_slopes_are_those_of_its_loss(answers, kl, beta):
    lambdas = Lambdas(1.0, 1.7)
    logs = torch.tensor([ratio for ratio, _, _ in answers], dtype=torch.float64, requires_grad=True)
    losses = [
        weight * 1.0 * (1 - torch.sigmoid(beta * (log - kl)))
        if liked
        else weight * 1.7 * (1 - torch.sigmoid(beta * (kl - log)))
        for log, (_, weight, liked) in zip(logs, answers, strict=True)
    ]
    rewards = [weight if liked else -weight for _, weight, liked in answers]
    found = kto_slopes(logs.tolist(), rewards, kl, beta, lambdas)
    assert found == pytest.approx(slopes_of(torch.stack(losses).mean(), logs), rel=1e-6, abs=1e-12)


@given(
    st.lists(st.tuples(ratios, weights), min_size=1, max_size=6), betas, st.sampled_from([0, 0.1])
)
def test_dpos_slopes_are_those_of_its_loss(pairs, beta, smoothing):
    margins = torch.tensor([margin for margin, _ in pairs], dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor([weight for _, weight in pairs], dtype=torch.float64)
    losses = -(1 - smoothing) * logsigmoid(beta * margins) - smoothing * logsigmoid(-beta * margins)
    found = dpo_slopes(margins.tolist(), sizes.tolist(), beta, smoothing)
    wanted = slopes_of((sizes * losses).mean(), margins)
    assert found == pytest.approx(wanted, rel=1e-6, abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_a_groups_advantages_cancel_out(rewards):
    assert sum(group_advantages(rewards)) == pytest.approx(0, abs=1e-9)


def test_both_sides_weigh_the_same_and_none_less_than_one():
    assert Lambdas.balancing(30, 10) == Lambdas(1.0, 3.0)
    assert Lambdas.balancing(10, 30) == Lambdas(3.0, 1.0)
    assert Lambdas.balancing(7, 0) == Lambdas(1.0, 1.0)


def test_an_advantage_is_a_slope_down_by_all_tokens_of_the_step():
    long, short, flat = (Rollout((1,), (2,) * length, ()) for length in (4, 2, 3))
    down = descending([long, short, flat], [0.5, -0.25, 0.0])
    assert [(len(r.token_ids), r.advantage) for r in down] == [(4, -3.0), (2, 1.5)]


def test_a_log_is_read_whole_in_each_epoch():
    log = list(range(5))
    batches = read_in_batches(log, 2, seed=3)
    assert [len(batch) for batch in batches] == [2, 2, 1] * EPOCHS
    assert sorted(entry for batch in batches[:3] for entry in batch) == log
    assert batches != read_in_batches(log, 2, seed=4)


def pair_texts(pairs) -> list[tuple[tuple[int, ...], tuple[int, ...], float]]:
    return [(pair.chosen.token_ids, pair.rejected.token_ids, pair.weight) for pair in pairs]


def test_of_one_prompt_the_best_meets_the_worst_and_each_answer_once():
    group = [
        judged(reward, token_ids=(number,), weight=weight)
        for number, (reward, weight) in enumerate(
            [(1.0, 0.5), (-1.0, 1.0), (0.4, 1.0), (-0.2, 0.3), (1.0, 1.0), (0.0, 1.0)], start=10
        )
    ]
    lonely = [judged(1.0, prompt_ids=(7,)), judged(-1.0, prompt_ids=(8,))]
    found = pair_texts(liked_and_disliked([*group, *lonely]))
    assert found == [((14,), (11,), 1.0), ((10,), (13,), 0.3)]


def test_the_same_answer_liked_and_disliked_is_no_pair():
    assert list(liked_and_disliked([judged(1.0), judged(-1.0)])) == []


def test_a_correction_ends_as_the_answer_it_corrects_does(model):
    (end,) = model.eos_token_ids
    encode = model.tokenizer.encode
    wrong = (*encode("five"), end)
    item = judged(-0.5, token_ids=wrong, corrections=(Correction("four", 0.4),))
    (pair,) = corrections([item], model, max_tokens=8)
    assert pair.chosen.token_ids == (*encode("four"), end)
    assert (pair.rejected.token_ids, pair.weight) == (wrong, 0.4)


@pytest.mark.parametrize("text", ["", " \n", "five", "a<|im_end|>\n<|im_start|>user", "word " * 40])
def test_a_correction_that_says_nothing_new_or_too_much_is_left_out(model, text):
    wrong = (*model.tokenizer.encode("five"), *model.eos_token_ids)
    item = judged(-0.5, token_ids=wrong, corrections=(Correction(text, 1.0),))
    assert list(corrections([item], model, max_tokens=24)) == []


@pytest.mark.parametrize(
    ("rule", "experience", "reason"),
    [
        ("kto", [judged(0.0)], "no answer was judged to be good or bad"),
        ("dpo", [judged(1.0), judged(-1.0, prompt_ids=(9,))], "nobody corrected an answer"),
        ("grpo", [judged(1.0)], "no verifiable task"),
    ],
)
def test_a_rule_says_why_there_is_nothing_to_learn(policy, rule, experience, reason):
    with pytest.raises(NothingToLearn, match=reason):
        RULES[rule](StepConfig(), {}).prepare(policy, data_of(experience), seed=0)


def train(rule: str, policy, trainer, data: TrainingData, steps: int, **config) -> list[dict]:
    """The figures of each step."""
    made = RULES[rule](StepConfig(**config), {})
    made.prepare(policy, data, seed=0)
    figures = []
    for step in range(steps):
        batch = made.batch(policy, step, seed=0)
        if batch is None:
            break
        trainer.step(batch.rollouts)
        figures.append(dict(batch.figures))
    return figures


@pytest.mark.parametrize("rule", ["kto", "dpo"])
def test_what_is_preferred_becomes_more_likely_than_the_rest(rule, policy, trainer):
    log = random_log(12)
    if rule == "dpo":
        log = [judged(e.reward, prompt_ids=(5, 6, 7), token_ids=e.token_ids) for e in log]
    figures = train(rule, policy, trainer, data_of(log * 8), 16, rollouts=12, beta=0.1)
    assert figures[-1]["margin"] > figures[0]["margin"] + 5


def test_a_log_is_over_after_its_epochs(policy, trainer):
    figures = train("kto", policy, trainer, data_of(random_log(5)), 99, rollouts=4)
    assert len(figures) == 2 * EPOCHS


def test_grpo_makes_right_answers_likelier_without_any_judgement(policy, trainer):
    def ask(rng: Random, level: int) -> Task:
        words = {"role": "user", "content": f"Say {rng.randrange(3)}."}
        return Task("", (words,), lambda answer: "e" in answer)

    tasks = TaskSource([GeneratorPack("ours", {"e": ask})])
    options = {"rollouts": 48, "samples_per_prompt": 8, "max_tokens": 4}
    figures = train("grpo", policy, trainer, data_of([], tasks=tasks), 8, **options)
    assert figures[-1]["skill"] > figures[0]["skill"] + 0.2


def test_a_checker_that_throws_costs_its_group_alone(policy, trainer):
    def fail(rng: Random, level: int) -> Task:
        words = {"role": "user", "content": f"Say {rng.random()}."}
        return Task("", (words,), lambda answer: answer[999] == "x")

    tasks = TaskSource([GeneratorPack("ours", {"bad": fail})])
    (figures,) = train(
        "grpo", policy, trainer, data_of([], tasks=tasks), 1, rollouts=8, max_tokens=2
    )
    assert figures == {"skill": 0.0}
    assert "the checker of bad raised IndexError" in next(iter(tasks.notes))
