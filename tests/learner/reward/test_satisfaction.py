"""The probe of next turns: off until it has shown skill, on where a turn tells what people think."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
from burnish.feedback.trust.weighing import weigh
from burnish.kernels.loading import load_model
from burnish.kernels.model import LoadedModel
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.reward.experience import load, weighed
from burnish.learner.reward.quality import Quality
from burnish.learner.reward.satisfaction import (
    LEAST,
    Read,
    fit_probe,
    read_next_turns,
    skill,
    weight_of,
)
from burnish.learner.reward.signals import explicit_rewards
from torch import Tensor

from tests.learner.conftest import START, interaction, thumbs

WIDTH = 64


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> LoadedModel:
    return load_model(tiny_model)


def labelled(count: int, *, told: float, seed: int) -> tuple[Tensor, Tensor, list[str]]:
    """Features [N, WIDTH] of turns, whose first axes tell so much of what people think, and targets."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(2, (count,), generator=generator).float()
    features = torch.randn(count, WIDTH, generator=generator)
    features[:, :4] += told * (2 * targets - 1)[:, None]
    return features, targets, [f"u{n % 25}" for n in range(count)]


def quality_of(count: int, *, told: float, seed: int) -> Quality:
    features, targets, raters = labelled(count, told=told, seed=seed)
    return skill(features, targets, torch.ones(count), raters)


def test_noise_stays_off():
    weights = [weight_of(quality_of(64, told=0.0, seed=seed)) for seed in range(24)]
    assert sum(weight > 0 for weight in weights) <= 2
    assert max(weights) < 0.15


def test_what_tells_turns_on_and_counts_more_the_more_it_tells():
    found = [weight_of(quality_of(200, told=told, seed=1)) for told in (0.5, 1.0, 2.0)]
    assert 0.2 < found[0] < found[1] < found[2] <= 1


def test_a_probe_foretells_turns_that_it_has_not_seen():
    features, targets, _ = labelled(300, told=1.0, seed=2)
    probe = fit_probe(features[:200], targets[:200], torch.ones(200))
    liked = probe(features[200:])
    assert ((liked > 0.5) == (targets[200:] > 0.5)).float().mean() > 0.9
    assert ((liked >= 0.05) & (liked <= 0.95)).all()


def test_a_judgement_of_little_weight_hardly_counts():
    features, targets, _ = labelled(200, told=1.0, seed=3)
    wrong = torch.cat([targets[:100], 1 - targets[100:]])
    weights = torch.cat([torch.ones(100), torch.full((100,), 0.02)])
    liked = fit_probe(features, wrong, weights)(features)
    assert ((liked > 0.5) == (targets > 0.5)).float().mean() > 0.9


def add_sessions(database: Database, judged: int, unjudged: int, *, told: bool) -> None:
    """Sessions of two turns: the second says thanks or complains, and what it says is what people
    think of the answer before it, or has nothing to do with it."""
    rng = torch.Generator().manual_seed(5)
    with database.write() as session:
        events = []
        for number in range(1, judged + unjudged + 1):
            happy, liked = (torch.rand(2, generator=rng) < 0.5).tolist()
            liked = happy if told else liked
            said = "Thank you so much, perfect!" if happy else "No. That is not what I asked."
            at = {"user": f"u{number % 20}", "session_id": f"s{number}"}
            time = START + timedelta(minutes=10 * number)
            messages = [
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "hi"},
                {"role": "user", "content": f"{said} {number}"},
            ]
            events += [
                interaction(number, **at, time=time, prompt_ids=[number % 50 + 30, 40, 50]),
                interaction(
                    2000 + number, **at, time=time + timedelta(minutes=1), messages=messages
                ),
            ]
            if number <= judged:
                value = "up" if liked else "down"
                events.append(thumbs(number, value, user=at["user"], time=time))
            else:
                events.append(thumbs(number, f"happy: {happy}", name="comment", user=at["user"]))
        upsert(session, events)


def read(database: Database, model: LoadedModel) -> Read:
    with database.read() as session:
        answers = load(session, "default", champion=1, limit=999, max_staleness=9)
    return read_next_turns(
        database,
        model,
        answers,
        explicit_rewards([answer.judgements for answer in answers]),
        policy="default",
        champion=1,
        max_staleness=9,
        fits=lambda answer: True,
    )


def test_a_phrase_that_goes_with_dislikes_speaks_for_those_who_did_not_vote(sqlite, model):
    add_sessions(sqlite, 100, 20, told=True)
    found = read(sqlite, model)
    assert found.figures["followup_auroc"] > 0.9
    assert found.figures["followups"] == 20
    (worths,) = [[j.worth for a in found.answers for j in a.judgements if j.worth is not None]]
    values = [worth.value for worth in worths]
    assert min(values) < -0.5
    assert max(values) > 0.5
    assert all(0 <= worth.weight < 1 for worth in worths)
    weights = weigh([judgement for answer in found.answers for judgement in answer.judgements])
    trusted = weighed(found.answers, weights)
    followed = [item for item in trusted.experience if not item.judgements[0].id.startswith("fb")]
    assert len(followed) == 20
    assert {item.judgements[0].value for item in followed} == {"followup"}


def test_turns_that_have_nothing_to_do_with_votes_stay_unread(sqlite, model):
    add_sessions(sqlite, 100, 20, told=False)
    found = read(sqlite, model)
    assert found.figures["followup_weight"] == 0
    assert "followups" not in found.figures
    assert len(found.answers) == 100


def test_a_few_judged_turns_are_not_enough(sqlite, model):
    add_sessions(sqlite, LEAST - 1, 20, told=True)
    found = read(sqlite, model)
    assert found.figures == {"followups_judged": LEAST - 1}
    assert len(found.answers) == LEAST - 1
