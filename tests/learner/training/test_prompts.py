from random import Random

import pytest
from burnish.learner.tasks import ember
from burnish.learner.training.prompts import fits, task_prompt


@pytest.mark.parametrize("family", sorted(ember.FAMILIES))
def test_every_family_has_a_prompt(model, family):
    task = ember.sample(Random(0), family)
    assert len(task_prompt(model, task)) > 3


def test_a_prompt_fits_up_to_the_context_window(model):
    task = ember.sample(Random(0), "arithmetic")
    free = model.max_model_len - len(task_prompt(model, task))
    assert fits(model, task, free)
    assert not fits(model, task, free + 1)
