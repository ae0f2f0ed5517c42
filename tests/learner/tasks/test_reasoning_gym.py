"""The optional reasoning-gym families: a clear error without the extra, real tasks with it."""

import importlib.util
import random
import sys

import pytest
from burnish.learner.tasks import STYLES, TaskError, demonstrate, is_correct, style_of
from burnish.learner.tasks import reasoning_gym as adapter


def test_without_the_extra_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(adapter.ReasoningGymMissing, match="pip install"):
        adapter.sample(random.Random(0), "arithmetic")


def test_a_family_it_lacks_is_named():
    with pytest.raises(TaskError, match="small talk"):
        adapter.sample(random.Random(0), "small talk")


@pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="extra not installed")
@pytest.mark.parametrize("family", sorted(adapter.DATASETS))
def test_its_tasks_can_be_demonstrated_and_checked_like_ours(family):
    rng = random.Random(0)
    for _ in range(20):
        task = adapter.sample(rng, family)
        for style in STYLES:
            text = demonstrate(task, style, rng)["content"]
            assert is_correct(task, text)
            assert style_of(task, text) == style
