"""Whether people agree on anything: noise is told from taste, and agreeing with oneself counts for nothing."""

from dataclasses import replace

import pytest
import torch
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.fitting import fit
from burnish.learner.reward.significance import LEAST_WORTH, score, worth
from burnish.serving.reward.kernel import Hyperparameters
from hypothesis import given
from hypothesis import strategies as st

from tests.learner.reward.conftest import judged


def agreement(evidence: Evidence) -> float:
    return score(evidence, fit(evidence, evidence.ages, Hyperparameters()).model)


def coins(evidence: Evidence, seed: int) -> Evidence:
    """The same answers, judged by the toss of a coin."""
    generator = torch.Generator().manual_seed(seed)
    return replace(
        evidence, targets=torch.randint(2, (len(evidence),), generator=generator).float()
    )


def test_of_noise_it_is_standard_normal():
    answers, _ = judged(200)
    scores = torch.tensor([agreement(coins(answers, seed)) for seed in range(1000, 1060)])
    assert abs(float(scores.mean())) < 0.4
    assert 0.6 < float(scores.std()) < 1.3


def test_it_grows_with_the_votes_of_people_who_agree():
    few, many = (agreement(judged(count)[0]) for count in (100, 400))
    assert many > few + 3


def test_agreeing_with_oneself_tells_nothing():
    """Each rater likes one style throughout, half of them this and half of them that."""
    answers, liked = judged(400, flips=0.0)
    own = torch.tensor([int(str(rater)[1:]) % 2 for rater in answers.raters])
    contrary = replace(answers, targets=(liked + own) % 2)
    assert agreement(contrary) < 1


def test_one_person_alone_is_held_against_the_same_person():
    answers, _ = judged(400)
    alone = replace(answers, raters=["one"] * 400)
    assert agreement(alone) > 3
    assert agreement(coins(alone, 1000)) < 2


def test_a_rater_who_likes_everything_agrees_with_nobody():
    answers, _ = judged(400)
    raters = torch.tensor([int(str(rater)[1:]) for rater in answers.raters])
    assert agreement(replace(answers, targets=(raters % 2).float())) < 1


def test_what_is_not_heard_does_not_count():
    answers, _ = judged(400)
    noise = coins(answers, 1000)
    heard = torch.cat([torch.full((200,), 1e-3), torch.ones(200)])
    half = replace(
        answers, targets=torch.cat([answers.targets[:200], noise.targets[200:]]), heard=heard
    )
    assert agreement(half) < agreement(replace(half, heard=torch.ones(400))) - 2


@given(st.floats(-5, 5), st.floats(0, 1), st.floats(0, 1e5))
def test_the_more_votes_agree_the_likelier_they_are_worth_it(low: float, more: float, votes: float):
    assert 0 <= worth(low, votes) <= worth(low + more, votes) <= 1


@pytest.mark.parametrize(
    ("agreed", "votes", "worth_it"),
    [
        (0.0, 16, True),  # too few to tell: people who vote usually mean something by it
        (0.0, 2500, False),
        (1.0, 1024, True),
        (3.0, 1_000_000, True),  # never so many that what is plain is not seen
    ],
)
def test_few_votes_are_taken_at_their_word_and_many_have_to_agree(
    agreed: float, votes: float, worth_it: bool
):
    assert (worth(agreed, votes) > 0.5) == worth_it
    assert (worth(agreed, votes) >= LEAST_WORTH) == worth_it
