"""What people would think: nobody judges himself, length buys nothing, and cohorts are told apart."""

import numpy as np
import pytest
import torch
from burnish.learner.gate.preference import (
    at_equal_length,
    by_cohort,
    cohorts,
    left_out,
)
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.fitting import FittedReward, fit
from burnish.serving.reward.kernel import Hyperparameters
from torch import Tensor

from tests.learner.reward.conftest import alike_in_manner

SIZE = 12


def features(style: Tensor, seed: int = 0) -> Tensor:
    """Answers to alike prompts, which differ in one direction, [N, 3 SIZE + MANNER]."""
    noise = 0.1 * torch.randn(len(style), 3 * SIZE, generator=torch.Generator().manual_seed(seed))
    noise[:, SIZE] += style
    noise[:, 2 * SIZE] += style
    return alike_in_manner(noise)


def tastes(likes: list[float], votes: int = 20) -> tuple[FittedReward, list[str]]:
    """One user for each number: +1 likes the style, -1 its opposite."""
    style = torch.randn(len(likes) * votes, generator=torch.Generator().manual_seed(1)).sign()
    raters = [f"user-{number}" for number in range(len(likes)) for _ in range(votes)]
    liking = torch.tensor(likes).repeat_interleave(votes)
    targets = ((style * liking) > 0).float()
    evidence = Evidence(features(style), targets, torch.ones(len(style)), raters)
    return fit(evidence, evidence.ages, Hyperparameters()), raters


def test_leaving_a_user_out_is_a_fit_without_him():
    fitted, raters = tastes([1, 1, -1])
    asked = features(torch.tensor([1.0, -1.0]), seed=5)
    found = left_out(fitted, raters, asked, ["user-0", None])
    kept = [row for row, rater in enumerate(raters) if rater != "user-0"]
    covariance = fitted.cholesky @ fitted.cholesky.T
    alone = torch.linalg.solve(
        covariance[kept][:, kept], (fitted.targets - fitted.model.prior)[kept]
    )
    likeness = fitted.model.likeness(asked)
    assert found[0] == pytest.approx(
        float(fitted.model.prior + likeness[0, kept] @ alone), abs=1e-4
    )
    assert found[1] == pytest.approx(float(fitted.model.mean(asked)[1]), abs=1e-5)


def test_one_users_votes_do_not_praise_what_was_learnt_from_them():
    fitted, raters = tastes([1, -1, -1], votes=40)
    liked_by_him = features(torch.ones(4), seed=6)
    of_himself = fitted.model.mean(liked_by_him)
    of_others = left_out(fitted, raters, liked_by_him, ["user-0"] * 4)
    assert (of_others < of_himself).all()


def test_what_length_alone_wins_is_no_gain():
    rng = np.random.default_rng(0)
    lengths = [(10, int(length)) for length in rng.integers(10, 40, 60)]
    longer = [0.1 * np.log(b / a) for a, b in lengths]
    theirs = list(rng.normal(0.5, 0.01, 60))
    bought = at_equal_length(theirs, [a + b for a, b in zip(theirs, longer, strict=True)], lengths)
    earned = at_equal_length(theirs, [t + 0.05 for t in theirs], lengths)
    assert bought.mean == pytest.approx(0.0, abs=1e-6)
    assert earned.mean == pytest.approx(0.05, abs=1e-6)


def test_the_bound_is_wider_where_little_was_seen():
    rng = np.random.default_rng(0)
    change = list(rng.normal(0, 0.1, 100))
    many = at_equal_length([0.0] * 100, change, [(10, 10)] * 100)
    few = at_equal_length([0.0] * 16, change[:16], [(10, 10)] * 16)
    assert few.error > many.error
    assert many.lower(1.645) < many.mean


def test_users_who_like_the_opposite_are_two_cohorts_and_each_judges_for_itself():
    fitted, raters = tastes([1.0] * 8 + [-1.0] * 8)
    groups = cohorts(fitted, raters)
    assert len(groups) == 2
    of_users = [{raters[row] for row in group} for group in groups]
    first = {f"user-{number}" for number in range(8)}
    assert first in of_users
    judged = by_cohort(fitted, groups, features(torch.ones(6), seed=7)).mean(1)
    likes = of_users.index(first)
    assert judged[likes] > judged[1 - likes] + 0.1


def test_too_few_users_are_no_cohorts():
    fitted, raters = tastes([1.0, -1.0])
    assert cohorts(fitted, raters) == []
    assert by_cohort(fitted, [], features(torch.ones(3))).shape == (0, 3)
