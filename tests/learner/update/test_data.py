"""What an update's training data holds of what people say in words."""

from burnish.learner.gate.calibration import Calibration
from burnish.learner.intake.upsert import upsert
from burnish.learner.tasks import TaskSource
from burnish.learner.update.data import load_training_data

from tests.learner.conftest import interaction, thumbs


def test_comments_and_rationales_on_failures_come_with_what_the_teacher_is_asked(learner_with):
    learner = learner_with()
    chat = {"messages": [{"role": "user", "content": "hello"}], "prompt_ids": [31, 32, 33]}
    with learner.database.write() as session:
        upsert(session, [interaction(n, **chat) for n in range(1, 5)])
        upsert(session, [thumbs(1, "down", rationale="Too short.")])
        upsert(session, [thumbs(2, "down"), thumbs(12, "Be polite.", on=2, name="comment")])
        upsert(session, [thumbs(3, "up", rationale="Nice."), thumbs(4, "down")])
    data = load_training_data(
        learner.database,
        learner.model,
        learner.settings,
        policy="default",
        champion=1,
        rule_state={},
        tasks=TaskSource(),
        calibration=Calibration(),
    )
    asked = [learner.model.tokenizer.decode(prompt.told_ids) for prompt in data.comments]
    assert [prompt.prompt_ids for prompt in data.comments] == [(31, 32, 33)] * 2
    assert all("hello" in text for text in asked)
    assert ["Too short." in asked[0], "Be polite." in asked[1]] == [True, True]
