"""What rules make of groups and logs: advantages, extremes, rehearsal, refusals."""

from random import Random

import pytest
import torch
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.learner import tasks
from burnish.learner.reward.experience import Experience
from burnish.learner.rules import RULES, Lesson, NothingToLearn, Sizes
from burnish.learner.rules.base import extremes, leave_one_out, normalised
from burnish.learner.rules.rehearsal import Rehearsal
from burnish.learner.training.trainer import Answer


@pytest.fixture(scope="module")
def model(tiny_model) -> LoadedModel:
    return load_model(tiny_model)


def answer(text: str = "", tokens: tuple[int, ...] = (1,)) -> Answer:
    return Answer((5, 6), tokens, (-1.0,) * len(tokens), 0.0, text)


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


def test_extremes_are_the_best_and_the_worst():
    group = [answer(name) for name in "abcd"]
    kept = extremes(group, [0.1, 0.9, 0.5, 0.2])
    assert [a.text for a in kept] == ["a", "b"]
    assert kept[0].advantage < 0 < kept[1].advantage
    assert extremes(group, [0.5] * 4) == []


def test_rehearsal_drops_groups_in_which_all_fared_alike():
    task = tasks.sample(Random(0), "arithmetic")
    right, wrong = answer(task.answer), answer("no idea")
    rehearsal = Rehearsal()
    kept, rate = rehearsal.judge(
        [task, task, task], [[right] * 4, [wrong] * 4, [right, wrong, wrong, right]]
    )
    assert [a.text for a in kept] == [task.answer, "no idea"]
    assert kept[0].advantage == -kept[1].advantage > 0
    assert rate == 0.5


def test_what_is_solved_is_rehearsed_less_and_harder_levels_more(model):
    rates = {f"{family}/{level}": 0.5 for family in tasks.FAMILIES for level in (1, 2, 3)}
    rates |= {"arithmetic/1": 1.0, "arithmetic/2": 0.5}
    rehearsal = Rehearsal({"rates": rates})
    drawn = rehearsal.draw(Random(0), 1500, model, room=8)
    levels = [task.level for task in drawn if task.family == "arithmetic"]
    assert levels.count(1) < levels.count(2) / 2
    assert levels.count(1) > 0, "kept in sight"
    assert all(task.split == "train" for task in drawn)


def test_rates_survive_in_the_notes():
    task = tasks.sample(Random(0), "arithmetic")
    rehearsal = Rehearsal()
    rehearsal.judge([task], [[answer(task.answer), answer("no")]])
    assert Rehearsal(rehearsal.notes()).rates == rehearsal.rates


@pytest.mark.parametrize("rule", sorted(RULES))
def test_a_rule_says_why_there_is_nothing_to_learn(rule):
    made = RULES[rule](Sizes(), {}, {})
    lesson = Lesson([judged(1.0, staleness=99)] * 3, torch.zeros(3, 6), [(1, 2)])
    with pytest.raises(NothingToLearn):
        made.prepare(None, lesson, seed=0)  # type: ignore[arg-type]
