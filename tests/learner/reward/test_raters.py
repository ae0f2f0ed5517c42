"""Whom to believe, from the votes alone: who lies is found, a minority keeps its say."""

import random
import statistics
from collections.abc import Callable

import pytest
import torch
from burnish.feedback.judgements import Judgement
from burnish.learner.reward.evidence import Evidence
from burnish.learner.reward.experience import JudgedAnswer
from burnish.learner.reward.fitting import fit
from burnish.learner.reward.quality import foretold, measured
from burnish.learner.reward.raters import believe, kinds_of_prompts
from burnish.serving.reward.kernel import Hyperparameters
from torch import Tensor

from tests.learner.reward.conftest import judged

USERS = 24
Voter = Callable[[str, bool, int], bool]
"""What a user votes on an answer that is truly liked or not, of a kind of prompts."""


def honest(user: str, liked: bool, kind: int) -> bool:
    return liked


def tossed(seed: int) -> Voter:
    """Nobody looks at the answer."""
    coin = random.Random(f"coin {seed}")
    return lambda user, liked, kind: coin.random() < 0.5


def cast(count: int, votes: Voter, seed: int = 0) -> tuple[list[JudgedAnswer], Tensor]:
    """Judged answers, one vote in seven on the wrong button, and their features."""
    evidence, liked = judged(count, seed=seed)
    rng = random.Random(seed)
    kinds = kinds_of_prompts(evidence.features)
    answers = []
    for n in range(count):
        user = f"u{rng.randrange(USERS)}"
        up = votes(user, bool(liked[n]), int(str(kinds[n]))) != (rng.random() < 1 / 7)
        answers.append(answer(n, user, up))
    return answers, evidence.features


def answer(number: int, user: str | None, up: bool, seconds: float = 60.0) -> JudgedAnswer:
    judgement = Judgement(
        id=f"fb-{number}",
        tenant="acme",
        user=user,
        interaction_id=f"i-{number}",
        name="thumbs",
        value="up" if up else "down",
        time=number * seconds,
    )
    return JudgedAnswer(
        interaction_id=f"i-{number}",
        choice=0,
        version=1,
        staleness=0,
        tenant="acme",
        user=user,
        prompt_ids=(1,),
        token_ids=(2,),
        logprobs=(-0.5,),
        judged_at=number * seconds,
        judgements=(judgement,),
    )


def weights_of(answers: list[JudgedAnswer], features: Tensor) -> dict[str, float]:
    """The mean weight of each user's votes."""
    found: dict[str, list[float]] = {}
    weights = believe(answers, features, Hyperparameters()).weights
    for given, weight in zip(answers, weights, strict=True):
        found.setdefault(given.user or "", []).append(weight)
    return {user: statistics.mean(own) for user, own in found.items()}


def test_prompts_of_one_kind_are_put_together() -> None:
    evidence, _ = judged(400, noise=0.1)
    centres = torch.randn(6, 16, generator=torch.Generator().manual_seed(99))[:4]
    truth = torch.cdist(evidence.features[:, :16], centres).argmin(1).tolist()
    kinds = kinds_of_prompts(evidence.features)
    assert len({(kind, true) for kind, true in zip(kinds, truth, strict=True)}) == len(set(kinds))
    assert len(set(kinds)) >= 4


@pytest.mark.parametrize("lie", [lambda liked: not liked, lambda liked: False])
def test_who_votes_against_all_or_everything_down_is_disbelieved(lie) -> None:
    liars = ("u0", "u1")
    answers, features = cast(
        900, lambda user, liked, kind: lie(liked) if user in liars else honest(user, liked, kind)
    )
    weights = weights_of(answers, features)
    assert statistics.mean(weights[liar] for liar in liars) < 0.5
    assert statistics.mean(w for u, w in weights.items() if u not in liars) > 0.9


def test_a_minority_that_differs_in_one_kind_keeps_its_weight() -> None:
    minority = ("u0", "u1", "u2")
    answers, features = cast(
        900, lambda user, liked, kind: liked != (user in minority and kind == 0)
    )
    weights = weights_of(answers, features)
    assert statistics.mean(weights[user] for user in minority) > 0.5


def test_newcomers_after_a_change_of_tastes_are_believed() -> None:
    before, features = cast(900, honest)
    after, later = cast(300, lambda user, liked, kind: not liked, seed=1)
    moved = [
        answer(900 + n, f"new-{a.user}", a.judgements[0].value == "up") for n, a in enumerate(after)
    ]
    weights = weights_of(before + moved, torch.cat([features, later]))
    assert statistics.mean(w for u, w in weights.items() if u.startswith("new")) > 0.5


def test_a_few_votes_are_believed_as_they_are() -> None:
    answers, features = cast(20, honest)
    assert min(believe(answers, features, Hyperparameters()).weights) == pytest.approx(1.0)


def test_where_nobody_is_named_every_vote_counts() -> None:
    answers, features = cast(200, honest)
    anonymous = [
        answer(n, None, given.judgements[0].value == "up") for n, given in enumerate(answers)
    ]
    assert set(believe(anonymous, features, Hyperparameters()).weights) == {1.0}


def test_noise_foretells_nothing_whoever_is_believed() -> None:
    found, flattered = [], []  # the second by weights in which those left out had a say
    for seed in range(6):
        answers, features = cast(500, tossed(seed), seed)
        weights = believe(answers, features, Hyperparameters())
        evidence = Evidence(
            features,
            torch.tensor([float(a.judgements[0].value == "up") for a in answers]),
            torch.tensor(weights.weights),
            [a.user for a in answers],
        )
        fitted = fit(evidence, evidence.ages, Hyperparameters())
        found.append(measured(evidence, fitted).auroc)
        flattered.append(foretold(fitted, evidence.raters).auroc)
    assert statistics.mean(found) == pytest.approx(0.5, abs=0.03)
    assert statistics.mean(flattered) > statistics.mean(found) + 0.005
