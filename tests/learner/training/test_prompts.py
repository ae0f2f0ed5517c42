from random import Random

import pytest
from burnish.learner.tasks import Task, TaskSource, ember
from burnish.learner.training.prompts import fits, fitting, task_prompt


@pytest.mark.parametrize("family", sorted(ember.FAMILIES))
def test_every_family_has_a_prompt(model, family):
    task = ember.sample(Random(0), family)
    assert len(task_prompt(model, task)) > 3


def test_a_prompt_fits_up_to_the_context_window(model):
    task = ember.sample(Random(0), "arithmetic")
    free = model.max_model_len - len(task_prompt(model, task))
    assert fits(model, task, free)
    assert not fits(model, task, free + 1)


def test_a_template_that_refuses_a_role_costs_the_tasks_that_use_it(model, monkeypatch):
    refusing = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}x"
    )
    monkeypatch.setattr(model.tokenizer, "chat_template", refusing)
    roles = (["system", "user"], ["user"])
    asked = [
        Task("ours", tuple({"role": r, "content": "Hi"} for r in chat), lambda answer: True)
        for chat in roles
    ]
    source = TaskSource()
    assert list(fitting(model, source, asked, 8)) == asked[1:]
    assert list(source.notes) == ["the model's chat template refuses ours: no system role"]


def test_without_a_template_a_chat_is_plain_text(model, monkeypatch):
    monkeypatch.setattr(model.tokenizer, "chat_template", None)
    task = Task("ours", ({"role": "user", "content": "Hi"},), lambda answer: True)
    assert model.tokenizer.decode(task_prompt(model, task)) == "User: Hi\nAssistant:"
