"""reasoning-gym's pack: a clear note without the extra, its own tasks and scorers with it."""

import importlib.util
import sys
from random import Random

import pytest
from burnish.learner.tasks import open_source, reasoning_gym


def test_without_the_extra_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    reasoning_gym._config.cache_clear()
    source = open_source("reasoning-gym")
    assert next(source.draw(Random(0), "gcd", "train"), None) is None
    assert list(source.notes) == [
        "reasoning-gym: not installed: pip install 'burnish[reasoning-gym]'"
    ]


@pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="extra not installed")
@pytest.mark.parametrize("family", reasoning_gym.DATASETS)
def test_its_answers_are_right_and_others_wrong(family):
    reasoning_gym._config.cache_clear()
    for level in (1, 2, 3):
        task = next(open_source("reasoning-gym").draw(Random(1), family, "train", level))
        assert task.level == level
        assert not task.is_correct("I do not know.")


@pytest.mark.skipif(importlib.util.find_spec("reasoning_gym") is None, reason="extra not installed")
def test_the_last_line_is_what_counts():
    reasoning_gym._config.cache_clear()
    task = next(open_source("reasoning-gym").draw(Random(1), "chain_sum", "train", 1))
    a, b = (
        int(n) for n in task.messages[0]["content"].split("problem:")[1].split("=")[0].split("+")
    )
    assert task.is_correct(f"{a} and {b} make {a + b}.\nAnswer: {a + b}")
    assert task.is_correct(str(a + b))
    assert not task.is_correct(f"Answer: {a + b + 1}")
