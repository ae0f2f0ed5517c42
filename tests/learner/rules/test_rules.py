"""Update rules: advantages, rehearsal, and what gives nothing to learn."""

from collections import Counter
from dataclasses import replace
from random import Random

import pytest
import torch
from burnish.kernels.model import LoadedModel
from burnish.learner.rules import RULES, NothingToLearn, StepConfig
from burnish.learner.rules.base import best_and_worst, normalised
from burnish.learner.rules.corrections import Pair
from burnish.learner.rules.rehearsal import MixedGroup, Rehearsal, Solved
from burnish.learner.tasks import GeneratorPack, Task, TaskSource, open_source
from burnish.learner.training.rollouts import Rollout
from burnish.serving.reward.features import base_features

from tests.learner.reward.conftest import judged as votes
from tests.learner.rules.conftest import data_of, judged, random_log


def rollout(text: str = "", token_ids: tuple[int, ...] = (1,)) -> Rollout:
    return Rollout((5, 6), token_ids, (-1.0,) * len(token_ids), 0.0, text)


def test_normalised_has_unit_size():
    assert normalised([2.0, -2.0]) == [1.0, -1.0]
    assert normalised([0.01, -0.01]) == pytest.approx([1.0, -1.0])
    assert normalised([]) == []


def test_of_each_group_the_best_and_the_worst_are_found_where_they_differ():
    scores = [0.1, 0.9, 0.5, 0.2, 0.5, 0.5, 0.7, 0.3, 0.8]
    assert best_and_worst(scores, [4, 2, 1, 2]) == ([1, 8], [0, 7])
    assert best_and_worst([], []) == ([], [])


def greeting(check=lambda answer: answer == "Hello.") -> Task:
    return Task("greetings", ({"role": "user", "content": "Greet me."},), check)


def lost(*families: str) -> Rehearsal:
    """Rehearsal of families that the base always solves and the policy has lost."""
    return Rehearsal(
        {"solved": dict.fromkeys(families, (32, 32)), "multipliers": dict.fromkeys(families, 0.8)}
    )


def test_rehearsal_drops_groups_that_are_all_right_or_all_wrong():
    task = greeting()
    right, wrong = rollout("Hello."), rollout("no idea")
    mixed, rate = lost("greetings").grade(
        [task, task, task], [[right] * 4, [wrong] * 4, [right, wrong, wrong, right]]
    )
    (group,) = mixed
    assert (len(group.right), len(group.wrong), rate) == (2, 2, 0.5)


def test_an_answer_that_was_cut_is_not_right_but_nothing_is_held_against_it():
    right, wrong = rollout("Hello."), rollout("Well, first of all")
    cut = replace(wrong, truncated=True)
    mixed, rate = lost("greetings").grade(
        [greeting(), greeting()], [[right, cut, cut, cut], [right, cut, wrong, right]]
    )
    assert [group.wrong for group in mixed] == [[wrong]]
    assert rate == 3 / 8


def test_only_a_skill_that_is_below_the_bases_is_rehearsed():
    task, group = greeting(), [rollout("Hello.")] * 7 + [rollout("no")]
    rehearsal = Rehearsal({"solved": {"greetings": (16, 32)}})
    assert rehearsal.grade([task] * 20, [group] * 20)[0] == []
    rehearsal = Rehearsal({"solved": {"greetings": (32, 32)}})
    mixed, _ = rehearsal.grade([task] * 20, [group] * 20)
    assert 0 < mixed[0].weight < mixed[-1].weight <= 1


def test_a_multiplier_returns_to_nothing_once_the_skill_is_back():
    task, rehearsal = greeting(), lost("greetings")
    rehearsal.base["greetings"] = Solved(16, 32)
    for _ in range(20):
        rehearsal.grade([task], [[rollout("Hello.")] * 4])
    assert rehearsal.multiplier(task) == 0


def test_a_pair_is_right_and_wrong_and_alike_in_manner():
    right = [rollout("Hello.", (1,) * 3), rollout("Hello.", (1,) * 9)]
    wrong = [rollout("no", (1,) * 8), rollout("no", (1,) * 20)]
    good, bad = MixedGroup(right, wrong, 0.5).pair(lambda one: len(one.token_ids))
    assert (len(good.token_ids), len(bad.token_ids)) == (9, 8)
    assert (good.advantage, bad.advantage) == (0.5, -0.5)


def test_families_with_a_multiplier_are_drawn_most_and_those_the_base_cannot_do_never(model):
    source = open_source("ember")
    solved = dict.fromkeys(source.families, (26, 32)) | {"sorting": (0, 32), "units": (0, 7)}
    rehearsal = Rehearsal({"multipliers": {"arithmetic": 1.0}})
    rehearsal.begin(source, solved)
    drawn = rehearsal.draw(Random(0), 2000, model, max_tokens=8)
    counts = Counter(task.family for task in drawn)
    assert counts["arithmetic"] > 4 * counts["units"] > 0, "of units too little is known"
    assert counts["sorting"] == 0
    assert len({task.level for task in drawn}) > 1
    assert all(task.split == "train" for task in drawn)


