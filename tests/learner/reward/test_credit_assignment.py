"""Whose a session's judgement is: laws of the shares, and a world in which one turn is to blame."""

from collections import defaultdict
from random import Random

import pytest
import torch
from burnish.feedback.judgements import Judgement
from burnish.feedback.rewards import reward_of
from burnish.learner.reward.credit_assignment import assigned, responsibilities
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import JudgedAnswer
from burnish.learner.reward.fitting import fit
from burnish.serving.reward.kernel import Hyperparameters
from hypothesis import given
from hypothesis import strategies as st

from tests.feedback.judged import judged
from tests.learner.reward.conftest import alike_in_manner

EXPECTED = st.floats(-1.5, 1.5)  # a model's mean is not bounded
TURNS = st.lists(EXPECTED, min_size=1, max_size=8)
VERDICTS = st.one_of(
    st.tuples(st.just("thumbs"), st.sampled_from(["up", "down"])),
    st.tuples(st.just("score"), st.floats(0, 1)),
    st.tuples(st.just("correction"), st.just("text")),
)


def answer(turn: str, *judgements: Judgement, choice: int = 0) -> JudgedAnswer:
    return JudgedAnswer(
        interaction_id=turn,
        choice=choice,
        version=1,
        staleness=0,
        tenant="acme",
        user="ann",
        prompt_ids=(1,),
        token_ids=(2,),
        logprobs=(-1.0,),
        judged_at=0.0,
        judgements=judgements,
    )


def session(
    name: str, verdict: tuple[str, float | str], turns: int, size: int | None = None
) -> list[JudgedAnswer]:
    """The turns of a judged session of `size` turns, as they are loaded."""
    found = []
    for number in range(turns):
        turn = f"{name}/{number}"
        place = {"id": name, "session_id": name, "interaction_id": turn}
        given = judged(*verdict, f"user of {name}", share=1 / (size or turns), **place)
        found.append(answer(turn, given))
    return found


def shares(answers: list[JudgedAnswer]) -> list[float]:
    return [judgement.share for item in answers for judgement in item.judgements]


@given(VERDICTS, TURNS, st.integers(0, 3))
def test_shares_sum_to_what_they_did(verdict, expected: list[float], missing: int):
    before = session("s", verdict, len(expected), len(expected) + missing)
    after = shares(assigned(before, expected))
    assert sum(after) == pytest.approx(sum(shares(before)))
    assert all(share >= 0 for share in after)


@given(VERDICTS, TURNS)
def test_without_a_reward_model_they_are_equal(verdict, expected: list[float]):
    before = session("s", verdict, len(expected))
    assert assigned(before, None) == before


@given(VERDICTS, st.integers(1, 8), EXPECTED)
def test_turns_of_which_the_same_is_expected_share_alike(verdict, turns: int, reward: float):
    before = session("s", verdict, turns)
    assert shares(assigned(before, [reward] * turns)) == pytest.approx(shares(before))


@given(TURNS, st.sampled_from(["up", "down"]))
def test_the_turn_that_agrees_most_with_the_verdict_has_most_of_it(expected, value: str):
    found = shares(assigned(session("s", ("thumbs", value), len(expected)), expected))
    likeliest = max(expected) if value == "up" else min(expected)
    assert found[expected.index(likeliest)] == pytest.approx(max(found))


@given(st.permutations([-0.9, -0.3, 0.2, 0.8]), VERDICTS)
def test_the_order_of_turns_makes_no_difference(expected: list[float], verdict):
    before = session("s", verdict, 4)
    there = dict(zip(expected, shares(assigned(before, expected)), strict=True))
    straight = [-0.9, -0.3, 0.2, 0.8]
    assert [there[reward] for reward in straight] == pytest.approx(
        shares(assigned(before, straight))
    )


@given(st.lists(st.floats(-3, 0), min_size=1), st.data())
def test_responsibilities_keep_the_sum(log_likelihoods: list[float], data: st.DataObject):
    size = len(log_likelihoods)
    given_ = data.draw(st.lists(st.floats(0.01, 1), min_size=size, max_size=size))
    assert sum(responsibilities(log_likelihoods, given_)) == pytest.approx(sum(given_))


def test_what_is_said_of_an_answer_itself_stays_whole():
    own = judged("thumbs", "up", "ben", interaction_id="s/0")
    first, second = session("s", ("thumbs", "down"), 2)
    first = answer("s/0", *first.judgements, own)
    both = assigned([first, second], [0.9, -0.9])
    assert both[0].judgements[1] == own
    assert both[1].judgements[0].share > 0.9 > 0.1 > both[0].judgements[0].share


def test_two_answers_of_one_turn_are_one_turn():
    (first, second) = session("s", ("thumbs", "down"), 2)
    other = answer("s/1", *second.judgements, choice=1)
    found = shares(assigned([first, second, other], [0.0, -0.5, 0.5]))
    assert found == pytest.approx([found[0], 1 - found[0], 1 - found[0]])


def world(sessions: int, seed: int = 0) -> tuple[list[JudgedAnswer], torch.Tensor, list[bool]]:
    """Sessions of four turns. A turn is bad now and then, which its features show; people dislike a
    session with a bad turn, and one in ten hits the wrong button."""
    rng, generator = Random(seed), torch.Generator().manual_seed(seed)
    styles = 2 * torch.randn(2, 2 * 16, generator=torch.Generator().manual_seed(99))
    answers, features, bad = [], [], []
    for number in range(sessions):
        turns = [rng.random() < 0.2 for _ in range(4)]
        liked = any(turns) == (rng.random() < 0.1)
        answers += session(str(number), ("thumbs", "up" if liked else "down"), 4)
        noise = torch.randn(4, 3 * 16, generator=generator)
        noise[:, 16:] += styles[[int(turn) for turn in turns]]
        features.append(alike_in_manner(noise))
        bad += turns
    return answers, torch.cat(features), bad


def blame(answers: list[JudgedAnswer], bad: list[bool]) -> list[list[float]]:
    """The shares of each disliked session with one bad turn, that turn's first."""
    turns: dict[str, list[tuple[bool, Judgement]]] = defaultdict(list)
    for item, was_bad in zip(answers, bad, strict=True):
        turns[item.interaction_id.split("/")[0]].append((was_bad, item.judgements[0]))
    return [
        [judgement.share for _, judgement in sorted(of_session, key=lambda turn: not turn[0])]
        for of_session in turns.values()
        if sum(was_bad for was_bad, _ in of_session) == 1 and of_session[0][1].value == "down"
    ]


def mean_of_first(shares_of_sessions: list[list[float]]) -> float:
    return sum(first for first, *_ in shares_of_sessions) / len(shares_of_sessions)


def test_the_bad_turn_gets_the_blame_and_more_with_each_fit():
    answers, features, bad = world(80)
    found = [mean_of_first(blame(answers, bad))]
    for _ in range(4):
        rewards = [reward for item in answers if (reward := reward_of(item.judgements))]
        evidence = Evidence(
            features,
            torch.tensor([(reward.value + 1) / 2 for reward in rewards]),
            torch.tensor([reward.weight for reward in rewards]),
            [item.interaction_id.split("/")[0] for item in answers],
        )
        model = fit(evidence, evidence.ages, Hyperparameters()).model
        answers = assigned(answers, (2 * model.mean(features) - 1).tolist())
        found.append(mean_of_first(blame(answers, bad)))
    assert found[0] == pytest.approx(0.25)
    assert found == sorted(found)
    assert found[-1] > 0.45
    blamed = [first == max(first, *others) for first, *others in blame(answers, bad)]
    assert sum(blamed) > 0.9 * len(blamed)
