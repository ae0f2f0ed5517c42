"""How long an update trains."""

import pytest
from burnish.learner.settings import LearnerSettings
from burnish.learner.update.loop import most_steps


@pytest.mark.parametrize(
    ("judgements", "steps"), [(1, 1), (4, 1), (5, 2), (80, 20), (384, 96), (6000, 96)]
)
def test_few_judgements_bear_few_steps(judgements, steps):
    assert most_steps(judgements, LearnerSettings(answers_per_step=64, update_steps=96)) == steps


def test_tasks_bear_any_number_of_steps():
    settings = LearnerSettings(answers_per_step=64, update_steps=96, rule="grpo")
    assert most_steps(1, settings) == 96
