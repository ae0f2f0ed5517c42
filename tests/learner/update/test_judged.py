"""What an update makes of judgements: signals and votes as evidence of one kind."""

from datetime import timedelta
from random import Random

import pytest
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.reward.experience import Correction, Experience
from burnish.learner.reward.fitting import fit
from burnish.learner.rules.corrections import corrections
from burnish.learner.update.judged import JudgedAnswers, evidence_of, load_judged
from burnish.learner.update.tick import Learner
from burnish.serving.reward.features import base_features
from burnish.serving.reward.kernel import Hyperparameters
from burnish.serving.reward.reward_model import RewardModel

from tests.learner.conftest import START, interaction, thumbs
from tests.learner.update.conftest import add_judged


def judged(learner: Learner, before: RewardModel | None = None) -> JudgedAnswers:
    return load_judged(
        learner.database,
        learner.model,
        learner.settings,
        policy="default",
        champion=1,
        before=before,
    )


def add_copies(database: Database, kept: float, votes: int = 60, unjudged: int = 5) -> None:
    """Copied answers, of which people like the share `kept`, others of which they like half, and copied
    ones that nobody judged."""
    rng = Random(0)
    with database.write() as session:
        events = []
        for number in range(1, 2 * votes + unjudged + 1):
            copied, person = number % 2 == 0 or number > 2 * votes, f"u{number % 40}"
            at = {"user": person, "time": START + timedelta(minutes=10 * number)}
            events.append(interaction(number, user=person))
            if copied:
                events.append(thumbs(5000 + number, "copied", on=number, name="signal", **at))
            if number <= 2 * votes:
                liked = rng.random() < (kept if copied else 0.5)
                events.append(thumbs(number, "up" if liked else "down", **at))
        upsert(session, events)


def unjudged_weights(found: JudgedAnswers) -> list[float]:
    return [
        item.weight
        for item in found.experience
        if all(judgement.name == "signal" for judgement in item.judgements)
    ]


@pytest.mark.parametrize(("kept", "least", "most"), [(1.0, 0.4, 1.0), (0.5, 0.0, 0.12)])
def test_a_copy_counts_as_far_as_those_who_vote_bear_it_out(
    learner_with, kept: float, least: float, most: float
):
    learner = learner_with()
    add_copies(learner.database, kept)
    found = judged(learner)
    weight = found.figures["signal_copied_weight"]
    assert least < weight < most
    assert found.figures["signal_copied_judged"] == pytest.approx(60, abs=6)
    # Less where somebody is not believed in all that they say and do.
    assert 0.5 * weight < max(unjudged_weights(found)) <= weight + 1e-9
    votes = [item for item in found.experience if item.judgements[0].name == "thumbs"]
    assert max(item.weight for item in votes) == 1.0


def test_an_answer_and_its_correction_are_those_of_who_judged_and_not_of_who_asked(learner_with):
    learner = learner_with()
    with learner.database.write() as session:
        for number in range(1, 6):
            writer = "eve" if number > 1 else None
            said = thumbs(number, f"Good day {number}.", name="correction", user=writer)
            upsert(session, [interaction(number, user="ada" if number > 2 else None), said])
    raters = judged(learner).evidence.raters
    assert raters.count(("local", "eve")) == 8
    assert len(set(raters)) == 3, "what nobody signs stands alone"


def test_a_correction_is_heard_as_far_as_its_answer(learner_with):
    item = Experience(
        interaction_id="i",
        choice=0,
        version=1,
        staleness=0,
        tenant="local",
        user="ada",
        prompt_ids=(1, 2),
        token_ids=(3,),
        logprobs=(),
        judged_at=1.0,
        reward=-0.5,
        weight=0.6,
        heard=0.25,
        corrections=(Correction("Good day.", 0.25, 0.25, ("local", "eve")),),
    )
    model = learner_with().model
    pairs = list(corrections([item], model, 64))
    evidence = evidence_of(model, [item], base_features(model, [((1, 2), (3,))]), pairs)
    assert evidence.heard.tolist() == [0.25, 0.25]
    assert evidence.targets.tolist() == [0.25, 1.0]


def test_where_nobody_votes_a_copy_counts_as_it_always_did(learner_with):
    learner = learner_with()
    add_copies(learner.database, 1.0, votes=0)
    found = judged(learner)
    assert [(item.reward, item.weight) for item in found.experience] == [(0.5, 0.2)] * 5
    assert not any(name.startswith("signal_") for name in found.figures)


def test_a_sessions_dislike_falls_on_the_turn_that_is_disliked_elsewhere(learner_with):
    learner = learner_with()
    add_judged(learner.database, range(1, 29))  # short answers are liked
    before = judged(learner)
    likes = fit(before.evidence, before.evidence.ages, Hyperparameters()).model
    liked = next(item for item in before.experience if item.reward > 0)
    disliked = next(item for item in before.experience if item.reward < 0)
    with learner.database.write() as session:
        events = []
        for number, said in ((51, liked), (52, disliked), (53, liked)):
            answer = {"index": 0, "text": "x", "finish_reason": "stop", "token_ids": said.token_ids}
            turn = {"prompt_ids": said.prompt_ids, "completions": [answer], "session_id": "s"}
            events.append(interaction(number, **turn))
        verdict = thumbs(99, "down", interaction_id=None, session_id="s", user="bob")
        upsert(session, [*events, verdict])
    equal, learnt = (
        [item.weight for item in judged(learner, model).experience if item.weight < 1]
        for model in (None, likes)
    )
    assert equal == pytest.approx([1 / 3] * 3)
    assert learnt[1] > 1.2 * learnt[0]
    assert sum(learnt) == pytest.approx(1, abs=0.05)
