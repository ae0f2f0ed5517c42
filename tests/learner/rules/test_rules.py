"""Update rules: advantages, rehearsal, and what gives nothing to learn."""

from random import Random

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.learner.reward.experience import Experience
from burnish.learner.rules import RULES, NothingToLearn, StepConfig, TrainingData
from burnish.learner.rules.base import best_and_worst, leave_one_out, normalised
from burnish.learner.rules.rehearsal import Rehearsal
from burnish.learner.tasks import GeneratorPack, Task, TaskSource, open_source
from burnish.learner.training.rollouts import Rollout


@pytest.fixture(scope="module")
def model(tiny_model) -> LoadedModel:
    return load_model(tiny_model)


def rollout(text: str = "", token_ids: tuple[int, ...] = (1,)) -> Rollout:
    return Rollout((5, 6), token_ids, (-1.0,) * len(token_ids), 0.0, text)


def judged(reward: float, staleness: int = 0) -> Experience:
    return Experience(
        interaction_id="i",
        choice=0,
        version=1,
        staleness=staleness,
        tenant="t",
        user=None,
        prompt_ids=(1, 2),
        token_ids=(3,),
        logprobs=(-1.0,),
        reward=reward,
        weight=1.0,
        judged_at=0.0,
    )


def test_leave_one_out_compares_with_the_others():
    assert leave_one_out([1.0, 0.0, 0.0]) == [1.0, -0.5, -0.5]
    assert leave_one_out([3.0]) == [0.0]
    assert leave_one_out([2.0, 2.0]) == [0.0, 0.0]


def test_normalised_has_unit_size_but_does_not_blow_up_noise():
    assert normalised([2.0, -2.0]) == [1.0, -1.0]
    assert max(normalised([1e-4, -1e-4])) < 0.01
    assert normalised([]) == []


def test_of_a_group_the_worst_and_the_best_are_kept():
    group = [rollout(name) for name in "abcd"]
    kept = best_and_worst(group, [0.1, 0.9, 0.5, 0.2])
    assert [r.text for r in kept] == ["a", "b"]
    assert kept[0].advantage < 0 < kept[1].advantage
    assert best_and_worst(group, [0.5] * 4) == []


def test_rollouts_without_tokens_are_not_kept():
    group = [rollout("a", ()), rollout("b"), rollout("c")]
    assert [r.text for r in best_and_worst(group, [0.1, 0.9, 0.5])] == ["c", "b"]
    assert best_and_worst(group[:2], [0.1, 0.9]) == []


def greeting(check=lambda answer: answer == "Hello.") -> Task:
    return Task("greetings", ({"role": "user", "content": "Greet me."},), check)


def test_rehearsal_drops_groups_that_are_all_right_or_all_wrong():
    task = greeting()
    right, wrong = rollout("Hello."), rollout("no idea")
    rehearsal = Rehearsal()
    kept, rate = rehearsal.grade(
        [task, task, task], [[right] * 4, [wrong] * 4, [right, wrong, wrong, right]]
    )
    assert [r.text for r in kept] == ["Hello.", "no idea"]
    assert kept[0].advantage == -kept[1].advantage > 0
    assert rate == 0.5


def test_what_is_solved_is_rehearsed_less_and_harder_levels_more(model):
    source = open_source("ember")
    rates = {f"{family}/{level}": 0.5 for family, level in source.pools}
    rates |= {"arithmetic/1": 1.0, "arithmetic/2": 0.5}
    rehearsal = Rehearsal({"rates": rates})
    rehearsal.source = source
    drawn = rehearsal.draw(Random(0), 1500, model, max_tokens=8)
    levels = [task.level for task in drawn if task.family == "arithmetic"]
    assert levels.count(1) < levels.count(2) / 2
    assert levels.count(1) > 0
    assert all(task.split == "train" for task in drawn)


def test_success_rates_survive_in_the_state_dict():
    rehearsal = Rehearsal()
    rehearsal.grade([greeting()], [[rollout("Hello."), rollout("no")]])
    assert Rehearsal(rehearsal.state_dict()).rates == rehearsal.rates


def test_a_checker_that_throws_costs_its_group_alone_and_is_told():
    broken = greeting(lambda answer: answer[99] == "x")
    group = [rollout("Hello."), rollout("no")]
    rehearsal = Rehearsal()
    kept, rate = rehearsal.grade([broken, greeting()], [group, group])
    assert [r.text for r in kept] == ["Hello.", "no"]
    assert rate == 0.5
    assert list(rehearsal.source.notes) == [
        "the checker of greetings raised IndexError: string index out of range"
    ]


def test_a_generator_that_throws_costs_its_family_alone_and_is_told(model):
    pack = GeneratorPack("ours", {"bad": failing, "good": lambda rng, level: fresh(rng)})
    rehearsal = Rehearsal()
    rehearsal.source = TaskSource([pack])
    drawn = rehearsal.draw(Random(0), 6, model, max_tokens=8)
    assert [task.family for task in drawn] == ["good"] * 6
    assert list(rehearsal.source.notes) == [
        "ours: the generator of bad raised ZeroDivisionError: division by zero"
    ]


def failing(rng: Random, level: int) -> Task:
    raise ZeroDivisionError("division by zero")


def fresh(rng: Random) -> Task:
    return Task("", ({"role": "user", "content": f"Say {rng.random()}."},), lambda answer: True)


def test_without_a_task_rehearsal_draws_none(model):
    assert Rehearsal().draw(Random(0), 4, model, max_tokens=8) == []


@pytest.mark.parametrize(
    ("rule", "experience", "prompts", "reason"),
    [
        ("reward_model", [judged(1.0)] * 3, [(1, 2)], "all 3 judged answers got the same reward"),
        ("reward_model", [judged(1.0), judged(-1.0)], [], "no logged prompt is short enough"),
        ("pg", [judged(1.0, staleness=9), judged(-1.0, staleness=99)], [], "younger than 8"),
    ],
)
def test_a_rule_says_why_there_is_nothing_to_learn(rule, experience, prompts, reason):
    made = RULES[rule](StepConfig(), {})
    data = TrainingData(experience, torch.zeros(len(experience), 6), prompts)
    with pytest.raises(NothingToLearn, match=reason):
        made.prepare(None, data, seed=0)  # type: ignore[arg-type]


class WrongAnswers:
    """A trainer that samples the same wrong answer to every prompt."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    def sample(self, prompts, *, samples: int, max_tokens: int, seed: int):
        return [[rollout()] * samples for _ in prompts]


def test_policy_gradient_weighs_the_log_against_its_baseline_until_it_has_been_read_twice(model):
    rule = RULES["pg"](StepConfig(rollouts=8, max_tokens=8), {})
    data = TrainingData([judged(1.0), judged(-1.0)], torch.zeros(2, 6), [])
    trainer = WrongAnswers(model)
    rule.prepare(trainer, data, seed=0)  # type: ignore[arg-type]
    batch = rule.batch(trainer, 0, seed=0)  # type: ignore[arg-type]
    assert batch is not None
    assert sorted(round(r.advantage) for r in batch.rollouts) == [-1, -1, 1, 1]
    assert rule.batch(trainer, 1, seed=0) is None  # type: ignore[arg-type]
    again = RULES["pg"](StepConfig(), rule.state_dict())
    assert again.state_dict() == rule.state_dict()