def test_the_share_of_tasks_grows_with_what_is_lost(model):
    source = open_source("ember")
    kept, all_lost = Rehearsal(), lost(*source.families)
    kept.source = all_lost.source = source
    assert len(kept.draw(Random(0), 20, model, 8)) == 4
    assert len(all_lost.draw(Random(0), 20, model, 8)) == 10


def test_what_rehearsal_knows_survives_in_the_state_dict():
    rehearsal = lost("greetings")
    rehearsal.grade([greeting()], [[rollout("Hello."), rollout("no")]])
    assert Rehearsal(rehearsal.state_dict()).state_dict() == rehearsal.state_dict()


def test_a_checker_that_throws_costs_its_group_alone_and_is_told():
    broken = greeting(lambda answer: answer[99] == "x")
    group = [rollout("Hello."), rollout("no")]
    rehearsal = lost("greetings")
    mixed, rate = rehearsal.grade([broken, greeting()], [group, group])
    assert len(mixed) == 1
    assert rate == 0.5
    assert list(rehearsal.source.notes) == [
        "the checker of greetings raised IndexError: string index out of range"
    ]


def test_a_generator_that_throws_costs_its_family_alone_and_is_told(model):
    pack = GeneratorPack("ours", {"bad": failing, "good": lambda rng, level: fresh(rng)})
    rehearsal = Rehearsal()
    rehearsal.source = TaskSource([pack])
    drawn = rehearsal.draw(Random(0), 30, model, max_tokens=8)
    assert [task.family for task in drawn] == ["good"] * 6
    assert list(rehearsal.source.notes) == [
        "ours: the generator of bad raised ZeroDivisionError: division by zero"
    ]


def failing(rng: Random, level: int) -> Task:
    raise ZeroDivisionError("division by zero")


def fresh(rng: Random) -> Task:
    return Task("", ({"role": "user", "content": f"Say {rng.random()}."},), lambda answer: True)


def test_the_base_answers_tasks_of_which_little_is_known_until_enough_is():
    task, other = greeting(), Task("others", ({"role": "user", "content": "Hm?"},), lambda _: True)
    rehearsal = Rehearsal()
    rehearsal.begin(TaskSource(), {"others": (20, 32)})
    rounds = 0
    while unsure := rehearsal.unsure([task, other]):
        assert unsure == [task]
        rehearsal.note_base(unsure, [[rollout("Hello."), rollout("no")]])
        rounds += 1
    assert rounds == 16
    assert rehearsal.base == {"greetings": (16, 32), "others": (20, 32)}
    rehearsal.begin(TaskSource(), {"greetings": (1, 8)})
    assert rehearsal.base["greetings"] == (16, 32), "what is known already stays"


def test_a_family_is_not_held_to_a_base_of_which_hardly_anything_is_known():
    task, nothing_right = greeting(), [[rollout("no")] * 4]
    rehearsal = Rehearsal({"solved": {"greetings": (7, 7)}})
    rehearsal.grade([task], nothing_right)
    assert rehearsal.multiplier(task) == 0
    rehearsal.note_base([task], [[rollout("Hello.")]])
    rehearsal.grade([task], nothing_right)
    assert rehearsal.multiplier(task) > 0


def test_without_a_task_rehearsal_draws_none(model):
    assert Rehearsal().draw(Random(0), 4, model, max_tokens=8) == []


@pytest.mark.parametrize(
    ("rule", "experience", "prompts", "reason"),
    [
        ("reward_model", [judged(1.0)] * 3, [(1, 2)], "all 3 judged answers got the same reward"),
        ("reward_model", [judged(1.0), judged(-1.0)], [], "no logged prompt is short enough"),
        ("pg", [judged(1.0, staleness=9), judged(-1.0, staleness=99)], [], "younger than 8"),
        ("pg", [judged(1.0, chosen=True), judged(-1.0, chosen=True)], [], "no .* plain sample"),
    ],
)
def test_a_rule_says_why_there_is_nothing_to_learn(rule, experience, prompts, reason):
    made = RULES[rule](StepConfig(), {})
    data = data_of(experience, prompts=prompts)
    with pytest.raises(NothingToLearn, match=reason):
        made.prepare(None, data, seed=0)  # type: ignore[arg-type]


def test_of_thousands_of_coin_votes_nothing_is_learnt_and_it_says_why():
    data = data_of([judged(1.0), judged(-1.0)], prompts=[(1, 2)])
    generator = torch.Generator().manual_seed(4)
    answers, _ = votes(2500)
    coins = torch.randint(2, (2500,), generator=generator).float()
    noise = replace(data, evidence=replace(answers, targets=coins))
    with pytest.raises(NothingToLearn, match="agree no more with each other than guesses do"):
        RULES["reward_model"](StepConfig(), {}).prepare(None, noise, seed=0)  # type: ignore[arg-type]


