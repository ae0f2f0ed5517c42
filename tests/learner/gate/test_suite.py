"""Streams of held-out questions: endless, the same for ever, none without a task."""

from random import Random
from types import SimpleNamespace

import pytest
from burnish.kernels.loading import load_model
from burnish.learner.gate.suite import Stream, Suite
from burnish.learner.tasks import GeneratorPack, Task, TaskSource


def tasks(count: int) -> list[Task]:
    return [
        Task("ours", ({"role": "user", "content": f"{n}?"},), lambda answer: True)
        for n in range(count)
    ]


def test_a_list_is_gone_through_again_with_other_seeds():
    stream = Stream("ours", tasks(3))
    first, again = stream.question(1), stream.question(4)
    assert first.task is again.task
    assert first.seed != again.seed
    assert first.key != again.key


def test_the_first_look_has_each_task_once():
    assert len(Stream("ours", tasks(3)).first(12)) == 3
    assert len(Stream("ours", iter(tasks(30))).first(12)) == 12


def test_questions_are_the_same_for_ever():
    assert Stream("ours", tasks(9)).question(7) == Stream("ours", tasks(9)).question(7)


def test_an_empty_stream_says_so():
    stream = Stream("ours", [])
    assert not stream
    with pytest.raises(IndexError, match="ours"):
        stream.question(0)


def unreliable(rng: Random, level: int) -> dict:
    return {
        "messages": [{"role": "user", "content": f"Say {rng.random()}."}],
        "check": lambda answer: answer[3] == "!",
    }


def test_a_checker_that_throws_gives_no_verdict_and_is_told_once(tiny_model):
    source = TaskSource([GeneratorPack("ours", {"unreliable": unreliable})])
    suite = Suite(load_model(tiny_model), source, 2, max_tokens=4)
    verdicts = [
        suite.verdict(question, SimpleNamespace(text=text))  # type: ignore[arg-type]
        for question in suite.questions
        for text in ("Yes!", "No")
    ]
    assert verdicts == [True, None] * 2
    assert list(source.notes) == [
        "the checker of unreliable raised IndexError: string index out of range"
    ]
