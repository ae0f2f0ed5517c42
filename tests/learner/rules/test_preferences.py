"""A preference between two answers to one prompt is a pair to learn from."""

from burnish.feedback.events import Completion
from burnish.feedback.trust.weighing import weigh
from burnish.learner.database import Database
from burnish.learner.intake.upsert import upsert
from burnish.learner.reward.experience import load, weighed
from burnish.learner.rules.dpo import liked_and_disliked

from tests.learner.conftest import interaction, thumbs


def test_the_better_answer_is_chosen_and_the_worse_rejected(sqlite: Database):
    other = Completion(
        index=0, token_ids=[6, 7], logprobs=[-1, -1], text="ho", finish_reason="stop"
    )
    with sqlite.write() as session:
        upsert(
            session,
            [
                interaction(1),
                interaction(2, completions=[other]),
                thumbs(1, "better", name="preference", metadata={"over": "chatcmpl-0002"}),
                thumbs(2, "worse", name="preference", metadata={"over": "chatcmpl-0001"}),
            ],
        )
    with sqlite.read() as session:
        answers = load(session, "default", champion=1, limit=10, max_staleness=10)
    given = [one for answer in answers for one in answer.judgements]
    judged = weighed(answers, weigh(given)).experience
    assert [(one.interaction_id, one.reward, one.weight) for one in judged] == [
        ("chatcmpl-0001", 1.0, 0.5),
        ("chatcmpl-0002", -1.0, 0.5),
    ]
    (pair,) = liked_and_disliked(judged)
    assert pair.weight == 0.5