def test_where_nothing_is_learnt_any_more_no_skill_is_rehearsed_either(policy):
    log = random_log(64)
    features = base_features(policy.model, [(item.prompt_ids, item.token_ids) for item in log])
    data = data_of(log, features=features, prompts=[(1, 2)], tasks=open_source("ember"))
    rule = RULES["reward_model"](StepConfig(rollouts=16, max_tokens=4), {})
    rule.prepare(policy, data, seed=0)
    assert "skill" in told(rule, policy)
    coins = torch.randint(2, (64,), generator=torch.Generator().manual_seed(4)).float()
    noise = replace(data.evidence, targets=coins, heard=torch.full((64,), 40.0))
    rule = RULES["reward_model"](StepConfig(rollouts=16, max_tokens=4), rule.state_dict())
    assert rule.prepare(policy, replace(data, evidence=noise), seed=0)["preference_weight"] == 0
    assert "skill" not in told(rule, policy)
    batch = rule.batch(policy, step=0, seed=0)
    assert batch is not None
    assert {rollout.advantage for rollout in batch.rollouts} == {0.0}


def told(rule, policy) -> dict[str, float]:
    """A step's figures that are numbers."""
    batch = rule.batch(policy, step=0, seed=0)
    return {name: value for name, value in batch.figures.items() if value == value}


@pytest.mark.parametrize("before", [True, False])
def test_an_update_that_is_resumed_still_knows_that_it_found_a_change_of_tastes(before, policy):
    log = random_log(16)
    features = base_features(policy.model, [(item.prompt_ids, item.token_ids) for item in log])
    rule = RULES["reward_model"](StepConfig(), {"changed": before})
    rule.prepare(policy, data_of(log, features=features, prompts=[(1, 2)]), seed=0)
    assert rule.state_dict()["changed"] is before


def test_corrections_alone_are_learnt_from(policy, trainer):
    log = [judged(-0.5, token_ids=(20 + n,)) for n in range(8)]
    pairs = [
        Pair(
            Rollout(item.prompt_ids, (120, 130), (), imitated=True),
            Rollout(item.prompt_ids, item.token_ids, item.logprobs),
            weight=1.0,
        )
        for item in log
    ]
    rule = RULES["reward_model"](StepConfig(max_tokens=4), {})
    features = base_features(policy.model, [(item.prompt_ids, item.token_ids) for item in log])
    data = data_of(log, features=features, prompts=[(1, 2)], pairs=pairs)
    rule.prepare(policy, data, seed=0)
    batch = rule.batch(policy, step=0, seed=0)
    assert batch is not None
    assert batch.figures["corrected"] == 4, "two pairs a step"
    liked = [r.token_ids for r in batch.rollouts if r.imitated and r.advantage > 0]
    assert (120, 130) in liked
    before = sum(map(sum, policy.logprobs([pairs[0].chosen])))
    trainer.step(batch.rollouts)
    assert sum(map(sum, policy.logprobs([pairs[0].chosen]))) > before


def test_a_preferred_pair_moves_as_far_down_as_up_by_how_sure_it_is(policy):
    log = random_log(48)
    features = base_features(policy.model, [(item.prompt_ids, item.token_ids) for item in log])
    data = data_of(log, features=features, prompts=[item.prompt_ids for item in log])
    rule = RULES["reward_model"](StepConfig(rollouts=32, max_tokens=4), {})
    weight = rule.prepare(policy, data, seed=0)["preference_weight"]
    batch = rule.batch(policy, step=0, seed=0)
    assert batch is not None
    pairs = list(zip(batch.rollouts[::2], batch.rollouts[1::2], strict=True))
    assert pairs
    for better, worse in pairs:
        assert better.prompt_ids == worse.prompt_ids
        assert 0 <= better.advantage == -worse.advantage <= weight
        assert not worse.imitated
    sure = sum(better.advantage for better, _ in pairs) / len(pairs)
    assert sure == pytest.approx(weight * batch.figures["sure"], rel=1e-4)


class WrongAnswers:
    """A trainer that samples the same wrong answer to every prompt."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    def sample(self, prompts, *, samples: int, max_tokens: int, seed: int, base: bool = False):
        return [[rollout()] * samples for _ in prompts]


def test_policy_gradient_weighs_the_log_against_its_baseline_until_it_has_been_read_twice(model):
    rule = RULES["pg"](StepConfig(rollouts=8, max_tokens=8), {})
    data = data_of([judged(1.0), judged(-1.0)])
    trainer = WrongAnswers(model)
    rule.prepare(trainer, data, seed=0)  # type: ignore[arg-type]
    batch = rule.batch(trainer, 0, seed=0)  # type: ignore[arg-type]
    assert batch is not None
    assert sorted(round(r.advantage) for r in batch.rollouts) == [-1, -1, 1, 1]
    assert rule.batch(trainer, 1, seed=0) is None  # type: ignore[arg-type]
    again = RULES["pg"](StepConfig(), rule.state_dict())
    assert again.state_dict() == rule.state_dict()
